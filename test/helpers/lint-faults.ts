import type { Transaction } from '../../src/postgres/connect.ts';
import { runChecks } from '../../src/toolkit/lint/checks.ts';
import { objectOf } from '../../src/toolkit/lint/findings.ts';

/** A table of app_public without any fault, to be given one. */
export const sound = `
  create table app_public.sound (
    user_id uuid not null default app_hidden.current_app_user_id(), id uuid not null,
    note text not null, primary key (user_id, id));
  comment on table app_public.sound is 'x';
  comment on column app_public.sound.user_id is 'x';
  comment on column app_public.sound.id is 'x';
  comment on column app_public.sound.note is 'x';
  alter table app_public.sound enable row level security;
  create policy own on app_public.sound to app_user
    using (user_id = app_hidden.current_app_user_id());
  grant select on app_public.sound to app_user;`;

/** What one check finds, as `level object`. */
export async function found(sql: Transaction, check: string): Promise<string[]> {
  const findings = await runChecks(sql, {}, [check]);
  return findings.map((finding) => `${finding.level} ${objectOf(finding)}`);
}

export interface Fault {
  check: string;
  title: string;
  /** Statements that violate the check. */
  violate: string;
  /** The findings that appear, and no other. */
  findings: string[];
  /** Statements that repair it. */
  repair: string;
}

const other = `create table app_public.other (
  user_id uuid, sound_id uuid, number integer, primary key (user_id, sound_id));`;

