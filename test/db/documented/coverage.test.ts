import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { projectRoot } from '../../../src/project.ts';
import { useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const page = readFileSync(join(projectRoot, 'docs', 'explanation', 'coverage.md'), 'utf8');

/** What stands in backticks and looks like this. */
const named = (pattern: RegExp): string[] => [
  ...new Set(
    [...page.matchAll(/`([^`\n]+)`/g)]
      .map(([, text]) => text as string)
      .filter((text) => pattern.test(text)),
  ),
];

/** The names that a query does not find. */
async function missing(names: string[], query: string): Promise<string[]> {
  const rows = await db.as('superuser').unsafe<{ name: string }[]>(query, [names]);
  return rows.map(({ name }) => name);
}

const schemas = '(app_public|app_hidden|app_private|ops)';

describe('the page that says where each part of the documents lives names only', () => {
  test('tables and views that exist', async () => {
    const names = named(new RegExp(`^${schemas}\\.[a-z_]+$`));
    expect(names.length).toBeGreaterThan(30);
    expect(
      await missing(
        names,
        'select name from unnest($1::text[]) as name where to_regclass(name) is null',
      ),
    ).toEqual([]);
  });

  test('functions that exist', async () => {
    const names = named(new RegExp(`^${schemas}\\.[a-z_]+\\(\\)$`));
    expect(names.length).toBeGreaterThan(15);
    expect(
      await missing(
        names,
        `select name from unnest($1::text[]) as name
        where not exists (
          select from pg_proc
          where pronamespace::regnamespace || '.' || proname || '()' = name)`,
      ),
    ).toEqual([]);
  });

  test('columns that exist', async () => {
    const names = named(new RegExp(`^${schemas}\\.[a-z_]+\\.[a-z_]+$`));
    expect(names.length).toBeGreaterThan(10);
    expect(
      await missing(
        names,
        `select name from unnest($1::text[]) as name
        where not exists (
          select from pg_attribute
          where attrelid = to_regclass(regexp_replace(name, '\\.[a-z_]+$', ''))
            and attname = substring(name from '[a-z_]+$')
            and not attisdropped)`,
      ),
    ).toEqual([]);
  });

  test('columns of tables that exist, where it says that all are the same', async () => {
    const wrong: string[] = [];
    for (const line of page.split('\n')) {
      const row = /^\| ([a-z_]+) \(\d.*?\) \| (.*?) \| all the same/.exec(line);
      if (row === null) continue;
      const columns = [...(row[2] ?? '').matchAll(/`([a-z_]+)`/g)].map(
        ([, name]) => name as string,
      );
      expect(columns.length).toBeGreaterThan(0);
      const found = await db.as('superuser')<{ name: string }[]>`
        select name from unnest(${columns}::text[]) as name
        where not exists (
          select from pg_attribute
          inner join pg_class on pg_class.oid = attrelid
          where relname = ${row[1] ?? ''}
            and relnamespace::regnamespace::text in ('app_public', 'app_private')
            and attname = name)`;
      wrong.push(...found.map(({ name }) => `${row[1]}.${name}`));
    }
    expect(wrong).toEqual([]);
    expect(page.match(/\| all the same/g)?.length).toBeGreaterThan(10);
  });

  test('indexes and constraints that exist', async () => {
    const names = named(/^[a-z_]+_(idx|idx_where_[a-z_]+|pkey|check)$|^[a-z]+_[a-z_]+_key$/);
    expect(names.length).toBeGreaterThan(35);
    expect(
      await missing(
        names,
        `select name from unnest($1::text[]) as name
        where not exists (select from pg_class where relname = name and relkind in ('i', 'I'))
          and not exists (select from pg_constraint where conname = name)`,
      ),
    ).toEqual([]);
  });

  test('pg_cron jobs that are declared', async () => {
    const names = [...page.matchAll(/job `([a-z-]+)`/g)].map(([, name]) => name as string);
    expect(names.length).toBeGreaterThan(5);
    expect(
      await missing(
        names,
        `select name from unnest($1::text[]) as name
        where name not in (select job_name from ops.cron_jobs)`,
      ),
    ).toEqual([]);
  });

  test('reports that exist', () => {
    const names = named(/^gw report [a-z-]+$/).map((name) => name.replace('gw report ', ''));
    expect(names.length).toBeGreaterThan(5);
    expect(
      names.filter((name) => !existsSync(join(projectRoot, 'sql', 'reports', `${name}.sql`))),
    ).toEqual([]);
  });

  test('files that exist', () => {
    const names = named(/^(src|test|sql|docker|docs|migrations)\/[\w./-]+$/);
    expect(names.length).toBeGreaterThan(15);
    const links = [...page.matchAll(/\]\(([^)#]+)/g)].map(([, link]) =>
      join('docs', 'explanation', link as string),
    );
    expect([...names, ...links].filter((name) => !existsSync(join(projectRoot, name)))).toEqual([]);
  });
});
