import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createLog } from '../../../src/log.ts';
import { unsubscribeLinks } from '../../../src/messages/unsubscribe-links.ts';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { HttpChannel } from '../../../src/worker/channels/http.ts';
import { startWorker, type Worker } from '../../../src/worker/worker.ts';
import { jwtSecret, useApi } from '../../helpers/api.ts';
import { Checkout } from '../../helpers/checkout.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { explain, said, setWishes } from '../../helpers/message-stages.ts';
import { hurryQueue, logOf } from '../../helpers/messages.ts';
import { joinedAt } from '../../helpers/past.ts';
import { patience } from '../../helpers/patience.ts';
import { plan, plannedFor } from '../../helpers/planner.ts';
import { Vendor } from '../../helpers/vendor.ts';
import { eventually } from '../../helpers/wait.ts';

/** All that a new type is: the day on which somebody joined, in their zone. */
const addMembership = async (sql: Transaction) => {
  await sql`
    insert into app_private.message_types (type, label, base_column, send_time, opt_out_column)
    values ('MEMBERSHIP', 'membership day', 'created_at', '10:30', 'anniversary_messages')`;
  await sql`
    insert into app_private.message_templates (message_type, locale, subject, body)
    values ('MEMBERSHIP', 'en', 'Thank you, {{first_name}}!',
      'You have been with us for {{years}} years.')`;
};

const membershipOf = (messages: { type: string }[]) =>
  messages.filter(({ type }) => type === 'MEMBERSHIP');

