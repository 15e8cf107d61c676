import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  createUser,
  expectRefusal,
  type NewUser,
  rolledBack,
  useDatabase,
} from '../../helpers/database.ts';
import { bornAround, claim, explain, planned, said } from '../../helpers/message-stages.ts';

const db = useDatabase();
const asSuperuser = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), work);

const nowhere = 'Atlantis/Capital';

/** A user whose zone the server does not know: of a restore, or of an old tzdata. */
async function moveToNowhere(sql: Transaction, user: NewUser): Promise<void> {
  await sql`insert into app_hidden.timezones values (${nowhere}) on conflict do nothing`;
  await sql`set local session_replication_role = replica`;
  await sql`update app_public.users set timezone = ${nowhere} where id = ${user.id}`;
  await sql`set local session_replication_role = origin`;
}

/** Makes the server know a zone, or not. */
const know = (sql: Transaction, zone: string, isKnown: boolean) =>
  sql.unsafe(`
    create or replace function app_hidden.known_zone(p_zone text) returns text
    language sql stable strict
    as $$ select case when ${isKnown} or p_zone <> '${zone}' then p_zone end $$`);

const plan = async (sql: Transaction): Promise<number> => {
  const [row] = await sql<{ planned: number }[]>`
    select app_private.plan_due_messages() as planned`;
  return row?.planned ?? -1;
};

const statusOf = async (sql: Transaction, user: NewUser): Promise<string[]> => {
  const rows = await sql<{ status: string }[]>`
    select status from app_public.message_logs where user_id = ${user.id}`;
  return rows.map(({ status }) => status);
};

describe('a time zone that the server does not know', () => {
  test('keeps nobody else from their message', async () => {
    await asSuperuser(async (sql) => {
      const lost = await bornAround(sql, 60);
      const other = await bornAround(sql, 60);
      await moveToNowhere(sql, lost);
      expect(await plan(sql)).toBe(1);
      expect(await statusOf(sql, other)).toEqual(['SCHEDULED']);
      expect(await statusOf(sql, lost)).toEqual([]);
      expect(await sql`select name from app_private.unknown_timezones`).toEqual([
        { name: nowhere },
      ]);
      expect(await plan(sql)).toBe(0);
    });
  });

  test('does not keep the user from changing name, birthday and wishes', async () => {
    await asSuperuser(async (sql) => {
      const user = await planned(sql, 60);
      await moveToNowhere(sql, user);
      await sql`update app_public.users set first_name = 'Ada', birthday_date = '1990-01-01'
        where id = ${user.id}`;
      await sql`update app_public.user_settings set birthday_messages = false
        where user_id = ${user.id}`;
      expect(await statusOf(sql, user)).toEqual(['CANCELED']);
      await sql`update app_public.users set timezone = 'Asia/Kolkata' where id = ${user.id}`;
    });
  });

  test('leaves the instant of a planned message, and holds it when it is due', async () => {
    await asSuperuser(async (sql) => {
      const user = await planned(sql, -1);
      await moveToNowhere(sql, user);
      await sql`update app_public.users set last_name = 'Lovelace' where id = ${user.id}`;
      expect(await claim(sql, user)).toEqual([]);
      const [message] = await sql`
        select status, error_message from app_public.message_logs where user_id = ${user.id}`;
      expect(message).toMatchObject({
        status: 'QUEUED',
        error_message: expect.stringContaining("does not know the user's time zone"),
      });
      await sql`update app_public.users set timezone = 'UTC' where id = ${user.id}`;
      expect(await claim(sql, user)).toHaveLength(1);
    });
  });

  test('is what explain says, and simulate, replan and digests leave the user out', async () => {
    await asSuperuser(async (sql) => {
      const user = await bornAround(sql, 60);
      await moveToNowhere(sql, user);
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'user')[0]).toContain(`${nowhere}, which the server does not know`);
      expect(said(steps, 'plan')[0]).toContain("does not know the user's time zone");
      const found = await sql`
        select * from ops.simulate_messages(now(), now() + interval '2 days', ${user.id})`;
      expect(found).toEqual([]);
      expect(await sql`select * from ops.find_moved_messages()`).toEqual([]);
      await sql`select * from ops.replan_users()`;
      const [digests] = await sql`
        select app_private.backfill_digests(array[${user.id}]::uuid[], 3) as written`;
      expect(digests).toEqual({ written: 0 });
    });
  });

  test('can be known again: then its users are planned', async () => {
    await asSuperuser(async (sql) => {
      await know(sql, 'Asia/Kolkata', false);
      const user = await bornAround(sql, 60);
      await sql`set local session_replication_role = replica`;
      await sql`update app_public.users set timezone = 'Asia/Kolkata' where id = ${user.id}`;
      await sql`set local session_replication_role = origin`;
      await plan(sql);
      expect(await statusOf(sql, user)).toEqual([]);
      await know(sql, 'Asia/Kolkata', true);
      await plan(sql);
      expect(await sql`select * from app_private.unknown_timezones`).toEqual([]);
      const schedule = await sql`
        select message_type from app_private.message_schedule where user_id = ${user.id}`;
      expect(schedule).toEqual([{ message_type: 'BIRTHDAY' }]);
    });
  });

  test('cannot be chosen', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      await sql`insert into app_hidden.timezones values (${nowhere})`;
      await expectRefusal(
        sql,
        '23503',
        (inner) => inner`update app_public.users set timezone = ${nowhere} where id = ${user.id}`,
      );
    });
  });
});

