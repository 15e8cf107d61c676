import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, GwError } from '../errors.ts';
import {
  type Applied,
  type Committed,
  committedFolder,
  conflictOfFiles,
  hashOf,
  isBaseline,
  readCommitted,
} from './committed.ts';

/** A migration that gets another number, or another hash. */
export interface Move {
  from: string;
  to: string;
  text: string;
}

const refusal = (message: string, hint: string): GwError =>
  new GwError(message, { hint, exitCode: EXIT.usage });

/** Of two files with one number, the one that this database ran: it was committed here. */
function ownFile(files: Committed[], applied: Applied[]): Committed {
  const twins = files.filter(
    ({ name }, index) => files[index - 1]?.name === name || files[index + 1]?.name === name,
  );
  if (twins.length === 0) {
    throw refusal('no two files of migrations/committed/ have the same number', 'Name the file.');
  }
  const hashes = new Set(applied.map(({ hash }) => hash));
  const [own, ...others] = twins.filter(({ hash }) => hashes.has(hash));
  if (own === undefined || others.some(({ name }) => name === own.name)) {
    throw refusal(
      `which one is to get the next number: ${twins.map(({ file }) => file).join(' or ')}?`,
      'Name the one that is not on the main branch yet.',
    );
  }
  return own;
}

/** A file, and those that were committed after it. */
function branchOf(file: Committed, files: Committed[]): Committed[] {
  const next = files.find(({ previous }) => previous === file.hash);
  return next === undefined ? [file] : [file, ...branchOf(next, files)];
}

/**
 * Plans to put a migration, and those that follow it, behind all others.
 *
 * @param file its name in migrations/committed; unless given, of two with one number the one
 *   that this database ran
 * @throws GwError when it cannot be told which, when the others are no chain, or for a migration
 *   of the baseline
 */
export function planRebase(file: string | undefined, applied: Applied[]): Move[] {
  const files = readCommitted();
  const own =
    file === undefined ? ownFile(files, applied) : files.find((each) => each.file === file);
  if (own === undefined) {
    throw refusal(
      `migrations/committed/ has no ${file}`,
      `It has: ${files.map((each) => each.file).join(', ')}`,
    );
  }
  const branch = branchOf(own, files);
  const baseline = branch.find(isBaseline);
  if (baseline !== undefined) {
    throw refusal(
      `${baseline.file} is made of a topic`,
      'Resolve migrations/fixtures/, then run: npm run gw -- baseline',
    );
  }
  const others = files.filter((each) => !branch.includes(each));
  const conflict = conflictOfFiles(others);
  if (conflict !== undefined) throw refusal(conflict.message, conflict.hint);
  let { name = '000000.sql', hash: previous = undefined as string | undefined } =
    others.at(-1) ?? {};
  return branch
    .map((each) => {
      name = `${String(Number.parseInt(name, 10) + 1).padStart(6, '0')}.sql`;
      const hash = hashOf(each.body, previous);
      const headers = each.headers.map((line) =>
        line
          .replace(/^--! Previous:.*/, `--! Previous: ${previous ?? '-'}`)
          .replace(/^--! Hash:.*/, `--! Hash: ${hash}`),
      );
      previous = hash;
      return {
        from: each.file,
        to: `${name.slice(0, 6)}${each.file.slice(6)}`,
        text: `${headers.join('\n')}\n\n${each.body}\n`,
      };
    })
    .filter(({ from, to, text }) => from !== to || read(from) !== text);
}

const read = (file: string): string => readFileSync(join(committedFolder, file), 'utf8');

/** As graphile-migrate leaves it: nobody edits a committed migration by mistake. */
function write(file: string, text: string): void {
  const path = join(committedFolder, file);
  writeFileSync(path, text);
  chmodSync(path, 0o440);
}

/**
 * Renames and rewrites the files.
 *
 * @returns puts back what was there
 */
export function applyMoves(moves: Move[]): () => void {
  const before = moves.map(({ from }) => [from, read(from)] as const);
  for (const { from } of moves) rmSync(join(committedFolder, from));
  for (const { to, text } of moves) write(to, text);
  return () => {
    for (const { to } of moves) rmSync(join(committedFolder, to), { force: true });
    for (const [file, text] of before) write(file, text);
  };
}