export const faults: Fault[] = [
  {
    check: 'foreign-key-without-index',
    title: 'a foreign key whose columns begin no index',
    violate: `${other} alter table app_public.other drop constraint other_pkey,
      add primary key (sound_id), add foreign key (user_id, sound_id) references app_public.sound;
      create index on app_public.other (user_id, number, sound_id);
      create index on app_public.other (user_id, sound_id) where number > 1;`,
    findings: ['error app_public.other.other_user_id_sound_id_fkey'],
    // In another order, and leaving out nulls only.
    repair: `create index on app_public.other (sound_id, user_id) where user_id is not null;`,
  },
  {
    check: 'foreign-key-without-index',
    title: 'a foreign key of a partitioned table, once',
    violate: `create table app_public.parts (id uuid, user_id uuid references app_public.users)
        partition by hash (id);
      create table app_partitions.parts_h0 partition of app_public.parts
        for values with (modulus 1, remainder 0);`,
    findings: ['error app_public.parts.parts_user_id_fkey'],
    repair: 'create index on app_public.parts (user_id);',
  },
  {
    check: 'duplicate-index',
    title: 'an index that a key has already, of a partitioned table too',
    violate: `create index again on app_public.tasks (user_id, id);
      create index near on app_public.tasks (user_id, id desc);`,
    findings: ['error app_public.again'],
    repair: 'drop index app_public.again;',
  },
  {
    check: 'redundant-index',
    title: 'an index whose columns begin another',
    violate: `create index short on app_public.tasks (user_id);
      create index partial on app_public.tasks (user_id) where status = 'todo';
      create unique index only_one on app_public.users (timezone);
      drop index app_public.users_timezone_idx;
      create index included on app_public.users (created_at) include (id);`,
    findings: ['warning app_public.short'],
    repair: 'drop index app_public.short;',
  },
  {
    check: 'unused-index',
    title: 'an index of a large table that is never used',
    violate: `set local lint.unused_rows = 1000; set local lint.unused_reads = 0;
      set local lint.unused_age = '-1 days';
      create table ops.large (id integer primary key, number integer) partition by hash (id);
      create table app_partitions.large_h0 partition of ops.large
        for values with (modulus 1, remainder 0);
      create index on ops.large (number);
      insert into ops.large select n, n from generate_series(1, 2000) as n;
      analyze ops.large;`,
    findings: ['warning ops.large_number_idx'],
    // As it is unless set: the statistics are too young to say anything.
    repair: `set local lint.unused_age = '';`,
  },
  {
    check: 'definer-search-path',
    title: "a definer function that takes its caller's search_path",
    violate: `create function ops.bent() returns int language sql security definer return 1;
      create function ops.first(int) returns int language sql security definer
        set search_path = pg_temp, pg_catalog as 'select 1';
      create function ops.plain() returns int language sql return 1;`,
    findings: ['error ops.bent()', 'error ops.first(integer)'],
    repair: `alter function ops.bent() set search_path = pg_catalog, pg_temp;
      alter function ops.first(int) set search_path = pg_temp;`,
  },
  {
    check: 'table-without-primary-key',
    title: 'a table without a primary key, partitioned too, once',
    violate: `create table ops.keyless (id uuid) partition by hash (id);
      create table app_partitions.keyless_h0 partition of ops.keyless
        for values with (modulus 1, remainder 0);`,
    findings: ['error ops.keyless'],
    repair: 'alter table ops.keyless add primary key (id);',
  },
  {
    check: 'missing-comment',
    title: 'a table, column, view, function and type without a comment',
    violate: `comment on table app_public.sound is null;
      comment on column app_public.sound.note is null;
      create view app_public.seen as select 1 as one;
      create function app_public.asked(text) returns int language sql return 1;
      create type app_public.mood as enum ('good');
      create table ops.undescribed (id int);`,
    findings: [
      'warning app_public.asked(text)',
      'warning app_public.mood',
      'warning app_public.seen',
      'warning app_public.seen.one',
      'warning app_public.sound',
      'warning app_public.sound.note',
    ],
    repair: `comment on table app_public.sound is 'x';
      comment on column app_public.sound.note is 'x';
      comment on view app_public.seen is 'x';
      comment on column app_public.seen.one is 'x';
      comment on function app_public.asked(text) is 'x';
      comment on type app_public.mood is 'x';`,
  },
  {
    check: 'rls-disabled',
    title: 'an exposed table without row-level security, partitioned too',
    violate: `alter table app_public.sound disable row level security;
      alter table app_public.tasks disable row level security;`,
    findings: ['error app_public.sound', 'error app_public.tasks'],
    repair: `alter table app_public.sound enable row level security;
      alter table app_public.tasks enable row level security;`,
  },
  {
    check: 'rls-without-policy',
    title: 'a grant that no policy serves, on one column too',
    violate: `drop policy own on app_public.sound; revoke all on app_public.sound from app_user;
      grant select (id) on app_public.sound to app_user;`,
    findings: ['warning app_public.sound'],
    repair: 'revoke select (id) on app_public.sound from app_user;',
  },
  {
    check: 'several-permissive-policies',
    title: 'a second policy for a role, given to everybody',
    violate: `create policy more on app_public.sound for select using (true);
      create policy less on app_public.sound as restrictive for select using (true);`,
    findings: ['warning app_public.sound'],
    repair: 'alter policy more on app_public.sound to gw_monitor;',
  },
  {
    check: 'policy-without-index',
    title: 'a policy that compares a column without an index',
    violate: `create policy noted on app_public.sound for select to gw_monitor
        using (note = 'x');
      create policy written on app_public.sound for insert to gw_monitor
        with check (note = 'x');`,
    findings: ['warning app_public.sound.noted'],
    repair: 'create index on app_public.sound (note);',
  },
  {
    check: 'partition-grants',
    title: 'a partition that a role may read, one column of it too',
    violate: `grant select, delete on app_partitions.tasks_h00 to gw_readonly;
      grant select (title) on app_partitions.tasks_h01 to public;`,
    findings: ['error app_partitions.tasks_h00', 'error app_partitions.tasks_h01'],
    repair: `revoke all on app_partitions.tasks_h00 from gw_readonly;
      revoke select (title) on app_partitions.tasks_h01 from public;`,
  },
  {
    check: 'invalid-index',
    title: "a partitioned table's index that its partitions lack",
    violate: `create table ops.half (id integer) partition by hash (id);
      create table app_partitions.half_h0 partition of ops.half
        for values with (modulus 1, remainder 0);
      create index half_idx on only ops.half (id);
      create index half_h0_idx on app_partitions.half_h0 (id);`,
    findings: ['error ops.half_idx'],
    repair: 'alter index ops.half_idx attach partition app_partitions.half_h0_idx;',
  },
  {
    check: 'invalid-index',
    title: 'an index whose build failed',
    violate: `create index failed on app_public.sound (note);
      update pg_catalog.pg_index set indisvalid = false
        where indexrelid = 'app_public.failed'::regclass;`,
    findings: ['error app_public.failed'],
    repair: 'drop index app_public.failed;',
  },
  {
    check: 'sequence-near-end',
    title: 'a serial, an identity and a free sequence near their ends',
    violate: `create table ops.numbers (a smallserial, b int generated by default as identity);
      create sequence ops.free maxvalue 100;
      create sequence ops.round maxvalue 100 cycle;
      -- Its sequence goes on where the column cannot.
      create table ops.narrow (id integer);
      create sequence ops.wide as bigint owned by ops.narrow.id;
      create sequence ops.down increment -1 minvalue -100 maxvalue -1;
      select setval('ops.numbers_a_seq', 30000), setval('ops.numbers_b_seq', 1700000000),
        setval('ops.free', 70), setval('ops.round', 99), setval('ops.wide', 2147000000),
        setval('ops.down', -95);`,
    findings: [
      'error ops.down',
      'error ops.numbers_a_seq',
      'warning ops.numbers_b_seq',
      'error ops.wide',
    ],
    repair: `alter table ops.numbers alter column a type bigint;
      alter sequence ops.numbers_a_seq as bigint;
      alter table ops.numbers alter column b type bigint;
      alter sequence ops.numbers_b_seq as bigint;
      alter table ops.narrow alter column id type bigint;
      alter sequence ops.down minvalue -1000000;`,
  },
  {
    check: 'view-without-invoker',
    title: 'a view that reads as its owner',
    violate: `create view app_public.seen as select id from app_public.tasks;
      create view app_public.filtered with (security_barrier) as select 1 as one;
      create view ops.inner as select 1 as one;`,
    findings: ['warning app_public.filtered', 'error app_public.seen'],
    repair: `alter view app_public.seen set (security_invoker = on);
      alter view app_public.filtered set (security_invoker);`,
  },
  {
    check: 'materialized-view-exposed',
    title: 'a materialized view where the API serves',
    violate: 'create materialized view app_public.stale as select 1 as one;',
    findings: ['error app_public.stale'],
    repair: 'alter materialized view app_public.stale set schema app_private;',
  },
  {
    check: 'function-public-execute',
    title: 'a function and a procedure that everybody may execute',
    violate: `create function ops.open(int, text) returns int language sql return 1;
      create procedure ops.done() language sql as 'select 1';
      create function ops.closed() returns int language sql return 1;
      revoke execute on function ops.closed() from public;`,
    findings: ['error ops.done()', 'error ops.open(integer, text)'],
    repair: `revoke execute on function ops.open(int, text) from public;
      revoke execute on routine ops.done() from public;`,
  },
  {
    check: 'foreign-key-without-tenant',
    title: "a reference that could be to another tenant's row",
    violate: `${other} alter table app_public.sound add unique (id);
      alter table app_public.other add foreign key (sound_id) references app_public.sound (id);`,
    findings: ['error app_public.other.other_sound_id_fkey'],
    repair: `alter table app_public.other drop constraint other_sound_id_fkey,
      add foreign key (user_id, sound_id) references app_public.sound;`,
  },
];
