import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  rolledBack,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';
import { insertText } from '../../helpers/insert-text.ts';

const db = useDatabase();
const { asSuperuser } = transactionsOf(db);

/** What comes of a user with these columns. */
const tryUser = (sql: Transaction, columns: Record<string, string | null>): Promise<string> =>
  insertText(sql, 'app_public.users', {
    email: 'test@example.com',
    first_name: 'Test',
    ...columns,
  });

describe('the time zone of a user', () => {
  test.each([
    'America/Argentina/Buenos_Aires',
    'America/Port-au-Prince',
    'UTC',
    'Etc/GMT+12',
    'Asia/Kathmandu',
  ])('may be %s', async (timezone) => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql, { timezone });
      const [row] = await sql`
        select timezone from app_public.users where id = ${user.id}`;
      expect(row?.timezone).toBe(timezone);
    });
  });

  test.each(['Mars/Olympus', 'EST5EDT4,M3.2.0,M11.1.0', '+02:00', 'posix/UTC', ''])(
    'may not be "%s"',
    async (timezone) => {
      await asSuperuser(async (sql) => {
        expect(await tryUser(sql, { timezone })).toBe('23503 users_timezone_fkey');
      });
    },
  );

  test('may be written in any case', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql, { timezone: 'america/NEW_york' });
      const [row] = await sql`
        select timezone from app_public.users where id = ${user.id}`;
      expect(row?.timezone).toBe('America/New_York');
    });
  });

  test('a user cannot move to a zone that does not exist', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      await become(sql, user.id);
      await sql`update app_public.users set timezone = 'Pacific/Apia'`;
      await expectRefusal(
        sql,
        '23503',
        (inner) => inner`update app_public.users set timezone = 'Mars/Olympus'`,
      );
    });
  });
});

describe('the columns of a user', () => {
  test.each<[what: string, columns: Record<string, string | null>, constraint: string]>([
    ['an account without e-mail that is no guest', { email: null }, 'users_guest_email_check'],
    ['a guest with an e-mail', { is_guest: 'true' }, 'users_guest_email_check'],
    ['an e-mail without @', { email: 'ann.example.com' }, 'users_email_check'],
    ['an e-mail without a dot in its domain', { email: 'ann@localhost' }, 'users_email_check'],
    ['an e-mail with a space', { email: 'ann lee@example.com' }, 'users_email_check'],
    ['an e-mail with a line break', { email: 'ann@example.com\n' }, 'users_email_check'],
    [
      'an e-mail of 255 characters',
      { email: `${'a'.repeat(243)}@example.com` },
      'users_email_check',
    ],
    ['an empty first name', { first_name: '' }, 'users_first_name_check'],
    ['a first name of 101 characters', { first_name: 'é'.repeat(101) }, 'users_first_name_check'],
    ['a first name with a line break', { first_name: 'Ann\nLee' }, 'users_first_name_check'],
    ['a first name with a bell', { first_name: 'Ann\u0007' }, 'users_first_name_check'],
    ['a first name with a C1 control', { first_name: 'Ann\u0085' }, 'users_first_name_check'],
    ['a last name with a tab', { last_name: 'Lee\t' }, 'users_last_name_check'],
    ['a last name of 101 characters', { last_name: 'é'.repeat(101) }, 'users_last_name_check'],
    ['a birthday before 1604', { birthday_date: '1603-12-31' }, 'users_birthday_date_check'],
    ['a birthday of infinity', { birthday_date: 'infinity' }, 'users_birthday_date_check'],
    ['an anniversary of BC', { anniversary_date: '0044-03-15 BC' }, 'users_anniversary_date_check'],
    ['a send_time of 24:00', { send_time: '24:00' }, 'users_send_time_check'],
    ['an unknown leap_day_policy', { leap_day_policy: 'feb29' }, 'users_leap_day_policy_check'],
    ['a city of 101 characters', { location_city: 'x'.repeat(101) }, 'users_location_city_check'],
    [
      'a country of 101 letters',
      { location_country: 'x'.repeat(101) },
      'users_location_country_check',
    ],
  ])('refuse %s', async (_what, columns, constraint) => {
    await asSuperuser(async (sql) => {
      expect(await tryUser(sql, columns)).toBe(`23514 ${constraint}`);
    });
  });

  test.each<[what: string, columns: Record<string, string | null>]>([
    ['a guest without e-mail', { email: null, is_guest: 'true' }],
    ['an e-mail of 254 characters', { email: `${'a'.repeat(242)}@example.com` }],
    ['names of 100 characters', { first_name: 'é'.repeat(100), last_name: '名'.repeat(100) }],
    ['the last second of a day', { send_time: '23:59:59.999999' }],
    ['midnight', { send_time: '00:00' }],
    ['a birthday on a leap day without a known year', { birthday_date: '1604-02-29' }],
  ])('accept %s', async (_what, columns) => {
    await asSuperuser(async (sql) => {
      expect(await tryUser(sql, columns)).toBe('accepted');
    });
  });
});

