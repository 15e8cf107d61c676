import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildSchema, isEnumType } from 'postgraphile/graphql';
import { expect, test } from 'vitest';
import { maxWaiting } from '../../src/api/live/hub.ts';
import { maxDays } from '../../src/api/live/plugin.ts';
import { anonymousMs, defaultLimits } from '../../src/api/live/sockets.ts';
import { projectRoot } from '../../src/project.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, readPage, readTable } from '../helpers/reference.ts';

const db = useDatabase();
const schema = buildSchema(readFileSync(join(projectRoot, 'docs', 'schema.graphql'), 'utf8'));

test('every subscription is on the page', () => {
  const names = Object.keys(schema.getSubscriptionType()?.getFields() ?? {});
  expectTable(
    'live',
    'Topics',
    names.map((name) => ({ subscription: code(name) })),
  );
});

test('every event is on the page', () => {
  const type = schema.getType('ChangeEvent');
  const names = isEnumType(type) ? type.getValues().map(({ name }) => name) : [];
  expectTable(
    'live',
    'Events',
    names.map((name) => ({ event: code(name) })),
  );
});

test('the close codes are those of the errors, which are compared with the code', () => {
  const known = readTable('errors', 'Close codes of WebSockets').map((row) => row['close code']);
  const names = [...new Set(known)].map((name = '') => ({ 'close code': name }));
  expectTable('live', 'Close codes', names);
});

test('the limits are those of the page', () => {
  const limits = { ...defaultLimits, anonymousMs, maxWaiting, maxDays };
  expectTable(
    'live',
    'Limits',
    Object.entries(limits).map(([name, value]) => ({
      limit: code(name),
      value: value.toLocaleString('en'),
    })),
  );
});

test('how many rows a notification names is on the page', async () => {
  const [row] = await db.as('owner')<{ source: string }[]>`
    select prosrc as source from pg_proc
    where proname = 'notify_live' and pronamespace = 'app_private'::regnamespace`;
  const [, most] = /count\(\*\) <= (\d+)/.exec(row?.source ?? '') ?? [];
  const page = readPage('live').replaceAll('\n', ' ');
  expect(page).toContain(`More than ${most} rows of one user in a statement`);
  expect(page).toContain(`more than ${maxWaiting} that wait`);
  expect(page).toContain(`are the latest ${maxDays} days`);
});
