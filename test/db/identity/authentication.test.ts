import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { become, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { login, password, refresh, register, type Session } from '../../helpers/sessions.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();
/** As nobody, in a transaction that is rolled back. */
const asNobody = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await become(sql, null);
    await work(sql);
  });

/** Runs a statement as superuser, then is nobody again. */
async function asSuperuser<Result>(sql: Transaction, work: () => Promise<Result>) {
  await sql`set local role none`;
  const result = await work();
  await become(sql, null);
  return result;
}

/** Acts as the user of a session, as the API does for its access token. */
async function signInAs(sql: Transaction, session: Session): Promise<void> {
  await become(sql, session.userId);
  await sql`select set_config('app.current_session_id', ${session.sessionId}, true)`;
}

describe('register', () => {
  test('makes user, settings, a bcrypt hash and a session, as nobody', async () => {
    await asNobody(async (sql) => {
      const session = await register(sql, '  Ann@Example.com ');
      await sql`set local role none`;
      const [row] = await sql`
        select users.email, users.is_guest, user_settings.theme,
          left(password_hash, 7) as algorithm, length(password_hash) as length,
          password_hash = public.crypt(${password}, password_hash) as is_right
        from app_public.users
        inner join app_public.user_settings on user_settings.user_id = users.id
        inner join app_private.user_secrets on user_secrets.user_id = users.id
        where users.id = ${session.userId}`;
      expect(row).toEqual({
        email: 'Ann@Example.com',
        is_guest: false,
        theme: 'system',
        algorithm: '$2a$10$',
        length: 60,
        is_right: true,
      });
      const [times] = await sql`
        select ((${session.exp} - extract(epoch from now())) / 60)::float as access,
          extract(day from expires_at - now())::int as refresh
        from app_private.sessions where (user_id, id) = (${session.userId}, ${session.sessionId})`;
      expect(times?.access).toBeCloseTo(15, 1);
      expect(times?.refresh).toBe(30);
    });
  });

  test('refuses an e-mail that is taken, whatever its case', async () => {
    await asNobody(async (sql) => {
      await register(sql, 'ann@example.com');
      await expectRefusal(
        sql,
        '23505',
        (inner) => inner`select app_public.register('ANN@example.com', 'another one', 'Ann')`,
      );
    });
  });

  test.each([
    ['7 characters', 'seven77'],
    ['7 characters of 2 bytes', 'é'.repeat(7)],
    ['73 bytes', 'x'.repeat(73)],
    ['37 characters of 74 bytes', 'é'.repeat(37)],
    ['19 characters of 76 bytes', '🔑'.repeat(19)],
    ['nothing', ''],
  ])('refuses a password of %s', async (_what, tooBad) => {
    await asNobody(async (sql) => {
      await expectRefusal(
        sql,
        'GW002',
        (inner) => inner`select app_public.register('ann@example.com', ${tooBad}, 'Ann')`,
      );
    });
  });

  test.each([
    ['8 characters', 'eight888'],
    ['72 bytes', 'x'.repeat(72)],
    ['36 characters of 72 bytes', 'é'.repeat(36)],
  ])('accepts a password of %s', async (_what, good) => {
    await asNobody(async (sql) => {
      const { userId } = await register(sql, 'ann@example.com', good);
      expect((await login(sql, 'ann@example.com', good)).userId).toBe(userId);
    });
  });
});

