import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { plan, plannedFor } from '../../helpers/planner.ts';

/*
 * Types that are added by rows and templates alone: one that follows a date, one that the
 * application sends.
 */
const db = useDatabase();

const asOwner = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local role gw_owner`;
    await work(sql);
  });

/** As the application, whose role is a member of gw_sender. */
async function asSender<T>(sql: Transaction, work: () => Promise<T>): Promise<T> {
  await sql`set local role none`;
  await sql`set local role gw_sender`;
  const result = await work();
  await sql`set local role none`;
  await sql`set local role gw_owner`;
  return result;
}

const claimAll = (sql: Transaction) => sql<{ subject: string; content: string; key: string }[]>`
  select message_subject as subject, message_content as content, idempotency_key as key
  from app_private.claim_messages((
    select jsonb_agg(jsonb_build_object('job_id', job_id, 'user_id', user_id, 'message_id', id,
      'scheduled_send_time', scheduled_send_time))
    from app_public.message_logs where job_id is not null), 'http')`;

describe('a type that is sent once, before a date', () => {
  const addTrial = async (sql: Transaction) => {
    await sql`
      insert into app_private.message_types
        (type, label, repeats, base_column, offset_days, send_time, cap_days)
      values ('TRIAL_ENDS', 'end of the trial', 'once', 'subscriptions.trial_ends_at', -3,
        '10:00', 30)`;
    await sql`
      insert into app_private.message_templates (message_type, locale, subject, body) values
        ('TRIAL_ENDS', 'en', 'Your trial ends in {{days}} days',
          'Hi {{first_name}}, your trial ends on {{date}}.'),
        ('TRIAL_ENDS', 'de', 'Noch {{days}} Tage', 'Hallo {{first_name}}, bis {{date}}.')`;
  };
  const trial = (sql: Transaction, id: string, ends: string, status = 'trialing') => sql`
    update app_public.subscriptions
    set status = ${status}, current_period_end = ${ends}::text::timestamptz,
      current_period_start = '2026-01-01'
    where user_id = ${id}`;

  test('is planned for its local day, follows the date, and goes when there is no trial', async () => {
    await asOwner(async (sql) => {
      await addTrial(sql);
      const { id } = await createUser(sql, { timezone: 'Europe/Paris', first_name: 'Ada' });
      await trial(sql, id, '2027-03-20T12:00:00Z');
      await plan(sql, '2027-03-16T20:00:00Z');
      const sent = (await plannedFor(sql, id)).filter(({ type }) => type === 'TRIAL_ENDS');
      expect(sent).toEqual([
        { type: 'TRIAL_ENDS', date: '2027-03-17', at: '2027-03-17T09:00:00Z' },
      ]);
      const [row] = await sql`
        select message_subject as subject, message_content as content
        from app_public.message_logs where message_type = 'TRIAL_ENDS'`;
      expect(row).toEqual({
        subject: 'Your trial ends in 3 days',
        content: 'Hi Ada, your trial ends on 2027-03-20.',
      });
      // A customer now.
      await trial(sql, id, '2027-03-20T12:00:00Z', 'active');
      const [gone] = await sql`
        select status, error_message as reason from app_public.message_logs
        where message_type = 'TRIAL_ENDS'`;
      expect(gone).toMatchObject({ status: 'CANCELED' });
    });
  });

  test('of a date that is over is not sent late', async () => {
    await asOwner(async (sql) => {
      await addTrial(sql);
      const { id } = await createUser(sql);
      await trial(sql, id, '2027-03-02T12:00:00Z');
      await plan(sql, '2027-03-16T20:00:00Z');
      expect((await plannedFor(sql, id)).filter(({ type }) => type === 'TRIAL_ENDS')).toEqual([]);
    });
  });

  test('is simulated and explained', async () => {
    await asOwner(async (sql) => {
      await addTrial(sql);
      const { id } = await createUser(sql, { timezone: 'UTC' });
      await trial(sql, id, new Date(Date.now() + 10 * 86_400_000).toISOString());
      const rows = await sql`
        select message_type, messages from ops.simulate_messages(now(), now() + interval '9 days',
          ${id}) where message_type = 'TRIAL_ENDS'`;
      expect(rows).toEqual([{ message_type: 'TRIAL_ENDS', messages: '1' }]);
      const [step] = await sql`
        select detail from ops.explain_message(${id}, 'TRIAL_ENDS',
          (now() at time zone 'UTC')::date + 7) where topic = 'occasion'`;
      expect(step?.detail).toBe("this is the day of the user's end of the trial");
    });
  });
});

describe('a date that moves', () => {
  test.each([
    [3, 0],
    [29, 0],
    [60, 1],
  ])('by %i days after its message earns %i more', async (days, more) => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { birthday_date: '1990-03-10', timezone: 'UTC' });
      await plan(sql, '2027-03-10T00:00:00Z');
      const count = async () =>
        (await plannedFor(sql, id)).filter(({ type }) => type === 'BIRTHDAY').length;
      expect(await count()).toBe(1);
      await sql`update app_public.message_logs set status = 'SENT', actual_send_time = now()`;
      await sql`
        update app_public.users set birthday_date = '1990-03-10'::date + ${days}::integer
        where id = ${id}`;
      await plan(sql, new Date(Date.UTC(2027, 2, 10 + days)).toISOString());
      expect(await count()).toBe(1 + more);
    });
  });
});

describe('a type of the application', () => {
  const schema = {
    type: 'object',
    required: ['place', 'starts'],
    additionalProperties: false,
    properties: {
      place: { type: 'string', minLength: 1, maxLength: 80 },
      starts: { type: 'string', format: 'date-time' },
      seats: { type: 'integer', minimum: 1, maximum: 9 },
      kind: { enum: ['visit', 'call'] },
      link: { type: 'string', format: 'uri' },
    },
  };
  const add = async (sql: Transaction, extra: Record<string, unknown> = {}) => {
    await sql`
      insert into app_private.message_types ${sql({
        ...{ type: 'APPOINTMENT', label: 'appointment reminder', repeats: 'event' },
        ...{ payload_schema: schema as never, opt_out_column: null },
        ...extra,
      } as never)}`;
    await sql`
      insert into app_private.message_templates (message_type, locale, subject, body) values
        ('APPOINTMENT', 'en', 'At {{place}}',
          'Hi {{first_name}}, see you at {{place}}{{#seats}} with {{seats}} seats{{/seats}}.')`;
  };
  const good = { place: 'Café {{first_name}}', starts: '2027-03-20T12:00:00Z' };
  const send = (sql: Transaction, id: string, key: string, more: Record<string, unknown> = {}) =>
    asSender(sql, async () => {
      const [row] = await sql`
        select app_hidden.send_message('APPOINTMENT', ${id}, ${key},
          ${sql.json((more.payload ?? good) as never)},
          ${(more.due as string) ?? null}::text::timestamptz,
          ${(more.local as string) ?? null}::text::timestamp) as id`;
      return row?.id as string;
    });
  const cancel = (sql: Transaction, id: string, key: string) =>
    asSender(sql, async () => {
      const [row] = await sql`
        select app_hidden.cancel_message('APPOINTMENT', ${id}, ${key}) as done`;
      return row?.done;
    });
  const logs = (sql: Transaction, id: string) => sql`
    select id, status, delivery_date::text as date, error_message as reason,
      to_char(scheduled_send_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI') as at
    from app_public.message_logs where user_id = ${id} order by created_at, at`;

  test('is sent now, once for each key, with its payload in the text', async () => {
    await asOwner(async (sql) => {
      await add(sql);
      const { id } = await createUser(sql, { first_name: 'Ada' });
      const message = await send(sql, id, 'appointment:1');
      expect(await send(sql, id, 'appointment:1')).toBe(message);
      expect(await send(sql, id, 'appointment:2', { payload: { ...good, seats: 2 } })).not.toBe(
        message,
      );
      const claimed = await claimAll(sql);
      expect([...claimed].sort((one, other) => one.content.length - other.content.length)).toEqual([
        {
          subject: 'At Café {{first_name}}',
          content: 'Hi Ada, see you at Café {{first_name}}.',
          key: `${id}:APPOINTMENT:appointment:1`,
        },
        {
          subject: 'At Café {{first_name}}',
          content: 'Hi Ada, see you at Café {{first_name}} with 2 seats.',
          key: `${id}:APPOINTMENT:appointment:2`,
        },
      ]);
    });
  });

  test('at a local time moves with the zone of the user; at an instant it does not', async () => {
    await asOwner(async (sql) => {
      await add(sql);
      const { id } = await createUser(sql, { timezone: 'Europe/Paris' });
      const year = new Date().getUTCFullYear() + (new Date().getUTCMonth() >= 5 ? 1 : 0);
      await send(sql, id, 'local', { local: `${year}-06-15T23:30` });
      await send(sql, id, 'instant', { due: `${year}-06-15T21:30:00Z` });
      expect((await logs(sql, id)).map(({ at, date }) => [at, date])).toEqual([
        [`${year}-06-15T21:30`, `${year}-06-15`],
        [`${year}-06-15T21:30`, `${year}-06-15`],
      ]);
      await sql`update app_public.users set timezone = 'America/New_York' where id = ${id}`;
      expect((await logs(sql, id)).map(({ at }) => at).sort()).toEqual([
        `${year}-06-15T21:30`,
        `${year}-06-16T03:30`,
      ]);
    });
  });

  test('is canceled by its key, which can then be used again', async () => {
    await asOwner(async (sql) => {
      await add(sql);
      const { id } = await createUser(sql);
      const first = await send(sql, id, 'k');
      expect(await cancel(sql, id, 'k')).toBe(true);
      expect(await cancel(sql, id, 'k')).toBe(false);
      expect(await claimAll(sql)).toEqual([]);
      expect(await logs(sql, id)).toMatchObject([
        { status: 'CANCELED', reason: 'canceled by the application' },
      ]);
      expect(await send(sql, id, 'k')).not.toBe(first);
      expect(await claimAll(sql)).toHaveLength(1);
      // The call is being made.
      expect(await cancel(sql, id, 'k')).toBe(false);
    });
  });

  test('is written with the new name when the user changes it, and explained', async () => {
    await asOwner(async (sql) => {
      await add(sql);
      const { id } = await createUser(sql, { first_name: 'Ada' });
      await send(sql, id, 'k', { due: new Date(Date.now() + 86_400_000).toISOString() });
      await sql`update app_public.users set first_name = 'Eve' where id = ${id}`;
      const [row] = await sql`select message_content as text from app_public.message_logs`;
      expect(row?.text).toMatch(/^Hi Eve, see you/);
      const [log] = await logs(sql, id);
      const steps = await sql`
        select topic, detail from ops.explain_message(${id}, 'APPOINTMENT', ${log?.date}::text::date)`;
      expect(steps.find(({ topic }) => topic === 'occasion')?.detail).toBe(
        'appointment reminder: sent when the application says so',
      );
      expect(steps.find(({ topic }) => topic === 'plan')?.detail).toMatch(
        /^planned as message .*, due at [^;]*$/,
      );
      expect(steps.find(({ topic }) => topic === 'state')?.detail).toBe(
        'SCHEDULED: waits for its time',
      );
    });
  });

  test('is not sent to who wants none, has no address, or is suppressed', async () => {
    await asOwner(async (sql) => {
      await add(sql, { opt_out_column: 'birthday_messages' });
      const { id, email } = await createUser(sql);
      await sql`select ops.suppress_address(${email}, 'x')`;
      await send(sql, id, '1');
      await sql`update app_public.user_settings set birthday_messages = false where user_id = ${id}`;
      await sql`
        insert into app_public.user_settings (user_id, birthday_messages) values (${id}, false)
        on conflict (user_id) do update set birthday_messages = false`;
      await send(sql, id, '2');
      expect((await logs(sql, id)).map(({ status }) => status).sort()).toEqual([
        'CANCELED',
        'SUPPRESSED',
      ]);
      expect(await claimAll(sql)).toEqual([]);
    });
  });

  test.each([
    ['payload.starts is missing', { place: 'x' }],
    ['payload.place has less than 1 characters', { ...good, place: '' }],
    ['payload.place is not of the type string', { ...good, place: 7 }],
    ['payload.starts is not an instant', { ...good, starts: 'soon' }],
    ['payload.seats is not of the type integer', { ...good, seats: 1.5 }],
    ['payload.seats is more than 9', { ...good, seats: 10 }],
    ['payload.kind is not one of', { ...good, kind: 'party' }],
    ['payload.link is not a link', { ...good, link: 'javascript:alert(1)' }],
    ['payload.more is not known', { ...good, more: 1 }],
    ['payload is not an object', []],
  ])('is refused: %s', async (problem, payload) => {
    await asOwner(async (sql) => {
      await add(sql);
      const { id } = await createUser(sql);
      await expect(
        sql.savepoint((inner) => send(inner, id, 'k', { payload })),
      ).rejects.toMatchObject({
        code: 'GW043',
        message: expect.stringContaining(problem),
      });
    });
  });

  test('is refused with another type, key, user or time, and to others', async () => {
    await asOwner(async (sql) => {
      await add(sql);
      const { id } = await createUser(sql);
      const call = (text: string) => (inner: Transaction) => inner.unsafe(`select ${text}`);
      const refused = [
        ['GW043', `app_hidden.send_message('BIRTHDAY', '${id}', 'k')`],
        ['GW040', `app_hidden.send_message('NOTHING', '${id}', 'k')`],
        [
          'GW043',
          `app_hidden.send_message('APPOINTMENT', '${id}', '', '{"place":"x","starts":"2027-03-20T12:00:00Z"}')`,
        ],
        [
          'GW043',
          `app_hidden.send_message('APPOINTMENT', gen_random_uuid(), 'k', '{"place":"x","starts":"2027-03-20T12:00:00Z"}')`,
        ],
        [
          'GW043',
          `app_hidden.send_message('APPOINTMENT', '${id}', 'k', '{"place":"x","starts":"2027-03-20T12:00:00Z"}', now() + interval '2 years')`,
        ],
        [
          'GW043',
          `app_hidden.send_message('APPOINTMENT', '${id}', 'k', '{"place":"x","starts":"2027-03-20T12:00:00Z"}', now(), localtimestamp)`,
        ],
      ] as const;
      await asSender(sql, async () => {
        for (const [code, text] of refused) await expectRefusal(sql, code, call(text));
      });
      for (const role of ['app_user', 'app_anonymous', 'gw_worker', 'gw_readonly', 'gw_support']) {
        await sql`set local role none`;
        await sql.unsafe(`set local role ${role}`);
        await expectRefusal(
          sql,
          '42501',
          call(`app_hidden.send_message('APPOINTMENT', '${id}', 'k')`),
        );
        await expectRefusal(
          sql,
          '42501',
          call(`app_hidden.cancel_message('APPOINTMENT', '${id}', 'k')`),
        );
      }
    });
  });

  test('whose schema says what nobody checks is refused', async () => {
    await asOwner(async (sql) => {
      for (const wrong of [
        { oneOf: [] },
        { properties: { 'a-b': {} } },
        { properties: { a: { type: 'string', pattern: '(' } } },
        { properties: { a: { format: 'ipv4' } } },
        [],
      ]) {
        await expectRefusal(
          sql,
          'GW042',
          (inner) => add(inner as never, { payload_schema: wrong }) as never,
        );
      }
    });
  });

  test('goes with the transaction of the caller', async () => {
    await asOwner(async (sql) => {
      await add(sql);
      const { id } = await createUser(sql);
      await sql
        .savepoint(async (inner) => {
          await send(inner, id, 'k');
          throw new Error('rolled back');
        })
        .catch(() => {});
      expect(await logs(sql, id)).toEqual([]);
    });
  });
});
