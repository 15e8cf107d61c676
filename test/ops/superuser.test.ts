import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

const checkout = new Checkout();
const urls = { owner: '', superuser: '', cdc: '' };
let owner: Sql;

async function gw(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await checkout.run(args);
  expect(code, stderr).toBe(0);
  return stdout.trim();
}

async function start(): Promise<void> {
  await gw('db', 'start');
  for (const role of ['owner', 'superuser', 'cdc'] as const) {
    urls[role] = await gw('db', 'url', '--role', role);
  }
  owner = connect(urls.owner, { max: 2 });
}

beforeAll(async () => {
  await start();
  await gw('migrate');
}, patience(60_000));

afterAll(async () => {
  await owner?.end({ timeout: 1 });
  await checkout.remove();
});

/** Notes whose session runs it, and takes what that session could give. */
const take = `
  insert into app_public.taken
  select session_user, rolsuper from pg_catalog.pg_roles where rolname = session_user;
  begin
    reset role;
    alter role gw_readonly superuser;
  exception when others then null;
  end;`;

/** Has gw_owner put its own code wherever a superuser might come by. */
async function plant(sql: Sql): Promise<void> {
  await sql.unsafe(`
    create table app_public.taken (session_name text, is_superuser boolean);
    grant insert on app_public.taken to public;
    do $plant$
    declare
      each record;
    begin
      for each in
        select pg_proc.oid::regprocedure::text as signature,
          format('%I.%I(%s)', nspname, proname, pg_get_function_arguments(pg_proc.oid)) as head,
          pg_get_function_result(pg_proc.oid) as result,
          case when proretset or prorettype = 'void'::regtype
              or proargmodes && '{o,b}' then 'return;'
            else 'return null;' end as ending
        from pg_proc
        inner join pg_namespace on pg_namespace.oid = pronamespace
        where pg_get_userbyid(proowner) = 'gw_owner' and prokind = 'f'
          and nspname in ('app_public', 'app_hidden', 'app_private', 'ops')
      loop
        begin
          execute 'create or replace function ' || each.head || ' returns ' || each.result
            || ' language plpgsql as $body$ begin ${take} ' || each.ending || ' end $body$';
        exception when others then
          raise exception '%: %', each.signature, sqlerrm;
        end;
      end loop;
    end
    $plant$;
    create function app_public.take() returns boolean language plpgsql
      as $body$ begin ${take} return true; end $body$;
    create function app_public.take_two(name, text) returns boolean language plpgsql
      as $body$ begin ${take} return true; end $body$;
    create operator app_public.= (leftarg = name, rightarg = text, function = app_public.take_two);
    create view app_public.pg_roles as
      select * from pg_catalog.pg_roles where app_public.take();
    create view app_public.pg_authid as
      select rolname, 'x'::text as rolpassword from pg_catalog.pg_roles where app_public.take();
    create view app_public.pg_database as
      select * from pg_catalog.pg_database where app_public.take();
    create view app_public.pg_extension as
      select * from pg_catalog.pg_extension where app_public.take();
    create function app_public.to_regprocedure(text) returns regprocedure language plpgsql
      as $body$ begin ${take} return null; end $body$;
    create function app_public.current_setting(text) returns text language plpgsql
      as $body$ begin ${take} return pg_catalog.current_setting($1); end $body$;`);
  const [row] = await sql`select current_database() as name`;
  await sql.unsafe(`alter database ${row?.name} set search_path = app_public, pg_catalog`);
}

test('no superuser runs what gw_owner owns', { timeout: patience(120_000) }, async () => {
  await plant(owner);
  const planted = await owner`
    select count(*)::integer as n from pg_proc where prosrc like '%app_public.taken%'`;
  expect(planted[0]?.n).toBeGreaterThan(150);

  await owner.end();
  await gw('db', 'stop');
  await start();
  await checkout.run(['migrate']);
  await checkout.run(['status', '--drift']);
  await checkout.run(['lint']);
  await checkout.run(['check']);
  await checkout.run(['token', 'demo1@example.com']);

  const taken = await owner`select distinct session_name, is_superuser from app_public.taken`;
  expect(taken.filter(({ is_superuser }) => is_superuser)).toEqual([]);
  // The code was reached, by sessions that cannot do more than gw_owner.
  expect(taken).toContainEqual({ session_name: 'gw_owner', is_superuser: false });
  const supers = await owner`
    select rolname from pg_catalog.pg_roles where rolsuper and rolname like 'gw_%'`;
  expect(supers).toEqual([]);

  await gw('reset', '--yes');
});

test('an attribute that somebody gave a role is taken again', async () => {
  const attributes = ['superuser createdb createrole', 'bypassrls'];
  const superuser = connect(urls.superuser, { max: 1 });
  for (const attribute of attributes) {
    await superuser.unsafe(`alter role gw_readonly ${attribute}`);
    await gw('db', 'start');
    const [role] = await superuser`
      select rolsuper or rolcreatedb or rolcreaterole or rolbypassrls as "hasAny"
      from pg_roles where rolname = 'gw_readonly'`;
    expect(role, attribute).toEqual({ hasAny: false });
  }
  await superuser.end();
});