describe('login', () => {
  test('opens a session of its own each time', async () => {
    await asNobody(async (sql) => {
      const first = await register(sql, 'ann@example.com');
      const second = await login(sql, ' ANN@example.com ');
      expect(second.userId).toBe(first.userId);
      expect(second.sessionId).not.toBe(first.sessionId);
      expect(second.refreshToken).not.toBe(first.refreshToken);
    });
  });

  test('answers null for an unknown e-mail and for a wrong password', async () => {
    await asNobody(async (sql) => {
      await register(sql, 'ann@example.com');
      expect((await login(sql, 'bob@example.com')).userId).toBeNull();
      expect((await login(sql, 'ann@example.com', 'wrong password')).userId).toBeNull();
      expect((await login(sql, 'ann@example.com')).userId).not.toBeNull();
    });
  });

  test('does not take the first 72 bytes of a longer password for the password', async () => {
    await asNobody(async (sql) => {
      const longest = 'x'.repeat(72);
      await register(sql, 'ann@example.com', longest);
      expect((await login(sql, 'ann@example.com', `${longest}y`)).userId).toBeNull();
      expect((await login(sql, 'ann@example.com', longest)).userId).not.toBeNull();
    });
  });

  test('takes as long for an unknown e-mail as for a wrong password', async () => {
    await asNobody(async (sql) => {
      await register(sql, 'ann@example.com');
      const median = async (email: string): Promise<number> => {
        const times: number[] = [];
        for (let run = 0; run < 5; run += 1) {
          const start = performance.now();
          await login(sql, email, 'wrong password');
          times.push(performance.now() - start);
        }
        return times.sort((a, b) => a - b)[2] ?? 0;
      };
      const known = await median('ann@example.com');
      const unknown = await median('bob@example.com');
      expect(known).toBeGreaterThan(10);
      expect(unknown / known).toBeGreaterThan(1 / 3);
      expect(unknown / known).toBeLessThan(3);
    });
  });

  test('counts a wrong password before another attempt on the account is looked at', async () => {
    const email = `${randomUUID()}@example.com`;
    const asOwner = db.as('owner');
    await db.as('superuser').begin(async (sql) => {
      await become(sql, null);
      await register(sql, email);
    });
    await asOwner`
      update app_private.user_secrets set failed_attempts = 19, last_failed_at = now()
      where user_id = (select id from app_public.users where email = ${email})`;
    const guess = Promise.withResolvers<void>();
    const counted = Promise.withResolvers<void>();
    const wrong = db.as('superuser').begin(async (sql) => {
      await become(sql, null);
      await login(sql, email, 'wrong password');
      guess.resolve();
      await counted.promise;
    });
    await guess.promise;
    const right = db.as('superuser').begin(async (sql) => {
      await become(sql, null);
      return { value: await login(sql, email) };
    });
    await eventually(async () => {
      const waiting = await asOwner`
        select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      return waiting.length > 0;
    });
    counted.resolve();
    await wrong;
    // The twentieth was wrong, so the account is locked.
    expect((await right).value.userId).toBeNull();
    await asOwner`delete from app_public.users where email = ${email}`;
  });

  test('refuses even the right password after 20 wrong ones, for 15 minutes', async () => {
    await asNobody(async (sql) => {
      const { userId } = await register(sql, 'ann@example.com');
      const fail = (times: number) => sql`
        select app_public.login('ann@example.com', 'wrong password' || number)
        from generate_series(1, ${times}) as number`;
      const moveBack = (minutes: number) =>
        asSuperuser(
          sql,
          () => sql`
            update app_private.user_secrets
            set last_failed_at = now() - make_interval(mins => ${minutes})
            where user_id = ${userId}`,
        );
      const counted = async () => {
        const [row] = await asSuperuser(
          sql,
          () => sql`select failed_attempts from app_private.user_secrets`,
        );
        return row?.failed_attempts;
      };

      await fail(2);
      expect((await login(sql, 'ann@example.com')).userId).toBe(userId);
      expect(await counted()).toBe(0);
      await fail(20);
      expect(await counted()).toBe(20);
      expect((await login(sql, 'ann@example.com')).userId).toBeNull();
      await moveBack(14);
      expect((await login(sql, 'ann@example.com')).userId).toBeNull();
      await moveBack(16);
      await fail(1);
      expect(await counted()).toBe(1);
      await asSuperuser(sql, () => sql`update app_private.user_secrets set failed_attempts = 20`);
      await moveBack(16);
      expect((await login(sql, 'ann@example.com')).userId).toBe(userId);
      expect(await counted()).toBe(0);
    });
  });

  test('does not lock other accounts', async () => {
    await asNobody(async (sql) => {
      const ann = await register(sql, 'ann@example.com');
      await register(sql, 'bob@example.com');
      await asSuperuser(
        sql,
        () => sql`
          update app_private.user_secrets set failed_attempts = 20, last_failed_at = now()
          where user_id = ${ann.userId}`,
      );
      expect((await login(sql, 'ann@example.com')).userId).toBeNull();
      expect((await login(sql, 'bob@example.com')).userId).not.toBeNull();
    });
  });
});

test('a login is remembered, a wrong password is not', async () => {
  await asNobody(async (sql) => {
    const { userId } = await register(sql, 'ann@example.com');
    const lastLogin = () =>
      asSuperuser(sql, async () => {
        const [user] = await sql`
          select last_login_at = now() as "isNow" from app_public.users where id = ${userId}`;
        return user?.isNow;
      });
    expect(await lastLogin()).toBe(true);
    await asSuperuser(sql, () => sql`update app_public.users set last_login_at = null`);
    expect(await login(sql, 'ann@example.com', 'not the password')).toMatchObject({ userId: null });
    expect(await lastLogin()).toBe(null);
    await login(sql, 'ann@example.com');
    expect(await lastLogin()).toBe(true);
  });
});

describe('a closed account', () => {
  test('can neither sign in nor stay signed in', async () => {
    await asNobody(async (sql) => {
      const session = await register(sql, 'ann@example.com');
      const close = (closed: boolean) =>
        asSuperuser(
          sql,
          () => sql`
            update app_public.users set deleted_at = ${closed ? sql`now()` : null}
            where id = ${session.userId}`,
        );
      await close(true);
      expect((await login(sql, 'ann@example.com')).userId).toBeNull();
      expect((await refresh(sql, session.refreshToken)).userId).toBeNull();
      await close(false);
      expect((await login(sql, 'ann@example.com')).userId).toBe(session.userId);
      // Opened again, the account is there; the session that was open is not.
      expect((await refresh(sql, session.refreshToken)).userId).toBeNull();
    });
  });
});

describe('secrets and sessions', () => {
  test.each(['user_secrets', 'sessions', 'spent_refresh_tokens'])(
    'keep %s from users and from nobody',
    async (table) => {
      await asNobody(async (sql) => {
        const session = await register(sql, 'ann@example.com');
        await refresh(sql, session.refreshToken);
        const read = (inner: Transaction) => inner`select from app_private.${inner(table)}`;
        await expectRefusal(sql, '42501', read);
        await signInAs(sql, session);
        await expectRefusal(sql, '42501', read);
        await sql`set local role none`;
        expect((await read(sql)).count).toBe(1);
      });
    },
  );
});