test("a time zone is taken in any case, and stored in the server's spelling", async () => {
  await asSuperuser(async (sql) => {
    const user = await createUser(sql, { timezone: 'europe/PARIS' });
    const zone = async () =>
      (await sql`select timezone from app_public.users where id = ${user.id}`)[0]?.timezone;
    expect(await zone()).toBe('Europe/Paris');
    // A zone that has another name today.
    await sql`update app_public.users set timezone = 'asia/calcutta' where id = ${user.id}`;
    expect(await zone()).toBe('Asia/Calcutta');
    await expectRefusal(
      sql,
      '23503',
      (inner) => inner`update app_public.users set timezone = 'Mars/Base' where id = ${user.id}`,
    );
  });
});

describe('a row that cannot be planned', () => {
  /** Somebody's own constraint, a date beyond every calendar, a trigger that fails. */
  const poisons: Record<string, (sql: Transaction, user: NewUser) => Promise<unknown>> = {
    'a text that a constraint refuses': (sql, user) =>
      sql`update app_public.users set first_name = 'Poison' where id = ${user.id}`,
    'a date that has no local time': async (sql, user) => {
      await sql`alter table app_public.users drop constraint if exists users_created_at_check`;
      await sql`set local session_replication_role = replica`;
      await sql`update app_public.users
        set created_at = '294276-12-31 23:59:59+00', timezone = 'Pacific/Kiritimati'
        where id = ${user.id}`;
      await sql`set local session_replication_role = origin`;
    },
    'a zone that is not known': moveToNowhere,
    'a trigger that fails': (sql, user) =>
      sql`update app_public.users set last_name = 'Fails' where id = ${user.id}`,
  };

  const plant = async (sql: Transaction) => {
    await sql.unsafe(`
      alter table app_public.message_logs add constraint own_check
        check (message_content !~ 'Poison') not valid;
      create function pg_temp.fail() returns trigger language plpgsql as $$
        begin
          if new.message_content ~ 'Fails' then raise exception 'it fails'; end if;
          return new;
        end $$;
      create trigger fails before insert on app_public.message_logs
        for each row execute function pg_temp.fail();`);
  };

  test('is set aside by itself, wherever it stands and however many there are', async () => {
    const kinds = Object.keys(poisons);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.option(fc.constantFrom(...kinds), { freq: 3 }), {
          minLength: 1,
          maxLength: 12,
        }),
        (rows) =>
          asSuperuser(async (sql) => {
            await plant(sql);
            const users: { user: NewUser; kind: string | null }[] = [];
            for (const kind of rows) {
              const user = await bornAround(sql, 60);
              if (kind !== null) await poisons[kind]?.(sql, user);
              users.push({ user, kind });
            }
            await plan(sql);
            for (const { user, kind } of users) {
              expect([kind, await statusOf(sql, user)]).toEqual([
                kind,
                kind === null ? ['SCHEDULED'] : [],
              ]);
            }
            const [aside] = await sql`
              select count(*)::integer as users from app_private.set_aside_users`;
            expect(aside?.users).toBe(
              rows.filter((kind) => kind !== null && poisons[kind] !== moveToNowhere).length,
            );
          }),
      ),
      { numRuns: 15 },
    );
  });

  test('is tried again, and planned when the cause is gone', async () => {
    await asSuperuser(async (sql) => {
      await plant(sql);
      const user = await bornAround(sql, 60, { first_name: 'Poison' });
      expect(await plan(sql)).toBe(0);
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'plan')[0]).toMatch(/failed then.*23514/);
      await sql`alter table app_public.message_logs drop constraint own_check`;
      expect(await plan(sql)).toBe(0);
      await sql`update app_private.set_aside_users set failed_at = now() - interval '15 minutes'`;
      expect(await plan(sql)).toBe(1);
      expect(await sql`select * from app_private.set_aside_users`).toEqual([]);
    });
  });

  test('that everybody has is an error, and nobody is set aside', async () => {
    await asSuperuser(async (sql) => {
      await sql`
        with made as (
          insert into app_public.users (first_name, email, birthday_date, send_time)
          select 'Poison', 'poison' || number || '@example.com', now()::date + 1
            - interval '32 years', '00:00'
          from generate_series(1, 1100) as number
          returning id
        )
        select count(*) from made`;
      await plant(sql);
      await expectRefusal(sql, 'GW015', (inner) => plan(inner));
      expect(await sql`select * from app_private.set_aside_users`).toEqual([]);
    });
  });
});

