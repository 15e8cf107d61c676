import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';

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

describe('compose_message', () => {
  interface Wish {
    type?: string;
    locale?: string;
    on?: string;
    base?: string;
    first?: string;
    last?: string;
  }

  async function compose(sql: Sql | Transaction, wish: Wish = {}) {
    const { type = 'BIRTHDAY', locale = 'en', on = '2026-06-15', base = '1990-06-15' } = wish;
    const { first = 'Ann', last = 'Lee' } = wish;
    const rows = await sql<{ subject: string; body: string }[]>`
      select * from app_private.compose_message(
        ${type}, ${on}, ${base}, ${first}, ${last}, ${locale})`;
    expect(rows).toHaveLength(1);
    return { ...rows[0] };
  }

  test('takes the locale, else its language, else English', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const subject = async () => (await compose(sql, { locale: 'pt-BR' })).subject;
      expect(await subject()).toBe('Happy birthday, Ann!');
      for (const locale of ['pt', 'pt-BR']) {
        await sql`insert into app_private.message_templates (message_type, locale, subject, body)
          values ('BIRTHDAY', ${locale}, ${locale}, ${locale})`;
        expect(await subject()).toBe(locale);
      }
      // Another country's, or another language's, is not taken.
      expect((await compose(sql, { locale: 'pt-PT' })).subject).toBe('pt');
      expect((await compose(sql, { locale: 'nl' })).subject).toBe('Happy birthday, Ann!');
    });
  });

  test.each([
    ['BIRTHDAY', 'en', 'Happy birthday, Ann!'],
    ['ANNIVERSARY', 'en', 'Happy anniversary, Ann!'],
    ['BIRTHDAY', 'de-AT', 'Alles Gute zum Geburtstag, Ann!'],
    ['ANNIVERSARY', 'es', '¡Feliz aniversario, Ann!'],
    ['BIRTHDAY', 'fr', 'Joyeux anniversaire, Ann !'],
  ])('%s in %s has the subject %s', async (type, locale, subject) => {
    expect((await compose(db.as('owner'), { type, locale })).subject).toBe(subject);
  });

  test('fills in age or years, and leaves their section out in the year 1604', async () => {
    const body = async (wish: Wish) => (await compose(db.as('owner'), wish)).body;
    const locale = 'de';
    expect(await body({ locale })).toBe('Hallo Ann Lee, alles Gute zum 36. Geburtstag!');
    expect(await body({ locale, base: '1604-06-15' })).toBe(
      'Hallo Ann Lee, alles Gute zum Geburtstag!',
    );
    expect(await body({ locale, type: 'ANNIVERSARY', base: '2024-06-15' })).toBe(
      'Hallo Ann Lee, alles Gute zum 2. Jahrestag!',
    );
    // The age is that of the message's day, also where February 29 moves it.
    expect(await body({ locale, base: '2000-02-29', on: '2027-03-01' })).toContain('zum 27.');
  });

  test('takes a name as it is, and nothing for a last name that is not known', async () => {
    const first = '{{age}} <b>\\1</b> {{#age}}';
    const { subject, body } = await compose(db.as('owner'), { first, last: '' });
    expect(subject).toBe(`Happy birthday, ${first}!`);
    expect(body).toContain(`Hey, ${first}, it's your birthday`);
  });

  test('is what a planned message says, in the language of its user', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const { id } = await createUser(sql, {
        first_name: 'Ann',
        last_name: 'Lee',
        birthday_date: '1604-01-02',
      });
      await sql`update app_public.user_settings set locale = 'de-CH' where user_id = ${id}`;
      await sql`select app_private.plan_due_messages('2027-01-01 12:00+00')`;
      const [row] = await sql`
        select message_subject, message_content
        from app_public.message_logs where user_id = ${id}`;
      expect(row).toEqual({
        message_subject: 'Alles Gute zum Geburtstag, Ann!',
        message_content: 'Hallo Ann Lee, alles Gute zum Geburtstag!',
      });
    });
  });
});

describe('a template', () => {
  const insert = (type: string, subject: string, body: string) => (sql: Transaction) =>
    sql`
    insert into app_private.message_templates (message_type, locale, subject, body)
    values (${type}, 'nl', ${subject}, ${body})`;

  const known = 'first_name, last_name, full_name, age, years'.split(', ');

  test.each([
    ['every name', known.map((name) => `{{${name}}}`).join(' ')],
    ['spaces around a name', '{{ first_name }}'],
    ['sections, one in the other', '{{#age}}{{age}}{{#years}} {{years}}{{/years}}{{/age}}'],
    ['a section twice', '{{#age}}{{age}}{{/age}} {{#age}}!{{/age}}'],
    ['single and closing braces', 'a { b } }} c'],
  ])('may have %s', async (_what, text) => {
    await rolledBack(db.as('owner'), async (sql) => {
      await insert('BIRTHDAY', text, text)(sql);
    });
  });

  const wrong = [
    ['a name that no message has', '{{nickname}}'],
    ['a name in capitals', '{{First_Name}}'],
    ['no name', '{{}}'],
    ['two names', '{{first_name, last_name}}'],
    ['a section that no message has', '{{#nickname}}x{{/nickname}}'],
    ['a section that is not closed', '{{#age}}{{age}}'],
    ['a section that is not opened', '{{age}}{{/age}}'],
    ['a section that ends before it begins', '{{/age}}{{#age}}'],
    ['sections that overlap', '{{#age}}{{#years}}{{/age}}{{/years}}'],
    ['a section in itself', '{{#age}}{{#age}}{{/age}}'],
    ['spaces in the mark of a section', '{{# age }}{{age}}{{/ age }}'],
    ['braces that are not closed', '{{first_name'],
  ] as const;

  test.each(wrong)('may not have %s', async (_what, text) => {
    await rolledBack(db.as('owner'), async (sql) => {
      await expectRefusal(sql, '23514', insert('BIRTHDAY', text, 'body'));
      await expectRefusal(sql, '23514', insert('ANNIVERSARY', 'subject', text));
      await insert('BIRTHDAY', 'subject', 'body')(sql);
      await expectRefusal(
        sql,
        '23514',
        (inner) => inner`
        update app_private.message_templates set body = ${text} where locale = 'nl'`,
      );
    });
  });

  test('may not begin a section in its subject and end it in its body', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await expectRefusal(sql, '23514', insert('BIRTHDAY', '{{#age}}', '{{/age}}'));
    });
  });

  test('of a digest may have every name of its figures, and no age', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const [row] = await sql`
        select array(select key from jsonb_object_keys(app_private.digest_values(
          jsonb_build_object('tasks_created', 1, 'tasks_done', 1, 'goals_touched', 1,
            'habit_days', 1, 'reflections', 1), '', '')) as key) as names`;
      const names: string[] = row?.names;
      expect(names).toHaveLength(18);
      const text = names.map((name) => `{{#${name}}}{{${name}}}{{/${name}}}`).join(' ');
      await insert('DIGEST', 'subject', text)(sql);
      await sql`delete from app_private.message_templates where locale = 'nl'`;
      for (const wrong of ['{{age}}', '{{streak}}', '{{#tasks_done}}', '{{Tasks_done}}', '{{']) {
        await expectRefusal(sql, '23514', insert('DIGEST', 'subject', wrong));
      }
    });
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
