import { beforeAll, expect, test } from 'vitest';
import {
  parseParams,
  parseSqlFile,
  readOnly,
  runSqlFile,
  setParams,
} from '../../src/postgres/sql-files.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { expectSound, Guide } from '../helpers/guide.ts';

const guide = new Guide('add-a-report-or-check');
const table = new Guide('add-a-table').topic('36-bookmarks');
const counts = guide.topic('36-bookmarks');
const untouched = useDatabase();
const db = useDatabase();

beforeAll(async () => {
  const sql = db.as('owner');
  await sql.unsafe(table + counts);
  const [ada, bob] = [await createUser(sql), await createUser(sql)];
  await sql`
    insert into app_public.bookmarks (user_id, url, kind, created_at) values
      (${ada.id}, 'https://a.example', 'article', now()),
      (${ada.id}, 'https://b.example', 'article', now()),
      (${bob.id}, 'https://c.example', 'article', now()),
      (${bob.id}, 'https://d.example', 'video', now() - interval '10 days')`;
});

/** What a file of the guide answers gw_monitor. */
const ask = (path: string, prefix: 'report' | 'health', ...given: string[]) =>
  readOnly(db.url('monitor'), 'test', async (sql) => {
    const file = parseSqlFile(guide.at(path), path);
    expect(file.columns).not.toBe('');
    expect(file.read).not.toBe('');
    expect(file.cost).not.toBe('');
    await setParams(sql, prefix, parseParams(given, file.params));
    const answer = await runSqlFile(sql, file);
    return 'needs' in answer ? answer.needs : answer.rows;
  });

test('the function of the guide breaks no rule', () =>
  expectSound(untouched, table + counts, ['app_public.bookmarks']));

test('the report shows figures of rows that gw_monitor cannot read', async () => {
  const article = { kind: 'article', bookmarks: 3, users: 2, most_of_one_user: 2 };
  expect(await ask('sql/reports/bookmarks.sql', 'report')).toEqual([
    { ...article, share: 0.75 },
    { kind: 'video', bookmarks: 1, users: 1, most_of_one_user: 1, share: 0.25 },
  ]);
  expect(await ask('sql/reports/bookmarks.sql', 'report', 'days=7')).toEqual([
    { ...article, share: 1 },
  ]);
  await expect(db.as('monitor')`select from app_public.bookmarks`).rejects.toMatchObject({
    code: '42501',
  });
  for (const role of ['worker', 'readonly'] as const) {
    await expect(db.as(role)`select ops.bookmark_counts(now())`).rejects.toMatchObject({
      code: '42501',
    });
  }
});

test('the check finds a user with too many, and nothing otherwise', async () => {
  const path = 'sql/checks/health-bookmarks.sql';
  expect(await ask(path, 'health')).toEqual([]);
  expect(await ask(path, 'health', 'bookmarks_warning=2')).toEqual([
    {
      level: 'warning',
      object: 'article',
      detail: '2 bookmarks of one user',
      remediation: 'find the user as gw_readonly, and stop the script',
    },
  ]);
  expect(await ask(path, 'health', 'bookmarks_warning=1', 'bookmarks_critical=2')).toMatchObject([
    { level: 'critical', object: 'article' },
    { level: 'warning' },
  ]);
});

test('the check raises an alert when pg_cron runs it', async () => {
  const sql = db.as('owner');
  const file = parseSqlFile(guide.at('sql/checks/health-bookmarks.sql'), '');
  const check = { ...file, query: file.text.replace(/;\s*$/, '') };
  await sql`select ops.sync_health_checks(${sql.json([
    { name: check.name, needs: check.needs, every: check.every, query: check.query },
  ])})`;
  await sql`select set_config('health.bookmarks_warning', '2', false), ops.check_health()`;
  const alerts = await db.as('monitor')`
    select object, level from ops.alerts where check_name = 'health-bookmarks'`;
  expect(alerts).toEqual([{ object: 'article', level: 'warning' }]);
});

test('what is missing is said', async () => {
  const sql = db.as('owner');
  await sql`revoke execute on function ops.bookmark_counts from gw_monitor`;
  expect(await ask('sql/reports/bookmarks.sql', 'report')).toMatch(
    /^the right to see it \(permission denied for function bookmark_counts\)$/,
  );
  await sql`grant execute on function ops.bookmark_counts to gw_monitor`;
});
