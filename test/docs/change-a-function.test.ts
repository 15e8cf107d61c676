import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Transaction } from '../../src/postgres/connect.ts';
import { projectRoot } from '../../src/project.ts';
import { become, createUser, expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';
import { Guide } from '../helpers/guide.ts';

const guide = new Guide('change-a-function');
const db = useDatabase();
const path = 'functions/app_public/search_tasks.sql';
const file = readFileSync(join(projectRoot, 'migrations', 'fixtures', path), 'utf8');

/** A current migration of the guide, with the function's file as an editor left it. */
const current = (name: string, edited = file): string =>
  guide.at(`migrations/current/${name}.sql`).replace(`--!include ${path}`, () => edited);

/** What a function of the name is called with, by the catalogue. */
const signatures = async (sql: Transaction): Promise<string[]> => {
  const rows = await sql`
    select pg_get_function_identity_arguments(oid) as arguments from pg_proc
    where proname = 'search_tasks' order by 1`;
  return rows.map((row) => String(row.arguments));
};

test('the function of the guide runs again on each save', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    const edited = file.replace('best match first', 'the best match first');
    expect(edited).not.toBe(file);
    for (const text of [file, edited]) await sql.unsafe(current('0001-search-tasks', text));
    const [row] = await sql`
      select obj_description('app_public.search_tasks(text)'::regprocedure) as comment`;
    expect(row?.comment).toContain('the best match first');
    expect(await signatures(sql)).toEqual(['query text']);
  });
});

test('other arguments need the drop of the guide', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    const edited = file
      .replace('(query text)', '(query text, starred boolean default false)')
      .replaceAll('search_tasks(text)', 'search_tasks(text, boolean)');
    await sql.unsafe(current('0001-search-tasks', edited));
    expect(await signatures(sql)).toHaveLength(2);
    await sql.unsafe(current('0001-search-tasks-arguments', edited));
    expect(await signatures(sql)).toEqual(['query text, starred boolean']);
    await expectRefusal(sql, '42P13', (inner) =>
      inner.unsafe(edited.replace('setof app_public.tasks', 'setof app_public.goals')),
    );
  });
});

test('a grant that the file does not have any more is kept until it is revoked', async () => {
  await rolledBack(db.as('superuser'), async (sql) => {
    const ask = (inner: Transaction) => inner`select from app_public.search_tasks('x')`;
    const { id } = await createUser(sql);
    await sql`set local role gw_owner`;
    await sql.unsafe(current('0001-search-tasks', file.replace(/^grant .*$/m, '')));
    await become(sql, id);
    await ask(sql);
    await sql`set local role none`;
    await sql`set local role gw_owner`;
    await sql.unsafe(current('0001-search-tasks-grants'));
    await become(sql, id);
    await expectRefusal(sql, '42501', ask);
  });
});
