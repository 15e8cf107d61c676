import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { become, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { login, password, refresh, register } from '../../helpers/sessions.ts';

const db = useDatabase();
/** As nobody, in a transaction that is rolled back. */
const asNobody = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await become(sql, null);
    await work(sql);
  });

describe('a guest', () => {
  test('is upgraded once, and keeps tasks and session', async () => {
    await asNobody(async (sql) => {
      const [guest] = await sql<{ id: string; token: string }[]>`
        select user_id as id, refresh_token as token
        from app_public.continue_as_guest('Pacific/Apia')`;
      await become(sql, guest?.id ?? '');
      await sql`insert into app_public.tasks (title) values ('as a guest')`;
      const [upgraded] = await sql`
        select id, email, is_guest, first_name, timezone
        from app_public.upgrade_guest(' ann@example.com ', ${password}, ' Ann ')`;
      expect(upgraded).toEqual({
        id: guest?.id,
        email: 'ann@example.com',
        is_guest: false,
        first_name: 'Ann',
        timezone: 'Pacific/Apia',
      });
      expect(await sql`select title from app_public.tasks`).toEqual([{ title: 'as a guest' }]);
      await expectRefusal(
        sql,
        'GW003',
        (inner) => inner`select app_public.upgrade_guest('b@example.com', ${password}, 'Bob')`,
      );
      await become(sql, null);
      expect((await login(sql, 'ann@example.com')).userId).toBe(guest?.id);
      expect((await refresh(sql, guest?.token ?? '')).userId).toBe(guest?.id);
    });
  });

  test('cannot take the e-mail of somebody else, nor a bad password', async () => {
    await asNobody(async (sql) => {
      await register(sql, 'ann@example.com');
      const [guest] = await sql`select user_id from app_public.continue_as_guest()`;
      await become(sql, guest?.user_id);
      const upgrade = (email: string, secret: string) => (inner: Transaction) =>
        inner`select app_public.upgrade_guest(${email}, ${secret}, 'Gus')`;
      await expectRefusal(sql, '23505', upgrade('Ann@example.com', password));
      await expectRefusal(sql, 'GW002', upgrade('gus@example.com', 'seven77'));
      expect(await sql`select is_guest from app_public.users`).toEqual([{ is_guest: true }]);
    });
  });

  test('is made by nobody, upgraded by itself', async () => {
    await asNobody(async (sql) => {
      const upgrade = (inner: Transaction) =>
        inner`select app_public.upgrade_guest('a@example.com', ${password}, 'Ann')`;
      await expectRefusal(sql, '42501', upgrade);
      await sql`set local role none`;
      await sql`set local role app_user`;
      await expectRefusal(sql, 'GW001', upgrade);
      await expectRefusal(sql, '42501', (inner) => inner`select app_public.continue_as_guest()`);
    });
  });
});
