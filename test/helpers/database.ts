import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, inject } from 'vitest';
import { connect, type Sql, type Transaction } from '../../src/postgres/connect.ts';
import { changeUrl, type Database, type Role } from '../../src/postgres/urls.ts';
import { databaseAt } from '../../src/server/scratch.ts';

/** A database of a test file's own, and pools of each role on it. */
export class TestDatabase {
  database!: Database;
  readonly #pools = new Map<string, Sql>();

  /** A pool for a role; closed after the file. */
  as(role: Role, max = 4): Sql {
    const key = `${role}:${max}`;
    const pool = this.#pools.get(key) ?? connect(this.url(role), { max });
    this.#pools.set(key, pool);
    return pool;
  }

  url(role: Role): string {
    return this.database.urls[role] ?? '';
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.end({ timeout: 1 })));
    this.#pools.clear();
  }
}

/** Runs statements as a superuser, outside any database of a test. */
async function administer(run: (sql: Sql) => Promise<unknown>): Promise<void> {
  const sql = connect(inject('superuserUrl'));
  try {
    await run(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/**
 * Gives the test file a fresh copy of the migrated database before its first test, and
 * drops it after its last.
 */
export function useDatabase(): TestDatabase {
  const test = new TestDatabase();
  const name = `gw_test_${randomUUID().replaceAll('-', '').slice(0, 16)}`;
  beforeAll(async () => {
    await administer(async (sql) => {
      const template = inject('template');
      // Copied file by file, its pages are not written to the log, which some tests read.
      await sql`create database ${sql(name)} template ${sql(template)} owner gw_owner
        strategy file_copy`;
      // Grants and settings belong to the database, and a template does not pass them on.
      await sql`update pg_database set datacl = template.datacl
        from pg_database as template
        where pg_database.datname = ${name} and template.datname = ${template}`;
      await sql`insert into pg_db_role_setting (setdatabase, setrole, setconfig)
        select made.oid, setrole, setconfig
        from pg_db_role_setting
        inner join pg_database as template on template.oid = setdatabase
        cross join pg_database as made
        where template.datname = ${template} and made.datname = ${name}`;
    });
    test.database = databaseAt(changeUrl(inject('superuserUrl'), {}), name);
    // A copy of the template, which is to work.
    await test.as('owner')`select ops.take_identity('test')`;
  });
  afterAll(async () => {
    await test.close();
    await dropDatabase(name);
  });
  return test;
}

/** Drops a database. When the server takes long over it, the error says what everybody waits for. */
async function dropDatabase(name: string): Promise<void> {
  let late: NodeJS.Timeout | undefined;
  const stuck = new Promise<never>((_, reject) => {
    late = setTimeout(async () => {
      let rows: unknown[] = [];
      await administer(async (sql) => {
        rows = [
          ...(await sql`
          select pid, datname, application_name, backend_type, state, wait_event_type, wait_event,
            xact_start, left(query, 100) as query
          from pg_stat_activity where pid <> pg_backend_pid() order by pid`),
        ];
      }).catch((error: unknown) => rows.push(String(error)));
      reject(new Error(`drop database ${name} takes 40 s: ${JSON.stringify(rows, null, 1)}`));
    }, 40_000);
  });
  const dropped = administer((sql) => sql`drop database if exists ${sql(name)} with (force)`);
  await Promise.race([dropped, stuck]).finally(() => clearTimeout(late));
}

const rollback = Symbol('rollback');

/** Runs work in a transaction that is rolled back. */
export async function rolledBack(
  pool: Sql,
  work: (sql: Transaction) => Promise<void>,
): Promise<void> {
  await pool
    .begin(async (sql) => {
      await work(sql);
      throw rollback;
    })
    .catch((error: unknown) => {
      if (error !== rollback) throw error;
    });
}

/** Becomes a user, or nobody, for the rest of a transaction begun by a superuser. */
export async function become(sql: Transaction, userId: string | null): Promise<void> {
  await sql`set local role none`;
  await sql`select set_config('app.current_user_id', ${userId ?? ''}, true)`;
  await sql.unsafe(`set local role ${userId === null ? 'app_anonymous' : 'app_user'}`);
}

/** Ways to run work in a transaction that is rolled back. */
export const transactionsOf = (db: TestDatabase) => ({
  asOwner: (work: (sql: Transaction) => Promise<void>) => rolledBack(db.as('owner'), work),
  asSuperuser: (work: (sql: Transaction) => Promise<void>) => rolledBack(db.as('superuser'), work),
  /** As a user who was made for it. */
  asNewUser: (work: (sql: Transaction, userId: string) => Promise<void>) =>
    rolledBack(db.as('superuser'), async (sql) => {
      const { id } = await createUser(sql);
      await become(sql, id);
      await work(sql, id);
    }),
});

/** Asserts the SQLSTATE of a refusal, in a savepoint so that the transaction goes on. */
export async function expectRefusal(
  sql: Transaction,
  sqlState: string,
  statement: (sql: Transaction) => PromiseLike<unknown>,
): Promise<void> {
  const code = await sql
    .savepoint(async (inner) => {
      await statement(inner);
      return 'nothing was refused';
    })
    .catch((error: { code?: string }) => error.code);
  expect(code).toBe(sqlState);
}

export interface NewUser {
  id: string;
  email: string;
}

/** Makes a user, as owner, with the columns given. */
export async function createUser(
  sql: Sql | Transaction,
  columns: Record<string, string | null> = {},
): Promise<NewUser> {
  const row = { email: `${randomUUID()}@example.com`, first_name: 'Test', ...columns };
  const [user] = await sql<NewUser[]>`
    insert into app_public.users ${sql(row)} returning id, email`;
  await sql`insert into app_public.user_settings (user_id, weekly_digest)
    values (${user?.id as string}, false)`;
  return user as NewUser;
}
