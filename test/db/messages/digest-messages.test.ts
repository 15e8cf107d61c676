import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { createUser, rolledBack, useDatabase } from '../../helpers/database.ts';
import { joinedAt, wantDigest } from '../../helpers/past.ts';
import { plan, plannedFor } from '../../helpers/planner.ts';

const db = useDatabase();

/** In a transaction with a user who wants digests and joined long ago, unless told when. */
const withReader = (
  timezone: string,
  work: (sql: Transaction, userId: string) => Promise<void>,
  joined = '2020-01-01T00:00Z',
): Promise<void> =>
  rolledBack(db.as('superuser'), async (sql) => {
    const { id } = await createUser(sql, { timezone, last_name: 'Reader' });
    await joinedAt(sql, id, joined);
    await wantDigest(sql, id);
    await work(sql, id);
  });

interface Log {
  id: string;
  status: string;
  subject: string;
  body: string;
  error: string | null;
}

const logsOf = (sql: Transaction, userId: string) => sql<Log[]>`
  select id, status, message_subject as subject, message_content as body,
    error_message as error
  from app_public.message_logs where user_id = ${userId}
  order by delivery_date, created_at`;

/** Plans the digest of a Monday in UTC as if it were then, and makes it good to be sent now. */
async function planMonday(sql: Transaction, monday: string): Promise<void> {
  expect(await plan(sql, `${monday}T08:00Z`)).toBe(1);
  await sql`update app_public.message_logs set send_until = now() + interval '1 hour'`;
}

/** Claims all jobs, as the worker would. */
const claim = (sql: Transaction, columns = ['message_subject', 'message_content']) => sql`
  select ${sql(columns)}
  from app_private.claim_messages(
    (select jsonb_agg(data || jsonb_build_object('job_id', id)) from pgboss.job
      where name = 'message-send'), 'http')`;

