import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { become, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { login, refresh, register, type Session } from '../../helpers/sessions.ts';

const db = useDatabase();
const asNobody = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await become(sql, null);
    await work(sql);
  });

/** Work of the API in a transaction of its own, committed. */
async function commit<Result>(
  userId: string | null,
  work: (sql: Transaction) => Promise<Result>,
): Promise<Result> {
  const result = await db.as('authenticator').begin(async (sql) => {
    await sql`select app_private.set_app_user(${userId})`;
    await sql.unsafe(`set local role ${userId === null ? 'app_anonymous' : 'app_user'}`);
    return { value: await work(sql) };
  });
  return result.value as Result;
}

const registerCommitted = (): Promise<Session> =>
  commit(null, (sql) => register(sql, `${randomUUID()}@example.com`));

/** Why each session of a user ended, null while it lives, oldest first. */
async function endings(sql: Transaction, userId: string): Promise<(string | null)[]> {
  await sql`set local role none`;
  const rows = await sql`
    select revoked_reason from app_private.sessions where user_id = ${userId}
    order by created_at, id`;
  await become(sql, null);
  return rows.map((row) => row.revoked_reason as string | null);
}

describe('refresh_session', () => {
  test('exchanges a token for another of the same session', async () => {
    await asNobody(async (sql) => {
      const first = await register(sql, 'ann@example.com');
      const second = await refresh(sql, first.refreshToken);
      expect(second).toMatchObject({ userId: first.userId, sessionId: first.sessionId });
      expect(second.refreshToken).not.toBe(first.refreshToken);
      // The times of a sign-in begin anew.
      await sql`set local role none`;
      const [lives] = await sql`
        select ${second.exp} - extract(epoch from now())::int as access,
          extract(epoch from expires_at - now())::int as refresh
        from app_private.sessions where id = ${first.sessionId}`;
      expect(lives).toEqual({ access: 15 * 60, refresh: 30 * 86_400 });
      await become(sql, null);
      const third = await refresh(sql, second.refreshToken);
      expect(third.sessionId).toBe(first.sessionId);
    });
  });

  test('ends the session, and only that, when a token comes back', async () => {
    await asNobody(async (sql) => {
      const stolen = await register(sql, 'ann@example.com');
      const other = await login(sql, 'ann@example.com');
      const thief = await refresh(sql, stolen.refreshToken);
      expect((await refresh(sql, stolen.refreshToken)).userId).toBeNull();
      expect((await refresh(sql, thief.refreshToken)).userId).toBeNull();
      expect((await refresh(sql, other.refreshToken)).userId).toBe(stolen.userId);
      const reasons = await endings(sql, stolen.userId);
      expect(new Set(reasons)).toEqual(new Set(['reuse', null]));
    });
  });

  test('notices a token that was spent several exchanges ago', async () => {
    await asNobody(async (sql) => {
      const first = await register(sql, 'ann@example.com');
      let latest = first;
      for (let turn = 0; turn < 3; turn += 1) latest = await refresh(sql, latest.refreshToken);
      expect((await refresh(sql, first.refreshToken)).userId).toBeNull();
      expect((await refresh(sql, latest.refreshToken)).userId).toBeNull();
    });
  });

  test('answers null for a token that never was, and ends nothing', async () => {
    await asNobody(async (sql) => {
      const session = await register(sql, 'ann@example.com');
      for (const token of ['', 'x', session.refreshToken.toUpperCase()]) {
        expect((await refresh(sql, token)).userId).toBeNull();
      }
      expect(await endings(sql, session.userId)).toEqual([null]);
    });
  });

  test('begins the thirty days of a session anew', async () => {
    await asNobody(async (sql) => {
      const session = await register(sql, 'ann@example.com');
      await sql`set local role none`;
      await sql`update app_private.sessions set expires_at = now() + interval '1 day'`;
      await become(sql, null);
      await refresh(sql, session.refreshToken);
      await sql`set local role none`;
      const rows = await sql`
        select extract(day from expires_at - now())::int as days from app_private.sessions
        where id = ${session.sessionId}`;
      expect(rows).toEqual([{ days: 30 }]);
    });
  });

  test('refuses a closed account, even where its session has not ended', async () => {
    await asNobody(async (sql) => {
      const session = await register(sql, 'ann@example.com');
      await sql`set local role none`;
      // Without the trigger that ends sessions.
      await sql`set local session_replication_role = replica`;
      await sql`update app_public.users set deleted_at = now()`;
      expect(await endings(sql, session.userId)).toEqual([null]);
      expect((await refresh(sql, session.refreshToken)).userId).toBeNull();
    });
  });

  test('refuses a session that has expired', async () => {
    await asNobody(async (sql) => {
      const session = await register(sql, 'ann@example.com');
      const expireAt = async (seconds: number) => {
        await sql`set local role none`;
        await sql`update app_private.sessions
          set expires_at = now() + make_interval(secs => ${seconds})`;
        await become(sql, null);
      };
      await expireAt(0);
      expect((await refresh(sql, session.refreshToken)).userId).toBeNull();
      await expireAt(1);
      expect((await refresh(sql, session.refreshToken)).userId).toBe(session.userId);
    });
  });

  test('keeps tokens as SHA-256 only', async () => {
    await asNobody(async (sql) => {
      const first = await register(sql, 'ann@example.com');
      const { refreshToken } = await refresh(sql, first.refreshToken);
      await sql`set local role none`;
      for (const token of [first.refreshToken, refreshToken]) {
        const [found] = await sql`
          select count(*) filter (where content like '%' || ${token} || '%')::int as plain,
            count(*) filter (where content
              like '%' || encode(convert_to(${token}, 'UTF8'), 'hex') || '%')::int as encoded,
            count(*) filter (where content
              like '%' || encode(sha256(convert_to(${token}, 'UTF8')), 'hex') || '%')::int as hashed
          from (
            select sessions::text from app_private.sessions
            union all
            select spent::text from app_private.spent_refresh_tokens as spent
          ) as rows (content)`;
        expect(found).toEqual({ plain: 0, encoded: 0, hashed: 1 });
      }
    });
  });

  test('lets one of two calls at once win, and then ends the session', async () => {
    const session = await registerCommitted();
    const answers = await Promise.all(
      [1, 2].map(() => commit(null, (sql) => refresh(sql, session.refreshToken))),
    );
    const winners = answers.filter(({ userId }) => userId !== null);
    expect(winners).toHaveLength(1);
    const [row] = await db.as('owner')`
      select revoked_reason from app_private.sessions
      where (user_id, id) = (${session.userId}, ${session.sessionId})`;
    expect(row?.revoked_reason).toBe('reuse');
    const again = await commit(null, (sql) => refresh(sql, winners[0]?.refreshToken ?? ''));
    expect(again.userId).toBeNull();
  });
});

