import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../src/project.ts';

/** A fault that somebody could make, and the tests that they would run afterwards. */
export type Mutant = {
  /** What is wrong then, as the person who is paged would say it. */
  readonly fault: string;
  /** Files of tests that cover the place, below test/ and without their ending. */
  readonly tests: readonly string[];
} & (Patch | Statement);

/** A text of a file, replaced. */
export interface Patch {
  /** From the root of the checkout. */
  readonly file: string;
  /** Occurs once in the file. */
  readonly find: string;
  readonly replace: string;
}

/** What a topic of the migrations would have said, said to the migrated database. */
export interface Statement {
  readonly statement: string;
}

const functions = 'migrations/fixtures/functions';

/** The file of a database function. */
export const sqlFunction = (name: string): string => `${functions}/${name}.sql`;

/** A CHECK that became another one. */
export const otherCheck = (table: string, constraint: string, check: string): string =>
  `alter table ${table} drop constraint ${constraint},
    add constraint ${constraint} check (${check})`;

/** Where a fault is planted. */
export type Place =
  /** In a copy of the migrated database. */
  | { readonly in: 'database'; readonly statement: string }
  /** In a copy of the checkout; `ownServer` when it is seen only by a server that it makes. */
  | {
      readonly in: 'checkout';
      readonly file: string;
      readonly text: string;
      readonly ownServer: boolean;
    };

/** Folders whose work was done when the server of the tests had been made. */
const makesServer = ['sql/bootstrap/', 'src/server/', 'src/migrations/', 'src/postgres/roles.ts'];

/**
 * Finds out where and how a fault is planted.
 *
 * @throws Error when the text to be replaced is not there, or more than once
 */
export function placeOf(mutant: Mutant): Place {
  if ('statement' in mutant) return { in: 'database', statement: mutant.statement };
  const { file, find, replace } = mutant;
  const text = readFileSync(join(projectRoot, file), 'utf8');
  const count = text.split(find).length - 1;
  if (count !== 1) throw new Error(`${file} has the text ${count} times: ${find}`);
  // A function, so that a dollar of the replacement is only a dollar.
  const changed = text.replace(find, () => replace);
  if (file.startsWith(functions)) return { in: 'database', statement: changed };
  const ownServer = makesServer.some((start) => file.startsWith(start));
  return { in: 'checkout', file, text: changed, ownServer };
}

/** The file of a test. */
export const testFile = (name: string): string => `test/${name}.test.ts`;