describe('a new message type', () => {
  const db = useDatabase();
  const asSuperuser = (work: (sql: Transaction) => Promise<void>) =>
    rolledBack(db.as('superuser'), async (sql) => {
      await addMembership(sql);
      await work(sql);
    });

  /** Somebody who joined on June 15 in Los Angeles, when it was June 16 in UTC. */
  async function createMember(sql: Transaction): Promise<string> {
    const { id } = await createUser(sql, { timezone: 'America/Los_Angeles', first_name: 'Ann' });
    await joinedAt(sql, id, '2020-06-16T05:00Z');
    return id;
  }

  test('is planned for its instant in the zone of the user, and composed', async () => {
    await asSuperuser(async (sql) => {
      const id = await createMember(sql);
      await plan(sql, '2027-06-15T00:00Z');
      expect(membershipOf(await plannedFor(sql, id))).toEqual([
        { type: 'MEMBERSHIP', date: '2027-06-15', at: '2027-06-15T17:30:00Z' },
      ]);
      const [text] = await sql`
        select message_subject, message_content from app_public.message_logs
        where user_id = ${id} and message_type = 'MEMBERSHIP'`;
      expect(text).toEqual({
        message_subject: 'Thank you, Ann!',
        message_content: 'You have been with us for 7 years.',
      });
    });
  });

  test('is explained and simulated, as it is and with another wish', async () => {
    await asSuperuser(async (sql) => {
      const id = await createMember(sql);
      const steps = await explain(sql, id, '2027-06-15', 'MEMBERSHIP');
      expect(said(steps, 'occasion')).toEqual(["this is the user's membership day of 2027"]);
      expect(steps.find(({ topic }) => topic === 'instant')?.at).toEqual(
        new Date('2027-06-15T17:30:00Z'),
      );
      expect(said(await explain(sql, id, '2027-06-16', 'MEMBERSHIP'), 'occasion')).toEqual([
        "this is not the user's membership day: that of 2027 is on 2027-06-15",
      ]);
      const simulate = (changes: Record<string, string>) => sql`
        select message_type, difference from ops.simulate_messages(
          '2027-06-15', '2027-06-16', ${id}, ${sql.json(changes)})`;
      expect(await simulate({})).toEqual([{ message_type: 'MEMBERSHIP', difference: null }]);
      expect(await simulate({ anniversary_messages: 'false' })).toEqual([
        { message_type: 'MEMBERSHIP', difference: 'before' },
      ]);
    });
  });

  test('is canceled by opting out, and comes back by opting in', async () => {
    await asSuperuser(async (sql) => {
      const id = await createMember(sql);
      const [soon] = await sql`
        select now() at time zone 'America/Los_Angeles' + interval '6 hours' as at`;
      await sql`
        update app_private.message_types set send_time = ${soon?.at}::timestamp::time
        where type = 'MEMBERSHIP'`;
      const [joined] = await sql`
        select (case to_char(${soon?.at}::timestamp, 'MM-DD') when '02-29' then '2020' else '2021' end
          || to_char(${soon?.at}::timestamp, '-MM-DD') || ' 12:00')::timestamp
          at time zone 'America/Los_Angeles' as at`;
      await joinedAt(sql, id, joined?.at.toISOString());
      await sql`select app_private.schedule_messages(array[${id}::uuid])`;
      await sql`select app_private.plan_due_messages()`;
      const statuses = async () => {
        const rows = await sql`
          select status from app_public.message_logs
          where user_id = ${id} and message_type = 'MEMBERSHIP' order by created_at, status`;
        return rows.map(({ status }) => status);
      };
      expect(await statuses()).toEqual(['SCHEDULED']);
      await setWishes(sql, id, { anniversary_messages: false });
      expect(await statuses()).toEqual(['CANCELED']);
      await setWishes(sql, id, { anniversary_messages: true });
      await sql`select app_private.plan_due_messages()`;
      expect(await statuses()).toEqual(['CANCELED', 'SCHEDULED']);
    });
  });

  test('reaches users who were there before it, so many a tick', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const ids = [];
      for (let number = 0; number < 5; number += 1) ids.push(await createMember(sql));
      await addMembership(sql);
      const reached = async () => {
        const [row] = await sql`
          select count(*)::integer from app_private.message_schedule
          where message_type = 'MEMBERSHIP'`;
        return row?.count;
      };
      for (const wanted of [2, 4, 5, 5]) {
        await sql`select app_private.replan_message_types(now(), 2)`;
        expect(await reached()).toBe(wanted);
      }
      const [type] = await sql`
        select replan_after from app_private.message_types where type = 'MEMBERSHIP'`;
      expect(type?.replan_after).toBeNull();
    });
  });

  test('whose time changes moves what is planned, with the next tick', async () => {
    await asSuperuser(async (sql) => {
      const id = await createMember(sql);
      await plan(sql, '2027-06-15T00:00Z');
      await sql`
        update app_private.message_types set send_time = '11:00' where type = 'MEMBERSHIP'`;
      await sql`select app_private.plan_due_messages('2027-06-15T00:01Z')`;
      expect(membershipOf(await plannedFor(sql, id))).toEqual([
        { type: 'MEMBERSHIP', date: '2027-06-15', at: '2027-06-15T18:00:00Z' },
      ]);
    });
  });

  test('follows a date column of its own when the user changes it', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`alter table app_public.users add column name_day date`;
      await sql`
        insert into app_private.message_types (type, label, base_column)
        values ('NAME_DAY', 'name day', 'name_day')`;
      await sql`
        insert into app_private.message_templates (message_type, locale, subject, body)
        values ('NAME_DAY', 'en', 'Name day', 'Happy name day!')`;
      const { id } = await createUser(sql);
      const next = async () => {
        const rows = await sql`
          select to_char(delivery_date, 'MM-DD') as day from app_private.message_schedule
          where user_id = ${id} and message_type = 'NAME_DAY'`;
        return rows.map(({ day }) => day);
      };
      expect(await next()).toEqual([]);
      for (const day of ['03-04', '05-06']) {
        await sql`
          update app_public.users set name_day = ${`2000-${day}`}::text::date where id = ${id}`;
        expect(await next()).toEqual([day]);
      }
      await sql`update app_public.users set name_day = null where id = ${id}`;
      expect(await next()).toEqual([]);
    });
  });

  test('is refused when a column that it names is not there, or not of use', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const add = (base: string, optOut: string | null) => (inner: Transaction) =>
        inner`
        insert into app_private.message_types (type, label, base_column, opt_out_column)
        values ('NEW', 'new', ${base}, ${optOut})`;
      await expectRefusal(sql, 'GW042', add('moon_landing', null));
      await expectRefusal(sql, 'GW042', add('first_name', null));
      await expectRefusal(sql, 'GW042', add('birthday_date', 'moon_messages'));
      await expectRefusal(sql, 'GW042', add('birthday_date', 'locale'));
      // A user without settings would get what is off by default.
      await sql`alter table app_public.user_settings
        add column news boolean not null default false`;
      await expectRefusal(sql, 'GW042', add('birthday_date', 'news'));
      await add('birthday_date', null)(sql);
    });
  });

  test('is refused at the end of a transaction that brings no template in English', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`
        insert into app_private.message_types (type, label, base_column)
        values ('NEW', 'new', 'birthday_date')`;
      const end = (inner: Transaction) => inner`set constraints all immediate`;
      await expectRefusal(sql, 'GW011', end);
      await sql`
        insert into app_private.message_templates (message_type, locale, subject, body)
        values ('NEW', 'en', 'New', 'New')`;
      await end(sql);
    });
  });
});

