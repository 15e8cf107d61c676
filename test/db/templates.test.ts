import { describe, expect, test } from 'vitest';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();

describe('render_template', () => {
  const values = {
    first_name: 'Ann',
    last_name: 'Lee',
    greeting: '{{last_name}}',
    odd: '\\1 $& %s',
  };

  test.each([
    ['values', 'Hey, {{first_name}} {{last_name}}!', 'Hey, Ann Lee!'],
    ['a value at either end', '{{first_name}} and {{last_name}}', 'Ann and Lee'],
    ['a name with spaces around it', '{{ first_name }}', 'Ann'],
    ['a value twice', '{{first_name}}{{first_name}}', 'AnnAnn'],
    ['a value that looks like a template, in one pass', '{{greeting}}', '{{last_name}}'],
    ['a value full of special characters', '{{odd}}', '\\1 $& %s'],
    ['unknown names as nothing', 'a{{nobody}}b', 'ab'],
    ['an empty name as nothing', 'a{{}}b', 'ab'],
    ['unclosed braces as they are', 'a {{first_name', 'a {{first_name'],
    ['unclosed braces before a value', 'a {{ b {{first_name}}', 'a {{ b Ann'],
    ['closing braces alone as they are', 'a }} {{first_name}} }}', 'a }} Ann }}'],
    ['single braces as they are', '{first_name} {{first_name}}', '{first_name} Ann'],
    ['text without braces', 'line 1\nline 2', 'line 1\nline 2'],
  ])('renders %s', async (_what, template, wanted) => {
    const [row] = await db.as('owner')`
      select app_hidden.render_template(${template}, ${db.as('owner').json(values)}) as text`;
    expect(row?.text).toBe(wanted);
  });
});

describe('month_day', () => {
  test.each([
    ['2028-02-29', 229],
    ['1604-02-29', 229],
    ['2027-02-28', 228],
    ['2026-12-31', 1231],
    ['2026-01-01', 101],
    [null, null],
  ])('of %s is %s', async (date, wanted) => {
    const [row] = await db.as('owner')`
      select app_hidden.month_day(${date}::text::date) as number`;
    expect(row?.number).toBe(wanted);
  });
});
