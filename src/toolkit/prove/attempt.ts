import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Sql, Transaction } from '../../postgres/connect.ts';
import { projectRoot } from '../../project.ts';
import type { ProveOptions } from './options.ts';

/** What came of a statement. */
export interface Outcome {
  /** SQLSTATE of the error; undefined when there was none. */
  state?: string;
  message?: string;
  constraint?: string;
  column?: string;
  /** Where it failed; what fails in the prelude was not tried. */
  stage?: 'prelude' | 'statement';
  /** Relations in which rows of A are not what they were. */
  changed?: string[];
  /** How many rows it returned or wrote. */
  count: number;
  /** The rows as text, at most 500. */
  rows: string[];
}

export interface Attempt {
  /** Whoever runs it: a user's id, null for nobody, undefined for the superuser. */
  as?: string | null;
  /** Run first, as superuser. */
  prelude?: string;
  statement: string;
  returnsRows?: boolean;
  /** Compare A's rows before and after. */
  watch?: boolean;
  keep?: boolean;
}

/** Quotes a name. */
export const ident = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Quotes a value, or says null. */
export const literal = (value: string | null | undefined, type?: string): string =>
  value == null
    ? 'null'
    : `'${value.replaceAll("'", "''")}'${type === undefined ? '' : `::${type}`}`;

/** Tries statements inside one transaction of a superuser, each undone when it was seen. */
export class Attempts {
  readonly sql: Transaction;
  readonly options: ProveOptions;
  tried = 0;

  private constructor(sql: Transaction, options: ProveOptions) {
    this.sql = sql;
    this.options = options;
  }

  /** Prepares a transaction that was begun by a superuser. */
  static async start(sql: Transaction, options: ProveOptions): Promise<Attempts> {
    const [path] = await sql<{ search_path: string }[]>`
      select current_setting('search_path') as search_path`;
    await sql.unsafe(readFileSync(join(projectRoot, 'sql', 'prove', 'attempt.sql'), 'utf8'));
    await sql`select set_config('search_path', ${path?.search_path ?? ''}, true)`;
    await sql`set local statement_timeout = '10s'`;
    return new Attempts(sql, options);
  }

  /** Runs a statement and says what came of it; it is undone unless `keep`. */
  async run(attempt: Attempt): Promise<Outcome> {
    this.tried += 1;
    const { as, prelude, statement, returnsRows = false, watch = false, keep = false } = attempt;
    const { roles, userSetting } = this.options;
    const role = as === undefined ? null : as === null ? roles.anonymous : roles.user;
    const settings = { [userSetting]: as ?? '' };
    const [row] = await this.sql<{ outcome: Outcome }[]>`
      select pg_temp.gw_attempt(${role}, ${this.sql.json(settings)}, ${prelude ?? null},
        ${statement}, ${returnsRows}, ${watch}, ${keep}) as outcome`;
    const outcome = row?.outcome ?? { count: 0, rows: [] };
    return Object.fromEntries(
      Object.entries(outcome).filter(([, value]) => value !== ''),
    ) as unknown as Outcome;
  }

  /** Remembers what A's rows are, leaf table by leaf table. */
  async watch(relations: { relid: string; relation: string; where: string }[]): Promise<void> {
    await this.sql`truncate pg_temp.gw_watch`;
    const rows = relations.map(({ relid, relation, where }) => ({
      relid,
      relation,
      statement: `select md5(string_agg(t.ctid || t::text, ',' order by t.ctid))
        from ${where}`,
    }));
    await this.sql`
      insert into pg_temp.gw_watch (relid, relation, statement)
      select relid, relation, statement
      from jsonb_to_recordset(${this.sql.json(rows)})
        as watched (relid oid, relation text, statement text)`;
    await this.sql`
      update pg_temp.gw_watch set fingerprint = pg_temp.gw_fingerprint(statement)`;
  }
}

/**
 * Relations in which A's rows are not what they were; remembers what they are now.
 *
 * @param sql the session in which `watch` was called
 */
export async function changedSince(sql: Sql): Promise<string[]> {
  const changed = await sql<{ relation: string }[]>`
    with now as (
      select relid, pg_temp.gw_fingerprint(statement) as fingerprint from pg_temp.gw_watch
    )
    update pg_temp.gw_watch set fingerprint = now.fingerprint
    from now
    where now.relid = gw_watch.relid and now.fingerprint <> gw_watch.fingerprint
    returning relation`;
  return [...new Set(changed.map(({ relation }) => relation))];
}
