import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { useDatabase } from '../helpers/database.ts';
import { createDue, type DueUser, hurryQueue } from '../helpers/messages.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
let vendor: Vendor;
let worker: Worker | undefined;

async function work(): Promise<void> {
  const pace = { concurrency: 8, timeoutMs: 1_000 };
  worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new HttpChannel(vendor.url, pace),
    vendors: [new HttpChannel(vendor.url, { ...pace, name: 'sms' })],
    log: createLog('worker', 'silent'),
  });
}

/** A type whose templates other types use. */
async function addText(type: string, body: string): Promise<void> {
  await db.as('owner').begin(async (sql) => {
    await sql`
      insert into app_private.message_types (type, label, repeats, payload_schema)
      values (${type}, 'a text', 'event',
        '{"type": "object", "properties": {"age": {"type": "integer"}}}')`;
    await sql`
      insert into app_private.message_templates (message_type, locale, subject, body)
      values (${type}, 'en', 'Subject', ${body})`;
  });
}

const tick = () => db.as('owner')`select app_private.plan_due_messages()`;

const settled = (count: number) =>
  eventually(async () => {
    const rows = await db.as('owner')<{ type: string; status: string; why: string | null }[]>`
      select message_type as type, status, error_message as why
      from app_public.message_logs order by message_type`;
    return rows.every(({ status }) => status === 'SENT' || status === 'CANCELED') &&
      rows.length === count
      ? rows
      : undefined;
  });

const said = () => vendor.deliveries.map(({ body }) => body.content);

/** A user whose birthday and anniversary are today. */
async function createBoth(): Promise<DueUser> {
  const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
  await db.as('owner')`
    update app_public.users set anniversary_date = birthday_date where id = ${user.id}`;
  return user;
}

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
  await db.as('owner')`
    insert into app_private.delivery_channels (name, protocol) values ('sms', 'http')`;
  await hurryQueue(db.as('owner'));
});

afterEach(async () => {
  await worker?.close();
  worker = undefined;
  await vendor.stop();
  await db.as('owner').begin(async (sql) => {
    await sql`delete from app_public.users`;
    await sql`delete from pgboss.job`;
    await sql`delete from app_private.message_routes`;
    await sql`delete from app_private.delivery_channels where protocol is not null`;
    await sql`
      update app_private.message_types
      set belated_as = null, late_policy = 'window', day_group = null, priority = 0, combined_as = null`;
    await sql`delete from app_private.message_types where label = 'a text'`;
  });
});

/** Two users whose message is due: Due0's since the last minute of yesterday, where he is. */
async function createBelated(): Promise<void> {
  // A zone where midnight was within the hour: what was due at 23:59 is in the late window.
  const hour = new Date().getUTCHours();
  const zone = hour <= 12 ? `Etc/GMT+${hour}` : `Etc/GMT-${24 - hour}`;
  const users = await createDue(db.as('owner'), 2);
  await db.as('owner')`
    update app_public.users
    set timezone = ${zone}, send_time = '23:59', birthday_date = (
      '1988' || to_char(now() at time zone ${zone} - interval '1 day', '-MM-DD'))::date
    where id = ${users[0]?.id ?? ''}`;
  await tick();
}

test('a message that is of use on its day only is not sent after it', async () => {
  await db.as('owner')`
    update app_private.message_types set late_policy = 'day' where type = 'BIRTHDAY'`;
  await createBelated();
  await work();
  const rows = await eventually(async () => {
    const found = await db.as('owner')<{ status: string; why: string | null }[]>`
      select status, error_message as why from app_public.message_logs order by status`;
    return found.every(({ status }) => status === 'SENT' || status === 'EXPIRED') && found;
  });
  expect(rows).toEqual([
    {
      status: 'EXPIRED',
      why: expect.stringMatching(/^not sent until .+, the end of its late window$/),
    },
    { status: 'SENT', why: null },
  ]);
  expect(said()).toEqual(["Hey, Due1, it's your birthday! Have a great day."]);
});

test('after its local day a message says that it is belated', async () => {
  await addText('BIRTHDAY_BELATED', 'You turned {{age}} yesterday, {{first_name}}.');
  await db.as('owner')`
    update app_private.message_types set belated_as = 'BIRTHDAY_BELATED' where type = 'BIRTHDAY'`;
  await createBelated();
  await work();
  await settled(2);
  expect(said().toSorted()).toEqual([
    "Hey, Due1, it's your birthday! Have a great day.",
    `You turned ${new Date().getUTCFullYear() - 1988} yesterday, Due0.`,
  ]);
});

test('of two messages of a day that are of one group, the higher is sent and says both', async () => {
  await addText('BOTH', '{{first_name}}, two things to celebrate.');
  await db.as('owner')`
    update app_private.message_types
    set day_group = 'occasions', priority = (type = 'BIRTHDAY')::integer,
      combined_as = case type when 'BIRTHDAY' then 'BOTH' end
    where type in ('BIRTHDAY', 'ANNIVERSARY')`;
  const both = await createBoth();
  await createDue(db.as('owner'), 1);
  await tick();
  await work();
  const rows = await settled(3);
  expect(rows).toEqual([
    {
      type: 'ANNIVERSARY',
      status: 'CANCELED',
      why: 'the message BIRTHDAY of that day is sent instead',
    },
    { type: 'BIRTHDAY', status: 'SENT', why: null },
    { type: 'BIRTHDAY', status: 'SENT', why: null },
  ]);
  expect(said().toSorted()).toEqual([
    'Due0, two things to celebrate.',
    "Hey, Due0, it's your birthday! Have a great day.",
  ]);
  // It is not planned again.
  await tick();
  const steps = await db.as('owner')`
    select detail from ops.explain_message(${both.id}, 'ANNIVERSARY', ${both.date})
    where topic = 'state'`;
  expect(steps[0]?.detail).toContain('the message BIRTHDAY of that day is sent instead');
});

test('a group says nothing of a message that its user turned off', async () => {
  await db.as('owner')`
    update app_private.message_types
    set day_group = 'occasions', priority = (type = 'BIRTHDAY')::integer
    where type in ('BIRTHDAY', 'ANNIVERSARY')`;
  const user = await createBoth();
  await tick();
  await db.as('owner')`
    update app_public.user_settings set birthday_messages = false where user_id = ${user.id}`;
  await work();
  expect(await settled(2)).toMatchObject([
    { type: 'ANNIVERSARY', status: 'SENT' },
    { type: 'BIRTHDAY', status: 'CANCELED' },
  ]);
});

test('by a channel with texts of its own a message says those', async () => {
  await addText('BIRTHDAY_SHORT', 'HB {{first_name}}!');
  await db.as('owner')`
    insert into app_private.message_routes (message_type, step, channel, text_as)
    values ('BIRTHDAY', 1, 'http', null), ('BIRTHDAY', 2, 'sms', 'BIRTHDAY_SHORT')`;
  vendor.answer = ({ body }) =>
    body.content.startsWith('Hey') ? { status: 422, body: 'not taken' } : { status: 202 };
  await createDue(db.as('owner'), 1);
  await tick();
  await work();
  await settled(1);
  expect(said()).toEqual(["Hey, Due0, it's your birthday! Have a great day.", 'HB Due0!']);
});
