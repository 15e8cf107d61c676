import process from 'node:process';
import { createInterface } from 'node:readline/promises';
import { EXIT, GwError } from '../errors.ts';

/**
 * Asks before something is destroyed.
 *
 * @param yes the command's --yes
 * @throws GwError when the answer is not yes, or when there is nobody to ask
 */
export async function confirm(question: string, yes = false): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY) {
    throw new GwError(`${question} There is no terminal to ask at.`, {
      hint: 'Add --yes, or see what it would do with --dry-run.',
      exitCode: EXIT.usage,
    });
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} Type "yes": `);
  terminal.close();
  if (answer.trim() !== 'yes') throw new GwError('nothing was done', { exitCode: EXIT.failure });
}
