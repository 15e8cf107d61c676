import { expect, test } from 'vitest';
import { createUser, rolledBack, useDatabase } from '../helpers/database.ts';
import { code, expectTable, readPage, readTable } from '../helpers/reference.ts';

const db = useDatabase();
const inCode = (names: readonly string[]): string => names.map(code).join(', ');

test('every message type is in the reference', async () => {
  const types = await db.as('owner')<
    {
      type: string;
      label: string;
      repeats: string;
      base: string;
      time: string | null;
      optOut: string | null;
    }[]
  >`
    select type, label, repeats, base_column as base, to_char(send_time, 'HH24:MI') as time,
      opt_out_column as "optOut"
    from app_private.message_types`;
  expectTable(
    'messages',
    'Types',
    types.map(({ type, label, repeats, base, time, optOut }) => ({
      type: code(type),
      label,
      repeats,
      'date from': code(base),
      'sent at': time ?? code('send_time'),
      'turned off by': optOut === null ? 'nobody' : code(optOut),
    })),
  );
});

/** Columns by which users say when and what they want; the others say nothing of messages. */
const columnsOfMessages = [
  ...['timezone', 'birthday_date', 'anniversary_date', 'send_time', 'leap_day_policy'],
  ...['birthday_messages', 'anniversary_messages', 'weekly_digest', 'locale'],
  ...['quiet_from', 'quiet_until'],
];

test('the settings of a user are in the reference, with their defaults', async () => {
  const columns = await db.as('owner')<{ name: string; value: string; comment: string }[]>`
    select attname as name, coalesce(pg_get_expr(adbin, adrelid), 'null') as value,
      col_description(attrelid, attnum) as comment
    from pg_attribute
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid in ('app_public.users'::regclass, 'app_public.user_settings'::regclass)
      and attname = any (${columnsOfMessages})`;
  expectTable(
    'messages',
    'Settings of a user',
    columns.map(({ name, value, comment }) => ({
      column: code(name),
      default: code(value.replace(/::.*$/, '').replaceAll("'", '')),
      means: comment,
    })),
  );
  const optOuts = readTable('messages', 'Types').map((row) => row['turned off by']);
  expect(columnsOfMessages.map(code)).toEqual(expect.arrayContaining(optOuts));
});

test('every status is in the reference', async () => {
  const [row] = await db.as('owner')<{ rule: string }[]>`
    select pg_get_constraintdef(oid) as rule from pg_constraint
    where conname = 'message_logs_status_check' and conrelid = 'app_public.message_logs'::regclass`;
  const statuses = [...(row?.rule ?? '').matchAll(/'([A-Z]+)'/g)].map(([, name = '']) => name);
  const shown = readTable('messages', 'Statuses').map(({ status }) => status);
  expect(shown).toEqual(statuses.map(code));
});

test('the late window is that of the reference', async () => {
  const [row] = await db.as('owner')<{ hours: number }[]>`
    select extract(epoch from late_window)::integer / 3600 as hours
    from app_private.message_settings`;
  expect(readPage('messages')).toContain(`\`app_private.message_settings\`: ${row?.hours} hours`);
});

test('what a template can name is in the reference', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    const rows: { repeats: string; names: string }[] = [];
    for (const [type, repeats] of [
      ['BIRTHDAY', 'yearly'],
      ['DIGEST', 'weekly'],
    ] as const) {
      const refusal = sql.savepoint(
        (inner) => inner`
          insert into app_private.message_templates (message_type, locale, subject, body)
          values (${type}, 'xx', 'x', '{{nothing}}')`,
      );
      const error = await refusal.then(
        () => ({ code: '', hint: '' }),
        (thrown: { code: string; hint: string }) => thrown,
      );
      expect(error.code).toBe('23514');
      const names = error.hint.replace(/^It knows: |\.$/g, '').split(', ');
      rows.push({ repeats, names: inCode(names) });
    }
    expectTable('messages', 'Templates', rows);
    const [row] = await sql<{ locales: string[] }[]>`
      select array_agg(distinct locale order by locale) as locales
      from app_private.message_templates`;
    expect(readPage('messages')).toContain(`come with the schema: ${inCode(row?.locales ?? [])}.`);
  });
});

test('the content of a digest is that of the reference', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    const { id } = await createUser(sql, { created_at: '2026-01-01' });
    const [row] = await sql<{ content: Record<string, unknown> }[]>`
      select content from app_private.digest_contents(array[${id}::uuid], '{2026-06-08}')`;
    const keys = Object.keys(row?.content ?? {});
    expectTable(
      'messages',
      'Digests',
      keys.map((key) => ({ 'key of content': code(key) })),
    );
    const [, example = ''] = /```json\n(\{"week_start[^`]*)```/.exec(readPage('messages')) ?? [];
    expect(Object.keys(JSON.parse(example) as object).sort()).toEqual(keys.sort());
  });
});