describe('the e-mail of a user', () => {
  test('is unique among open accounts, whatever the case', async () => {
    await asSuperuser(async (sql) => {
      await createUser(sql, { email: 'ann@example.com' });
      expect(await tryUser(sql, { email: 'ANN@example.com' })).toBe(
        '23505 users_email_key_where_open',
      );
    });
  });

  test('is free again after the account was closed, but the account cannot come back', async () => {
    await asSuperuser(async (sql) => {
      const first = await createUser(sql, { email: 'ann@example.com' });
      await sql`update app_public.users set deleted_at = now() where id = ${first.id}`;
      await createUser(sql, { email: 'Ann@example.com' });
      await expectRefusal(
        sql,
        '23505',
        (inner) => inner`update app_public.users set deleted_at = null where id = ${first.id}`,
      );
    });
  });
});

describe('what users may do to themselves', () => {
  test('see their own row, and none once the account is closed', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      await createUser(sql);
      await become(sql, user.id);
      expect(await sql`select id from app_public.users`).toEqual([{ id: user.id }]);
      expect(await sql`select (app_public.viewer()).id`).toEqual([{ id: user.id }]);
      await sql`set local role none`;
      await sql`update app_public.users set deleted_at = now() where id = ${user.id}`;
      await become(sql, user.id);
      expect(await sql`select id from app_public.users`).toEqual([]);
      const changed = await sql`update app_public.users set first_name = 'Ghost'`;
      expect(changed.count).toBe(0);
      expect(await sql`select (app_public.viewer()).id`).toEqual([{ id: null }]);
      await sql`set local role none`;
      const [row] = await sql`select count(*)::int from app_public.users`;
      expect(row?.count).toBe(2);
    });
  });

  test.each([
    'id',
    'email',
    'email_verified',
    'is_guest',
    'created_at',
    'updated_at',
    'last_login_at',
    'deleted_at',
  ])('not write %s', async (column) => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      await become(sql, user.id);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`update app_public.users set ${inner(column)} = ${inner(column)}`,
      );
      expect(await sql`select id from app_public.users`).toEqual([{ id: user.id }]);
    });
  });
});

describe('the timestamps of a user', () => {
  test('cannot be changed afterwards, not even by the owner of the table', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const forged = '2001-01-01T00:00:00Z';
      const user = await createUser(sql);
      await sql`
        update app_public.users set created_at = ${forged}, updated_at = ${forged}
        where id = ${user.id}`;
      const [row] = await sql`
        select created_at = now() as "isCreatedNow", updated_at >= now() as "isUpdatedNow"
        from app_public.users where id = ${user.id}`;
      expect(row).toEqual({ isCreatedNow: true, isUpdatedNow: true });
    });
  });

  test('are those that a loader brings along', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const [old, later] = ['2001-01-01T00:00:00Z', '2002-02-02T00:00:00Z'];
      const loaded = await createUser(sql, { created_at: old, updated_at: later });
      const created = await createUser(sql, { created_at: old });
      const rows = await sql`
        select created_at, case when updated_at = now() then 'now' else updated_at::text end
        from app_public.users where id in (${loaded.id}, ${created.id}) order by updated_at`;
      expect(rows).toEqual([
        { created_at: new Date(old), updated_at: '2002-02-02 00:00:00+00' },
        { created_at: new Date(old), updated_at: 'now' },
      ]);
    });
  });

  test('tell every version apart, even within one transaction', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      const versions: string[] = [];
      await become(sql, user.id);
      for (const name of ['Ann', 'Bob', 'Bob', 'Cid']) {
        const [row] = await sql<{ updated_at: string }[]>`
          update app_public.users set first_name = ${name} returning updated_at::text`;
        versions.push(row?.updated_at ?? '');
      }
      const [ordered] = await sql`
        select array_agg(distinct version order by version) = ${versions}::text[]::timestamptz[] as is
        from unnest(${versions}::text[]::timestamptz[]) as version`;
      expect(ordered?.is).toBe(true);
    });
  });
});
