import { expect, test } from 'vitest';
import { useDatabase } from '../../helpers/database.ts';

const db = useDatabase();

test('each rule that a user can break says in words what it demands', async () => {
  const rules = await db.as('superuser')<{ rule: string; comment: string | null }[]>`
    with writable as (
      select attrelid, array_agg(attnum) as columns from pg_attribute
      inner join pg_class on pg_class.oid = attrelid
      where relnamespace = 'app_public'::regnamespace and relkind in ('r', 'p') and attnum > 0
        and (has_column_privilege('app_user', attrelid, attnum, 'insert')
          or has_column_privilege('app_user', attrelid, attnum, 'update'))
      group by attrelid
    )
    -- A foreign key says what is not there, which is the same for all.
    select conname as rule, obj_description(pg_constraint.oid, 'pg_constraint') as comment
    from pg_constraint inner join writable on attrelid = conrelid
    where contype in ('c', 'u', 'p') and conkey && columns
    union all
    select index_class.relname, obj_description(index_class.oid, 'pg_class')
    from pg_index
    inner join writable on attrelid = indrelid
    inner join pg_class as index_class on index_class.oid = indexrelid
    where indisunique and not exists (select from pg_constraint where conindid = indexrelid)
    order by rule`;
  expect(rules.length).toBeGreaterThan(50);
  const silent = rules.filter(({ comment }) => comment === null).map(({ rule }) => rule);
  // A trigger derives what it compares.
  expect(silent).toEqual(['tasks_done_check']);
  for (const { rule, comment } of rules) {
    const words = comment?.replace(/^(@.*\n)+/, '') ?? '';
    expect(words, rule).not.toMatch(/^[A-Z]|\.$|_check|_pkey/);
    expect(words.length, rule).toBeLessThan(120);
  }
});

test('no date or time that a user may write can be infinite or before Christ', async () => {
  const columns = await db.as('superuser')<{ table: string; column: string; rules: string[] }[]>`
    select attrelid::regclass::text as table, attname as column,
      array(
        select pg_get_expr(conbin, conrelid) from pg_constraint
        where conrelid = attrelid and contype = 'c' and conkey = array[attnum]) as rules
    from pg_attribute
    inner join pg_class on pg_class.oid = attrelid
    where relnamespace = 'app_public'::regnamespace and relkind in ('r', 'p') and attnum > 0
      and atttypid in ('date'::regtype, 'timestamptz'::regtype, 'timestamp'::regtype)
      and (has_column_privilege('app_user', attrelid, attnum, 'insert')
        or has_column_privilege('app_user', attrelid, attnum, 'update'))`;
  expect(columns.length).toBeGreaterThan(6);
  const open: string[] = [];
  for (const { table, column, rules } of columns) {
    for (const value of ['infinity', '-infinity', '0044-03-15 BC']) {
      const [row] = await db.as('superuser').unsafe<{ kept: boolean }[]>(
        `select ${[...rules, 'true'].map((rule) => `(${rule})`).join(' and ')} as kept
         from (select '${value}'::timestamptz as ${column}) as given`,
      );
      if (row?.kept !== false) open.push(`${table}.${column}: ${value}`);
    }
  }
  expect(open).toEqual([]);
});
