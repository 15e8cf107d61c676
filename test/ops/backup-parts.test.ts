import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import { roleNames } from '../../src/postgres/roles.ts';
import { changeUrl } from '../../src/postgres/urls.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { Checkout, type Finished } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';

const db = useDatabase();
const checkout = new Checkout();
const folder = mkdtempSync(join(tmpdir(), 'gw-parts-'));
let made: { id: string };

const gw = (args: string[]): Promise<Finished> =>
  checkout.run(args, {
    DATABASE_URL: db.url('owner'),
    ROOT_DATABASE_URL: db.url('superuser'),
    GW_BACKUP_DIR: folder,
  });

beforeAll(async () => {
  await planDue(db.as('owner'), 50);
  const { code, stdout, stderr } = await gw(['backup', 'create', '--json']);
  expect(code, stderr).toBe(0);
  made = JSON.parse(stdout);
}, patience(60_000));
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await checkout.remove();
});

describe('a part of a backup', () => {
  const schema = () => `restored_${made.id.slice(0, 8)}`;

  test(
    'one user’s rows come beside the present ones, and are put back with what is printed',
    async () => {
      const owner = db.as('owner');
      const [user] = await owner<{ id: string }[]>`
        select user_id as id from app_public.message_logs order by user_id limit 1`;
      const id = user?.id ?? '';
      const rows = () => owner`
        select (select to_jsonb(users) - 'updated_at' from app_public.users where id = ${id}) as user,
          (select to_jsonb(each) from app_public.user_settings as each where user_id = ${id}) as set,
          (select jsonb_agg(message_content) from app_public.message_logs where user_id = ${id}) as logs`;
      const before = await rows();
      await owner`delete from app_public.users where id = ${id}`;
      const found = await gw(['restore', made.id, '--user', id, '--json']);
      expect(found.code, found.stderr).toBe(0);
      const { tables, statements } = JSON.parse(found.stdout) as {
        tables: { table: string; rows: number }[];
        statements: string[];
      };
      expect(tables).toContainEqual(
        expect.objectContaining({ table: 'app_public.users', rows: 1 }),
      );
      expect(statements[0]).toMatch(/^insert into app_public\.users /);
      // Nobody but the owner reads them.
      await expect(db.as('readonly').unsafe(`select from ${schema()}.users`)).rejects.toMatchObject(
        { code: '42501' },
      );
      const again = await gw(['restore', made.id, '--user', id]);
      expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('drop schema') });
      await owner.begin(async (sql) => {
        for (const statement of statements) await sql.unsafe(statement);
      });
      expect(await rows()).toEqual(before);
      await owner.unsafe(`drop schema ${schema()} cascade`);
    },
    patience(60_000),
  );

  test(
    'one table; what the backup has not is said',
    async () => {
      const found = await gw(['restore', made.id, '--table', 'app_public.message_logs']);
      expect(found.code, found.stderr).toBe(0);
      expect(found.stdout).toMatch(/^-- app_public\.message_logs: 50 rows in restored_/m);
      await db.as('owner').unsafe(`drop schema ${schema()} cascade`);
      const refused = await gw(['restore', made.id, '--table', 'app_public.nothing']);
      expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('has no table') });
      expect(await db.as('owner')`select from pg_namespace where nspname = ${schema()}`).toEqual(
        [],
      );
    },
    patience(60_000),
  );
});

test(
  'on a server that never had the roles they are made, without passwords',
  async () => {
    const bare = await startScratch('none', { topic: 'bare' });
    try {
      await withSql(bare.superuserUrl, async (sql) => {
        for (const name of roleNames) {
          await sql.unsafe(`drop owned by ${name} cascade; drop role ${name}`).simple();
        }
      });
      const done = await gw(['restore', made.id, '--url', bare.superuserUrl, '--json']);
      expect(done.code, done.stderr).toBe(0);
      const { database, missing } = JSON.parse(done.stdout) as {
        database: string;
        missing: string[];
      };
      expect(missing.sort()).toEqual([...roleNames].sort());
      const url = changeUrl(bare.superuserUrl, { database });
      await withSql(url, async (sql) => {
        const [row] = await sql`
          select pg_has_role('gw_authenticator', 'app_user', 'member') as becomes,
            (select rolreplication from pg_roles where rolname = 'gw_cdc') as replicates,
            (select setconfig from pg_db_role_setting where setdatabase = 0
              and setrole = 'gw_readonly'::regrole) as settings,
            (select count(*)::integer from pg_authid where rolpassword is not null) as passwords,
            has_table_privilege('app_user', 'app_public.tasks', 'select') as reads`;
        expect(row).toMatchObject({
          becomes: true,
          replicates: true,
          settings: expect.arrayContaining(['default_transaction_read_only=on']),
          passwords: 1,
          reads: true,
        });
      });
    } finally {
      await bare.stop();
    }
  },
  patience(60_000),
);
