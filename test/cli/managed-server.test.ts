import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { loginNames, loginRoles, roleNames } from '../../src/postgres/roles.ts';
import { changeUrl } from '../../src/postgres/urls.ts';
import { type Scratch, startScratch } from '../../src/server/scratch.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

/* A server as a provider gives it: its administrator makes roles and databases, and is no superuser. */
const checkout = new Checkout();
const name = 'gw_managed';
let scratch: Scratch;
let superuser: Sql;

beforeAll(async () => {
  scratch = await startScratch(name, { topic: 'managed' });
  superuser = connect(scratch.superuserUrl, { max: 1 });
  for (const role of roleNames) await superuser.unsafe(`drop role ${role}`);
  await superuser`create role admin login createrole createdb password 'of the admin'`;
  await superuser.unsafe(`create database ${name} owner admin`);
}, patience(60_000));

afterAll(async () => {
  await checkout.remove();
  await superuser?.end({ timeout: 1 });
  await scratch?.stop();
});

const env = (): NodeJS.ProcessEnv => {
  const admin = { user: 'admin', password: 'of the admin', database: name };
  const owner = { user: 'gw_owner', password: 'password of owner', database: name };
  return {
    ROOT_DATABASE_URL: changeUrl(scratch.superuserUrl, admin),
    DATABASE_URL: changeUrl(scratch.superuserUrl, owner),
    ...Object.fromEntries(
      loginNames.map((login) => [loginRoles[login].variable, `password of ${login}`]),
    ),
  };
};

test.skipIf(process.env.GW_TEST_DB === 'docker')(
  'an administrator with CREATEROLE prepares it, and is told what a superuser must run',
  async () => {
    const first = await checkout.run(['db', 'start'], env());
    expect(first.stderr).toMatch(/roles are there; a superuser must run:/);
    expect(first.code).toBe(0);
    const said = first.stderr.split('a superuser must run:\n')[1]?.split('\n') ?? [];
    const statements = said.filter((line) => /^(alter|create|grant|revoke) /.test(line));
    expect(statements).toContainEqual(expect.stringMatching(/^alter role gw_cdc .* replication;$/));
    expect(statements).toContain('create extension if not exists pg_cron;');
    expect(said.join('\n')).not.toMatch(/SCRAM/);

    const inDatabase = connect(changeUrl(scratch.superuserUrl, { database: name }), { max: 1 });
    for (const statement of statements) await inDatabase.unsafe(statement);
    const again = await checkout.run(['db', 'start'], {
      ...env(),
      ROOT_DATABASE_URL: changeUrl(scratch.superuserUrl, { database: name }),
    });
    expect(again.stderr).toMatch(/roles and extensions are up to date/);
    expect(await checkout.run(['migrate'], env())).toMatchObject({ code: 0 });
    expect(await checkout.run(['status'], env())).toMatchObject({ code: 0 });
    const [jobs] = await inDatabase`select count(*)::integer as jobs from cron.job`;
    expect(jobs?.jobs).toBeGreaterThan(10);
    const [capture] = await inDatabase`
      select rolreplication from pg_roles where rolname = 'gw_cdc'`;
    expect(capture).toEqual({ rolreplication: true });
    await inDatabase.end();
  },
  120_000,
);

test.skipIf(process.env.GW_TEST_DB === 'docker')(
  'a user who may make no roles is told so in one sentence',
  async () => {
    await superuser`create role nobody login password 'of nobody'`;
    await superuser.unsafe(`grant connect on database ${name} to nobody`);
    const refused = await checkout.run(['db', 'start'], {
      ...env(),
      ROOT_DATABASE_URL: changeUrl(scratch.superuserUrl, {
        user: 'nobody',
        password: 'of nobody',
      }),
    });
    expect(refused).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('may not make roles, and is not gw_owner'),
    });
  },
);
