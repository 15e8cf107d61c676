import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { EXIT, GwError, messageOf } from '../errors.ts';

/** Documents by the hash that clients send in their place. */
export type Operations = Readonly<Record<string, string>>;

const shape = z.record(z.string().min(1).max(200), z.string().min(1));

/**
 * Reads a list of persisted operations, as GraphQL Code Generator's client preset and Relay's
 * compiler write it: an object of documents by their hashes.
 *
 * @throws GwError with exit code 2 when the file is not there or is something else
 */
export function readOperations(path: string): Operations {
  const refuse = (why: string): never => {
    throw new GwError(`the list of operations ${path} ${why}`, {
      hint: 'It is a JSON object of documents by their hashes, such as persisted-documents.json.',
      exitCode: EXIT.usage,
    });
  };
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    refuse(`cannot be read: ${messageOf(error)}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    refuse('is not JSON');
  }
  const parsed = shape.safeParse(json);
  if (!parsed.success) refuse('has something else than documents by their hashes');
  // No prototype: a hash is what a client says.
  return Object.assign(Object.create(null) as Record<string, string>, parsed.data);
}