describe('a digest is planned', () => {
  test.each([
    ['UTC', '2026-06-15T08:00:00Z'],
    ['America/New_York', '2026-06-15T12:00:00Z'],
    ['Pacific/Kiritimati', '2026-06-14T18:00:00Z'],
    ['Pacific/Pago_Pago', '2026-06-15T19:00:00Z'],
  ])('in %s once for each Monday at 08:00', async (zone, first) => {
    await withReader(zone, async (sql, userId) => {
      const start = Date.parse('2026-06-12T00:00Z');
      await plan(sql, new Date(start).toISOString());
      for (let hours = 5; hours < 24 * 25; hours += 5) {
        const now = new Date(start + hours * 3_600_000).toISOString();
        await sql`select app_private.plan_due_messages(${now}::text::timestamptz)`;
      }
      const later = (weeks: number) =>
        new Date(Date.parse(first) + weeks * 604_800_000).toISOString().replace('.000Z', 'Z');
      expect(await plannedFor(sql, userId)).toEqual([
        { type: 'DIGEST', date: '2026-06-15', at: first },
        { type: 'DIGEST', date: '2026-06-22', at: later(1) },
        { type: 'DIGEST', date: '2026-06-29', at: later(2) },
        { type: 'DIGEST', date: '2026-07-06', at: later(3) },
      ]);
    });
  });

  test('at 08:00 also on the Monday after the clocks changed', async () => {
    await withReader('Europe/Berlin', async (sql, userId) => {
      await plan(sql, '2026-03-29T20:00Z');
      expect(await plannedFor(sql, userId)).toMatchObject([{ at: '2026-03-30T06:00:00Z' }]);
    });
  });

  test.each([
    ['on a Sunday, for the next day', '2026-06-14T23:59Z', '2026-06-15'],
    ['on a Monday, for a week later', '2026-06-15T00:00Z', '2026-06-22'],
  ])('first for who joined %s', async (_when, joined, date) => {
    await withReader(
      'UTC',
      async (sql, userId) => {
        await plan(sql, '2026-06-15T00:01Z');
        await sql`select app_private.plan_due_messages('2026-06-22T00:00Z')`;
        expect((await plannedFor(sql, userId))[0]).toMatchObject({ date });
      },
      joined,
    );
  });

  test('after a long pause as missed, and then for the next Monday', async () => {
    await withReader('UTC', async (sql, userId) => {
      await plan(sql, '2026-05-26T00:00Z');
      await sql`select app_private.replan_messages(array[${userId}::uuid], '2026-06-20T00:00Z')`;
      await sql`select app_private.plan_due_messages('2026-06-21T12:00Z')`;
      await sql`select app_private.plan_due_messages('2026-06-21T12:01Z')`;
      expect(await plannedFor(sql, userId)).toMatchObject([
        { date: '2026-06-01' },
        { date: '2026-06-22' },
      ]);
      expect(await logsOf(sql, userId)).toMatchObject([
        { status: 'EXPIRED' },
        { status: 'SCHEDULED' },
      ]);
    });
  });

  test('not for who does not want it, and comes back with the wish', async () => {
    await withReader('UTC', async (sql, userId) => {
      const wish = (wanted: boolean) => sql`
        update app_public.user_settings set weekly_digest = ${wanted}
        where user_id = ${userId}`;
      await wish(false);
      expect(await plan(sql, '2026-06-15T00:00Z')).toBe(0);
      await wish(true);
      expect(await plan(sql, '2026-06-15T00:00Z')).toBe(1);
      await wish(false);
      expect(await logsOf(sql, userId)).toMatchObject([{ status: 'CANCELED' }]);
      await wish(true);
      expect(await plan(sql, '2026-06-15T00:00Z')).toBe(1);
      expect((await logsOf(sql, userId)).map(({ status }) => status).sort()).toEqual([
        'CANCELED',
        'SCHEDULED',
      ]);
    });
  });

  test('moves to 08:00 of the new zone when the user moves', async () => {
    await withReader('Europe/Berlin', async (sql, userId) => {
      const [next] = await sql<{ monday: string }[]>`
        select (date_trunc('week', now())::date + 7)::text as monday`;
      await plan(sql, `${next?.monday}T00:00Z`);
      await sql`
        update app_public.users set timezone = 'America/New_York' where id = ${userId}`;
      const [row] = await sql`
        select status, delivery_date::text as date,
          to_char(scheduled_send_time at time zone 'America/New_York', 'YYYY-MM-DD HH24:MI')
            as local
        from app_public.message_logs where user_id = ${userId}`;
      expect(row).toEqual({
        status: 'SCHEDULED',
        date: next?.monday,
        local: `${next?.monday} 08:00`,
      });
    });
  });
});

