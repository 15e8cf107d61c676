import type { Role } from '../../../src/postgres/urls.ts';

/** A statement that is run, and by whom. */
interface Statement {
  sql: string;
  /** Who would run it: a role that logs in, or a signed-in user of the API. */
  as: Role | 'user';
  /** Whether it cannot run inside a transaction, so that it is not rolled back. */
  commits?: true;
}

/** What happens to a statement that is run to the letter. */
type Fate =
  /** It is refused with this SQLSTATE, or one of these, by release of PostgreSQL. */
  | { fails: string | string[] }
  /** It finds no row, where there is something to find. */
  | { finds: 'nothing' }
  /** It runs, and this query then answers true: what is wrong with it. */
  | { leaves: string }
  /** It is not run, because it would change the server for every other test. */
  | 'not run';

/** An operation of one of the five documents that docs/explanation/coverage.md maps. */
export interface Operation extends Statement {
  section: string;
  /** What stands for placeholders, and for names of databases. */
  with?: Record<string, string>;
  /** Only where it is replaced. */
  replaced?: { fate: Fate; why: string; by: Statement };
}

/** Stands for the name of the database that a test has. */
export const thisDatabase = '{database}';