describe('logout', () => {
  const signOut = async (sql: Transaction, session: Session, everywhere: boolean) => {
    await become(sql, session.userId);
    await sql`select set_config('app.current_session_id', ${session.sessionId}, true)`;
    const [row] = await sql`select app_public.logout(${everywhere}) as ended`;
    await become(sql, null);
    return row?.ended;
  };

  test('ends this session and no other', async () => {
    await asNobody(async (sql) => {
      const here = await register(sql, 'ann@example.com');
      const there = await login(sql, 'ann@example.com');
      const other = await register(sql, 'bob@example.com');
      expect(await signOut(sql, here, false)).toBe(1);
      expect(await signOut(sql, here, false)).toBe(0);
      expect((await refresh(sql, here.refreshToken)).userId).toBeNull();
      expect((await refresh(sql, there.refreshToken)).userId).toBe(here.userId);
      expect((await refresh(sql, other.refreshToken)).userId).toBe(other.userId);
    });
  });

  test('everywhere ends all sessions of the user, and of nobody else', async () => {
    await asNobody(async (sql) => {
      const here = await register(sql, 'ann@example.com');
      await login(sql, 'ann@example.com');
      const other = await register(sql, 'bob@example.com');
      expect(await signOut(sql, here, true)).toBe(2);
      expect(await endings(sql, here.userId)).toEqual(['logout', 'logout']);
      expect(await endings(sql, other.userId)).toEqual([null]);
    });
  });

  test("cannot end another user's session by its id", async () => {
    await asNobody(async (sql) => {
      const victim = await register(sql, 'ann@example.com');
      const other = await register(sql, 'bob@example.com');
      const ended = await signOut(sql, { ...other, sessionId: victim.sessionId }, false);
      expect(ended).toBe(0);
      expect(await endings(sql, victim.userId)).toEqual([null]);
    });
  });

  test('is for users only', async () => {
    await asNobody(async (sql) => {
      const logout = (inner: Transaction) => inner`select app_public.logout()`;
      await expectRefusal(sql, '42501', logout);
      await sql`set local role none`;
      await sql`set local role app_user`;
      await expectRefusal(sql, 'GW001', logout);
    });
  });

  test('tells every API process which session ended', async () => {
    const session = await registerCommitted();
    const ended: string[] = [];
    const told = Promise.withResolvers<void>();
    const { unlisten } = await db.as('authenticator').listen('gw_session_revoked', (id) => {
      ended.push(id);
      if (id === session.sessionId) told.resolve();
    });
    await commit(session.userId, (sql) => sql`select app_public.logout(true)`);
    await told.promise;
    await unlisten();
    expect(ended.filter((id) => id === session.sessionId)).toHaveLength(1);
    const recent = await db.as('authenticator')`
      select id from app_private.recently_revoked_sessions() as id`;
    expect(recent.map(({ id }) => id)).toContain(session.sessionId);
  });
});

test('an ended session is remembered for as long as its access token lives', async () => {
  await asNobody(async (sql) => {
    const { userId, sessionId } = await register(sql, 'ann@example.com');
    await sql`set local role none`;
    const isRemembered = async (ago: string) => {
      await sql`update app_private.sessions
        set revoked_at = now() - ${ago}::text::interval, revoked_reason = 'logout'
        where user_id = ${userId}`;
      const rows = await sql`select id from app_private.recently_revoked_sessions() as id`;
      return rows.some(({ id }) => id === sessionId);
    };
    expect(await isRemembered('15 minutes')).toBe(true);
    expect(await isRemembered('16 minutes')).toBe(true);
    expect(await isRemembered('1 hour')).toBe(false);
  });
});

describe('delete_expired_rows', () => {
  test('deletes what ended more than a week ago, with its spent tokens', async () => {
    await asNobody(async (sql) => {
      const old = await register(sql, 'ann@example.com');
      await refresh(sql, old.refreshToken);
      const recent = await login(sql, 'ann@example.com');
      await sql`set local role none`;
      await sql`
        update app_private.sessions set expires_at = now() - case
          when id = ${old.sessionId} then interval '7 days 1 second' else interval '6 days' end`;
      const [deleted] = await sql`select ops.delete_expired_rows()::int as count`;
      expect(deleted?.count).toBe(1);
      const left = await sql`
        select id from app_private.sessions where user_id = ${old.userId}`;
      expect(left).toEqual([{ id: recent.sessionId }]);
      const spent = await sql`
        select from app_private.spent_refresh_tokens where user_id = ${old.userId}`;
      expect(spent).toHaveLength(0);
    });
  });
});