describe('a digest that is sent', () => {
  const reflect = (sql: Transaction, userId: string, date: string, mood: number | null) => sql`
    insert into app_public.reflections (user_id, reflection_date, mood_score)
    values (${userId}, ${date}::text::date, ${mood})`;

  test('tells of the week that is over by then, and is kept', async () => {
    await withReader('UTC', async (sql, userId) => {
      await planMonday(sql, '2026-06-15');
      expect(await logsOf(sql, userId)).toMatchObject([{ subject: '', body: '' }]);
      // What was counted when the message was planned would not have these.
      await reflect(sql, userId, '2026-06-07', 5);
      await reflect(sql, userId, '2026-06-13', 4);
      await reflect(sql, userId, '2026-06-14', 3);
      expect(await claim(sql)).toEqual([
        {
          message_subject: 'Your week from 2026-06-08 to 2026-06-14',
          message_content: `Hi Test Reader, this was your week:
Reflections: 2 (week before: 1)
Mood, of 5: 3.5 (week before: 5)
`,
        },
      ]);
      expect(await logsOf(sql, userId)).toMatchObject([{ status: 'SENDING' }]);
      const kept = await sql`
        select week_start::text, content -> 'reflections' as reflections
        from app_public.digests where user_id = ${userId}`;
      expect(kept).toEqual([{ week_start: '2026-06-08', reflections: 2 }]);
    });
  });

  test.each([
    [
      'de',
      'Deine Woche vom 2026-06-08 bis 2026-06-14',
      'Gewohnheiten (Tage in Folge): Run 2/7 (1)',
    ],
    ['es-MX', 'Tu semana del 2026-06-08 al 2026-06-14', 'Hábitos (días seguidos): Run 2/7 (1)'],
    ['fr', 'Votre semaine du 2026-06-08 au 2026-06-14', 'Habitudes (jours de suite) : Run 2/7 (1)'],
    ['pt', 'Your week from 2026-06-08 to 2026-06-14', 'Habits (days in a row): Run 2/7 (1)'],
  ])('speaks the language of %s', async (locale, subject, line) => {
    await withReader('UTC', async (sql, userId) => {
      await sql`update app_public.user_settings set locale = ${locale} where user_id = ${userId}`;
      await sql`
        with habit as (
          insert into app_public.habits (user_id, name) values (${userId}, 'Run') returning id
        )
        insert into app_public.habit_logs (user_id, habit_id, log_date)
        select ${userId}, id, day
        from habit cross join unnest('{2026-06-09,2026-06-14}'::date[]) as day`;
      await planMonday(sql, '2026-06-15');
      const [message] = await claim(sql);
      expect(message?.message_subject).toBe(subject);
      expect(String(message?.message_content).split('\n').slice(1)).toEqual([line, '']);
    });
  });

  test('says the same at each attempt', async () => {
    await withReader('UTC', async (sql, userId) => {
      await planMonday(sql, '2026-06-15');
      await reflect(sql, userId, '2026-06-13', 4);
      const first = await claim(sql);
      // The worker died; meanwhile the user writes about Sunday.
      await reflect(sql, userId, '2026-06-14', 1);
      expect(await claim(sql)).toEqual(first);
      const kept = await sql`
        select content -> 'reflections' as reflections from app_public.digests
        where user_id = ${userId}`;
      expect(kept).toEqual([{ reflections: 1 }]);
    });
  });

  test('is composed also when its job does not name its type', async () => {
    await withReader('UTC', async (sql, userId) => {
      await planMonday(sql, '2026-06-15');
      await reflect(sql, userId, '2026-06-13', 4);
      await sql`update pgboss.job set data = data - 'message_type'`;
      expect((await claim(sql))[0]?.message_content).toContain('Reflections: 1');
    });
  });

  test('is not sent of a week in which nothing happened, nor planned again', async () => {
    await withReader('UTC', async (sql, userId) => {
      await planMonday(sql, '2026-06-15');
      expect(await claim(sql)).toEqual([]);
      expect(await logsOf(sql, userId)).toMatchObject([
        { status: 'CANCELED', error: 'nothing happened in that week', body: '' },
      ]);
      expect(await sql`select from pgboss.job where name = 'message-send'`).toEqual([]);
      const kept = await sql`
        select content -> 'tasks_done' as done from app_public.digests
        where user_id = ${userId}`;
      expect(kept).toEqual([{ done: 0 }]);
      // Its late window is not over.
      expect(await plan(sql, '2026-06-15T09:00Z')).toBe(0);
    });
  });

  test('is FAILED when it cannot be composed, and holds up no other', async () => {
    await withReader('UTC', async (sql, userId) => {
      const other = await createUser(sql, { timezone: 'UTC' });
      await joinedAt(sql, other.id, '2020-01-01T00:00Z');
      await wantDigest(sql, other.id);
      for (const id of [userId, other.id]) await reflect(sql, id, '2026-06-13', 4);
      expect(await plan(sql, '2026-06-15T08:00Z')).toBe(2);
      await sql`update app_public.message_logs set send_until = now() + interval '1 hour'`;
      // A receiver that may be down is not said to be well because of it.
      await sql`update app_private.delivery_channels set circuit = 'half-open',
        probe_after = now() + interval '1 minute' where name = 'http'`;
      await sql.unsafe(`alter table app_public.digests
        add constraint refused check (user_id <> '${userId}') not valid`);
      expect(await claim(sql, ['user_id'])).toEqual([{ user_id: other.id }]);
      expect(await logsOf(sql, userId)).toMatchObject([
        { status: 'FAILED', error: expect.stringMatching(/^it cannot be composed \(23514\)/) },
      ]);
      const dead = await sql`
        select data ->> 'user_id' as id from pgboss.job where name = 'message-send-dead'`;
      expect(dead).toEqual([{ id: userId }]);
      const [channel] = await sql`
        select circuit from app_private.delivery_channels where name = 'http'`;
      expect(channel).toEqual({ circuit: 'half-open' });

      await sql`alter table app_public.digests drop constraint refused`;
      await sql`select from ops.redrive_messages(p_user_id => ${userId})`;
      const [again] = await claim(sql);
      expect(again?.message_content).toContain('Reflections: 1');
    });
  });

  test('that cannot be composed holds up no other, whatever it is and wherever it stands', async () => {
    // The user's first name says what is wrong with them.
    const statusOf: Record<string, string> = {
      Ada: 'SENDING',
      Atlantis: 'QUEUED',
      Refused: 'FAILED',
      Fails: 'FAILED',
      Overflows: 'FAILED',
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...Object.keys(statusOf)), { minLength: 1, maxLength: 10 }),
        (names) =>
          rolledBack(db.as('superuser'), async (sql) => {
            await sql`insert into app_hidden.timezones values ('Atlantis/Capital')`;
            await sql.unsafe(`
              alter table app_public.message_logs add constraint own_check
                check (message_content !~ 'Refused') not valid;
              create function pg_temp.fail() returns trigger language plpgsql as $$
                begin
                  if new.message_content ~ 'Fails' then raise exception 'it fails'; end if;
                  if new.message_content ~ 'Overflows' then
                    new.retry_count := (2 ^ 31)::integer;
                  end if;
                  return new;
                end $$;
              create trigger fails before update on app_public.message_logs
                for each row execute function pg_temp.fail();`);
            const users: { id: string; name: string }[] = [];
            for (const name of names) {
              const { id } = await createUser(sql, { timezone: 'UTC', first_name: name });
              await joinedAt(sql, id, '2020-01-01T00:00Z');
              await wantDigest(sql, id);
              await reflect(sql, id, '2026-06-13', 4);
              users.push({ id, name });
            }
            expect(await plan(sql, '2026-06-15T08:00Z')).toBe(users.length);
            await sql`update app_public.message_logs set send_until = now() + interval '1 hour'`;
            await sql`set local session_replication_role = replica`;
            await sql`update app_public.users set timezone = 'Atlantis/Capital'
              where first_name = 'Atlantis'`;
            await sql`set local session_replication_role = origin`;
            const claimed = await claim(sql, ['user_id']);
            expect(claimed.map(({ user_id }) => user_id).sort()).toEqual(
              users.flatMap(({ id, name }) => (name === 'Ada' ? [id] : [])).sort(),
            );
            for (const { id, name } of users) {
              expect(await logsOf(sql, id)).toMatchObject([{ status: statusOf[name] }]);
            }
          }),
      ),
      { numRuns: 10, examples: [[Object.keys(statusOf)]] },
    );
  });

  test('is not composed for a closed account', async () => {
    await withReader('UTC', async (sql, userId) => {
      await reflect(sql, userId, '2026-06-13', 4);
      await planMonday(sql, '2026-06-15');
      await sql`set local session_replication_role = replica`;
      await sql`update app_public.users set deleted_at = now() where id = ${userId}`;
      await sql`set local session_replication_role = origin`;
      expect(await claim(sql)).toEqual([]);
      expect(await logsOf(sql, userId)).toMatchObject([
        { status: 'CANCELED', error: 'the account was closed' },
      ]);
      expect(await sql`select from app_public.digests where user_id = ${userId}`).toEqual([]);
    });
  });
});

test('no digest is planned while there is no English text for it', async () => {
  await withReader('UTC', async (sql, userId) => {
    await sql`
      delete from app_private.message_templates
      where message_type = 'DIGEST' and locale = 'en'`;
    expect(await plan(sql, '2026-06-15T08:00Z')).toBe(0);
    expect(await logsOf(sql, userId)).toEqual([]);
    await expect(
      sql.savepoint((inner) => inner`set constraints all immediate`),
    ).rejects.toMatchObject({ code: 'GW011' });
  });
});