describe('configuration that is missing', () => {
  test('of all messages stops planning before anything is written', async () => {
    await asSuperuser(async (sql) => {
      const user = await bornAround(sql, 60);
      await sql`alter table app_private.message_settings disable trigger user`;
      await sql`delete from app_private.message_settings`;
      await expectRefusal(sql, 'GW011', (inner) => plan(inner));
      await expectRefusal(
        sql,
        'GW011',
        (inner) => inner`update app_public.users set first_name = 'Ada' where id = ${user.id}`,
      );
      await sql`insert into app_private.message_settings default values`;
      expect(await plan(sql)).toBe(1);
      expect(await statusOf(sql, user)).toEqual(['SCHEDULED']);
    });
  });

  test('of one type stops that type only', async () => {
    await asSuperuser(async (sql) => {
      const [birthday] = await sql<{ day: string }[]>`
        select ((now() + interval '1 hour') at time zone 'UTC' - interval '30 years')::date::text
          as day`;
      const user = await bornAround(sql, 60);
      await sql`update app_public.users set anniversary_date = ${birthday?.day ?? ''}
        where id = ${user.id}`;
      await sql`alter table app_private.message_templates disable trigger user`;
      await sql`delete from app_private.message_templates
        where message_type = 'ANNIVERSARY' and locale = 'en'`;
      const types = async () =>
        (
          await sql`select message_type from app_public.message_logs where user_id = ${user.id}
          order by 1`
        ).map(({ message_type }) => message_type);
      await plan(sql);
      expect(await types()).toEqual(['BIRTHDAY']);
      await sql`insert into app_private.message_templates (message_type, locale, subject, body)
        values ('ANNIVERSARY', 'en', 'Hey', 'Hey')`;
      await plan(sql);
      expect(await types()).toEqual(['ANNIVERSARY', 'BIRTHDAY']);
    });
  });

  test('cannot be made by accident', async () => {
    await asSuperuser(async (sql) => {
      await expectRefusal(sql, 'GW011', (inner) => inner`delete from app_private.message_settings`);
      await expectRefusal(sql, 'GW011', (inner) => inner`truncate app_private.message_templates`);
      await expectRefusal(sql, 'GW011', async (inner) => {
        await inner`delete from app_private.message_templates
          where message_type = 'BIRTHDAY' and locale = 'en'`;
        await inner`set constraints all immediate`;
      });
      // Replaced in one transaction.
      await sql`delete from app_private.message_templates
        where message_type = 'BIRTHDAY' and locale = 'en'`;
      await sql`insert into app_private.message_templates (message_type, locale, subject, body)
        values ('BIRTHDAY', 'en', 'Hey', 'Hey')`;
      await sql`set constraints all immediate`;
    });
  });

  test('of the channel is an error, and no job is lost', async () => {
    await asSuperuser(async (sql) => {
      const user = await planned(sql, -1);
      await sql`delete from app_private.delivery_channels where name = 'http'`;
      await expectRefusal(sql, 'GW013', (inner) => claim(inner, user));
      const jobs = await sql`select state from pgboss.job where name = 'message-send'`;
      expect(jobs).toHaveLength(1);
    });
  });
});