describe('a new message type that is sent', { timeout: patience(60_000) }, () => {
  const db = useDatabase();
  const api = useApi(db);
  const checkout = new Checkout();
  const vendor = new Vendor();
  let worker: Worker;
  let date = '';

  const gw = (...args: string[]) =>
    checkout.run(['messages', ...args], { DATABASE_URL: db.url('owner') });

  /** A member whose message of today has been due for a minute. */
  async function createDueMember() {
    const sql = db.as('superuser');
    const user = await createUser(sql, { first_name: 'Ann' });
    const [due] = await sql`
      select (case to_char(at, 'MM-DD') when '02-29' then '2020' else '2021' end
          || to_char(at, '-MM-DD"T"HH24:MI:SS"Z"')) as joined, at::date::text as date
      from (select now() at time zone 'UTC' - interval '1 minute') as moment (at)`;
    date = due?.date;
    await sql.begin((transaction) => joinedAt(transaction, user.id, due?.joined));
    await sql`select app_private.schedule_messages(array[${user.id}::uuid])`;
    return user;
  }

  beforeAll(async () => {
    await vendor.start();
    await hurryQueue(db.as('owner'));
    await db.as('owner').begin(addMembership);
    await db.as('owner')`
      update app_private.message_types
      set send_time = (now() at time zone 'UTC' - interval '1 minute')::time
      where type = 'MEMBERSHIP'`;
    worker = await startWorker({
      workerUrl: db.url('worker'),
      channel: new HttpChannel(vendor.url, { concurrency: 8, timeoutMs: 1_000 }),
      log: createLog('worker', 'silent'),
      unsubscribeUrl: unsubscribeLinks(api.origin, jwtSecret),
    });
  });
  beforeEach(() => {
    vendor.deliveries.length = 0;
  });
  afterAll(async () => {
    await worker?.close();
    await vendor.stop();
    checkout.remove();
  });

  test('is delivered once, with a link by which its user turns it off', async () => {
    const user = await createDueMember();
    await db.as('owner')`select app_private.plan_due_messages()`;
    await eventually(async () => (await logOf(db.as('owner'), user))?.status === 'SENT');
    expect(vendor.keys()).toEqual([`${user.id}:MEMBERSHIP:${date}`]);
    const body = vendor.deliveries[0]?.body as { unsubscribeUrl?: string } | undefined;
    expect(body).toMatchObject({ messageType: 'MEMBERSHIP', subject: 'Thank you, Ann!' });
    const page = await fetch(body?.unsubscribeUrl ?? '');
    expect(await page.text()).toContain('Do you want to turn off messages on your membership day?');
    expect((await fetch(body?.unsubscribeUrl ?? '', { method: 'POST' })).status).toBe(200);
    const [settings] = await db.as('owner')`
      select birthday_messages, anniversary_messages from app_public.user_settings
      where user_id = ${user.id}`;
    expect(settings).toEqual({ birthday_messages: true, anniversary_messages: false });
  });

  test('is a filter and a question of gw messages, and a wrong type is told which there are', async () => {
    const user = await createDueMember();
    await db.as('owner')`select app_private.plan_due_messages()`;
    await eventually(async () => (await logOf(db.as('owner'), user))?.status === 'SENT');
    const list = await gw('list', '--user', user.id, '--type', 'membership', '--json');
    expect(JSON.parse(list.stdout)).toMatchObject([
      { message_type: 'MEMBERSHIP', user_id: user.id, status: 'SENT' },
    ]);
    const explained = await gw('explain', user.id, 'membership', date);
    expect(explained.stdout).toContain("this is the user's membership day of");
    for (const args of [
      ['list', '--type', 'easter'],
      ['redrive', '--type', 'easter', '--yes'],
      ['cancel', '--type', 'easter', '--reason', 'no', '--yes'],
      ['explain', user.id, 'easter', date],
    ]) {
      expect(await gw(...args)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('One of: ANNIVERSARY, BIRTHDAY, DIGEST, MEMBERSHIP.'),
      });
    }
  });

  test('has no link where nobody can turn it off', async () => {
    await db.as('owner')`
      update app_private.message_types set opt_out_column = null where type = 'MEMBERSHIP'`;
    const user = await createDueMember();
    await db.as('owner')`select app_private.plan_due_messages()`;
    await eventually(async () => (await logOf(db.as('owner'), user))?.status === 'SENT');
    expect(vendor.deliveries.map(({ body }) => body)).toMatchObject([{ to: { userId: user.id } }]);
    expect(vendor.deliveries[0]?.body).not.toHaveProperty('unsubscribeUrl');
    const link = unsubscribeLinks(api.origin, jwtSecret)(user.id, 'MEMBERSHIP');
    expect((await fetch(link, { method: 'POST' })).status).toBe(400);
    await db.as('owner')`
      update app_private.message_types set opt_out_column = 'anniversary_messages'
      where type = 'MEMBERSHIP'`;
  });
});