test('gw_cdc reads changes of its database, and takes no base backup', async () => {
  const { Client } = await import('pg');
  const replication = async (mode: string): Promise<string> => {
    const client = new Client({
      connectionString: urls.cdc,
      ...({ replication: mode } as object),
    });
    try {
      await client.connect();
      return String((await client.query('IDENTIFY_SYSTEM')).rows[0]?.dbname);
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    } finally {
      await client.end().catch(() => {});
    }
  };
  expect(await replication('database')).toBe('groundwork');
  expect(await replication('true')).toBe('28000');
});

const refused = [
  "select cron.schedule('planted', '* * * * *', 'select 1')",
  "select cron.unschedule('check-health')",
  "select lo_from_bytea(0, 'x')",
  'select lo_create(0)',
  'create temporary table x (id integer)',
  'create schema x',
  'create table public.x (id integer)',
  "select pg_read_file('postgresql.conf')",
  "copy (select 1) to program 'true'",
  'alter system set work_mem = 64',
  'select pg_reload_conf()',
  'select * from pg_authid',
];

test.for(['authenticator', 'worker', 'cdc', 'readonly', 'monitor'] as const)(
  'gw_%s does nothing to the server',
  async (role) => {
    const sql = connect(await gw('db', 'url', '--role', role), { max: 1 });
    const codes = [];
    try {
      await sql`set default_transaction_read_only = off`;
      for (const text of refused) {
        const code = await sql.unsafe(text).then(
          () => 'done',
          (error: { code?: string }) => error.code,
        );
        codes.push([text, code]);
      }
    } finally {
      await sql.end();
    }
    expect(codes).toEqual(refused.map((text) => [text, expect.stringMatching(/^(42501|3F000)$/)]));
  },
);

test('a role has a verifier, and no statement had its password', async () => {
  const superuser = connect(urls.superuser, { max: 1 });
  try {
    const stored = await superuser`
      select rolname from pg_authid
      where rolname like 'gw\\_%' and rolcanlogin and rolpassword !~ '^SCRAM-SHA-256[$]4096:'`;
    expect(stored).toEqual([]);
    const password = decodeURIComponent(new URL(urls.owner).password);
    expect(password.length).toBeGreaterThan(16);
    const said = await superuser`
      select query from pg_stat_statements
      where query like ${`%${password}%`} or query ~* 'alter role .* password .*SCRAM'`;
    expect(said).toEqual([]);
  } finally {
    await superuser.end();
  }
});

test.for(['authenticator', 'worker', 'cdc', 'readonly', 'monitor'] as const)(
  'gw_%s calls no function of ours that it was not given',
  async (role) => {
    const sql = connect(await gw('db', 'url', '--role', role), { max: 1 });
    try {
      const calls = await sql<{ call: string }[]>`
        select format('select %I.%I(%s)', nspname, proname, (
            -- A null that is known before would spare the call of a strict function.
            select string_agg(format('(select null::%s offset 0)', format_type(type, null)), ', '
              order by place)
            from unnest(proargtypes) with ordinality as argument (type, place)
          )) as call
        from pg_proc
        inner join pg_namespace on pg_namespace.oid = pronamespace
        where nspname in ('ops', 'app_private', 'app_hidden', 'app_public')
          and prorettype <> 'trigger'::regtype
          and prorettype <> 'event_trigger'::regtype
          -- A procedure takes no subquery; those of the toolkit have defaults.
          and prokind = 'f'
          and not has_function_privilege(pg_proc.oid, 'execute')`;
      expect(calls.length).toBeGreaterThan(50);
      const done: string[] = [];
      for (const { call } of calls) {
        await sql.unsafe(call).then(
          () => done.push(call),
          (error: { code?: string }) => {
            if (!/^(42501|3F000)$/.test(error.code ?? '')) done.push(`${error.code}: ${call}`);
          },
        );
      }
      expect(done).toEqual([]);
    } finally {
      await sql.end();
    }
  },
);

test('no secret lies on disk but in its own file, nor in the list of processes', async () => {
  const file = checkout.path('.groundwork', 'secrets.json');
  const secrets = Object.values(JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>);
  expect(secrets.length).toBeGreaterThan(7);
  const patterns = join(mkdtempSync(join(tmpdir(), 'groundwork-secrets-')), 'patterns');
  writeFileSync(patterns, `${secrets.join('\n')}\n`, { mode: 0o600 });
  const filesWith = (...folders: string[]): string[] =>
    spawnSync('grep', ['-rlaF', '-f', patterns, ...folders], { encoding: 'utf8' })
      .stdout.split('\n')
      .filter(Boolean);
  try {
    // What is in memory is on disk afterwards.
    const superuser = connect(urls.superuser, { max: 1 });
    await superuser`checkpoint`;
    const [row] = await superuser`select current_setting('data_directory') as home`;
    await superuser.end();
    expect(filesWith(dirname(row?.home))).toEqual([]);
    expect(filesWith(checkout.folder)).toEqual([file]);
    const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    expect(filesWith(...processes.map((pid) => `/proc/${pid}/cmdline`))).toEqual([]);
  } finally {
    rmSync(dirname(patterns), { recursive: true });
  }
});
