import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { type RuleName, rules } from '../../helpers/catalogue.ts';
import { rolledBack, useDatabase } from '../../helpers/database.ts';
import { leaks } from '../../helpers/tenant-leaks.ts';

const db = useDatabase();
/** As a superuser, with a search_path that makes the catalogue print every schema. */
const inTransaction = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local search_path = pg_catalog`;
    await work(sql);
  });

describe('the walk notices', () => {
  const planted = {
    name: 'app_public.planted',
    create: `
      create table app_public.planted (
        user_id uuid not null references app_public.users, id uuid not null, note text not null,
        primary key (user_id, id));
      comment on table app_public.planted is 'x';
      comment on column app_public.planted.user_id is 'x';
      comment on column app_public.planted.id is 'x';
      comment on column app_public.planted.note is 'x';
      alter table app_public.planted enable row level security;
      create policy own on app_public.planted for all to app_user
        using (user_id = app_hidden.current_app_user_id());
      grant select, delete, insert (id, note), update (note) on app_public.planted to app_user;`,
  };

  const faults: [fault: string, statement: string, rule: RuleName, object: string][] = [
    [
      'a table without row-level security',
      'alter table app_public.planted disable row level security',
      'every table of app_public has row-level security',
      'app_public.planted',
    ],
    [
      'a partitioned table without row-level security',
      'create table app_public.parts (id int) partition by list (id)',
      'every table of app_public has row-level security',
      'app_public.parts',
    ],
    [
      'a table without a policy',
      'drop policy own on app_public.planted',
      'every table of app_public has a policy',
      'app_public.planted',
    ],
    [
      'a policy that shows everything to app_user',
      'create policy all_of_it on app_public.planted for select to app_user using (true)',
      "policies on users' tables compare with the current user, and with nothing else",
      'app_public.planted',
    ],
    [
      'a partition with a grant',
      'grant select on app_partitions.tasks_h00 to gw_readonly',
      'partitions are reached through their parents only',
      'app_partitions.tasks_h00',
    ],
    [
      'a partition with a grant on one column',
      'grant select (title) on app_partitions.tasks_h00 to app_user',
      'partitions are reached through their parents only',
      'app_partitions.tasks_h00',
    ],
    [
      'a role that may enter app_partitions',
      'grant usage on schema app_partitions to gw_worker',
      'partitions are reached through their parents only',
      'app_partitions',
    ],
    [
      'a partition in a schema of the API',
      `create table app_public.late partition of app_public.message_logs
        for values from ('2000-01-01') to ('2000-02-01')`,
      'partitions live in app_partitions',
      'app_public.late',
    ],
    [
      'a secret that app_user may read',
      'grant select (user_id) on app_private.sessions to app_user',
      'frontends reach nothing in app_private and ops',
      'app_private.sessions',
    ],
    [
      'a private function that app_user may execute',
      'grant execute on function app_private.set_app_user(uuid) to app_user',
      'frontends reach nothing in app_private and ops',
      'app_private.set_app_user(uuid)',
    ],
    [
      'a definer function without search_path',
      'alter function app_public.logout(boolean) reset all',
      'security definer functions pin their search_path',
      'app_public.logout(boolean)',
    ],
    [
      'a definer function whose search_path lets pg_temp go first',
      'alter function app_public.logout(boolean) set search_path = pg_catalog, app_public',
      'security definer functions pin their search_path',
      'app_public.logout(boolean)',
    ],
    [
      'a function that public may execute',
      'create function ops.planted() returns int language sql return 1',
      'no function is executable by public',
      'ops.planted()',
    ],
    [
      'a function of a schema that its caller may not enter',
      'grant execute on function ops.message_status(date, date) to gw_readonly',
      'who may execute a function may enter its schema',
      'ops.message_status(date,date)',
    ],
    [
      'a column without a comment',
      'comment on column app_public.planted.note is null',
      'everything in app_public has a comment',
      'app_public.planted.note',
    ],
    [
      "a reference to another user's row",
      `create table app_public.leaky (user_id uuid, planted_user_id uuid, planted_id uuid,
        foreign key (planted_user_id, planted_id) references app_public.planted)`,
      "references between users' tables carry user_id",
      'app_public.leaky',
    ],
    [
      'a key that does not begin with user_id',
      'create table app_public.leaky (id uuid primary key, user_id uuid)',
      "primary keys of users' tables begin with user_id",
      'app_public.leaky',
    ],
    [
      'an owner that app_user may write',
      'grant insert on app_public.planted to app_user',
      'frontends write neither owner nor timestamps',
      'app_public.planted.user_id',
    ],
    [
      'a view that shows everything',
      'create view app_public.seen as select * from app_public.tasks',
      'views of app_public do not bypass row-level security unnoticed',
      'app_public.seen',
    ],
    [
      'a partial index whose name does not say so',
      'create index planted_note_idx on app_public.planted (note) where length(note) > 1',
      'indexes say in their name what they are',
      'app_public.planted_note_idx',
    ],
    [
      'a unique index that is named like any other',
      `create unique index planted_note_idx_where_long on app_public.planted (note)
        where length(note) > 1`,
      'indexes say in their name what they are',
      'app_public.planted_note_idx_where_long',
    ],
    [
      'an index that is not partial and says that it is',
      'create index planted_note_idx_where_long on app_public.planted (note)',
      'indexes say in their name what they are',
      'app_public.planted_note_idx_where_long',
    ],
  ];

  test.each(faults)('%s', async (_fault, statement, rule, object) => {
    await inTransaction(async (sql) => {
      await sql.unsafe(planted.create);
      expect(await rules[rule](sql)).toEqual([]);
      await sql.unsafe(statement);
      const objects = (await rules[rule](sql)).map((finding) => finding.object);
      expect(objects).toContain(object);
    });
  });

  test.each([
    ['nothing in a table that is right', '', []],
    [
      'rows that a policy shows to everybody',
      'create policy all_of_it on app_public.planted to app_user using (true)',
      [
        "bob reads ann's rows: 1",
        "bob updates ann's rows: 1",
        "bob deletes ann's rows: 1",
        "bob, privileged, reads ann's rows: 1",
        "bob, privileged, updates ann's rows: 1",
        "bob, privileged, deletes ann's rows: 1",
        'bob, privileged, inserts a row of another user: 1',
      ],
    ],
    [
      'rows that a policy hides from their owner',
      'alter policy own on app_public.planted using (false)',
      ['bob reads his own rows: 0'],
    ],
  ])('%s', async (_fault, statement, problems) => {
    await inTransaction(async (sql) => {
      await sql.unsafe(`${planted.create}; ${statement}`);
      expect(await leaks(sql, planted.name)).toEqual(problems);
    });
  });

  test('tables whose rows need other rows, listed values or vectors', async () => {
    await inTransaction(async (sql) => {
      await sql.unsafe(`${planted.create};
        create table app_public.plans (name text primary key);
        insert into app_public.plans values ('free');
        create table app_public.children (
          user_id uuid not null references app_public.users, id uuid not null,
          planted_id uuid not null, plan text not null references app_public.plans,
          kind text not null check (kind in ('good', 'bad')), tags text[] not null,
          embedding public.vector(3) not null, doubled int generated always as (2) stored,
          number int generated always as identity, primary key (user_id, id),
          foreign key (user_id, planted_id) references app_public.planted);
        alter table app_public.children enable row level security;
        create policy own on app_public.children to app_user
          using (user_id = app_hidden.current_app_user_id());
        grant select on app_public.children to app_user`);
      expect(await leaks(sql, 'app_public.children')).toEqual([]);
      const rows = await sql`select kind, plan from app_public.children`;
      expect(rows).toEqual(Array(2).fill({ kind: 'good', plan: 'free' }));
    });
  });

  test('a table that the generator cannot fill, instead of skipping it', async () => {
    await inTransaction(async (sql) => {
      await sql.unsafe(`${planted.create};
        alter table app_public.planted add check (md5(note) = 'nothing')`);
      await expect(leaks(sql, planted.name)).rejects.toThrow(
        /cannot make a row of app_public.planted: .*planted_note_check/,
      );
    });
  });
});
