import { afterAll, afterEach, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { planned } from '../helpers/message-stages.ts';
import { patience } from '../helpers/patience.ts';

const db = useDatabase();
const checkout = new Checkout();
afterAll(() => checkout.remove());
afterEach(async () => {
  const owner = db.as('owner');
  await owner`update app_private.message_settings set approval_above = null`;
  await owner`delete from ops.approvals`;
});

const as = (operator: string, ...args: string[]) =>
  checkout.run(args, { DATABASE_URL: db.url('owner'), GW_OPERATOR: operator });

/** Plans birthdays of so many users, an hour ahead. */
async function plan(count: number): Promise<void> {
  const owner = db.as('owner');
  await owner`delete from app_public.users`;
  for (let i = 0; i < count; i += 1) await planned(owner, 60);
}
const statuses = async () => [
  ...(await db.as('owner')`
    select status, count(*)::integer as n from app_public.message_logs group by 1 order by 1`),
];
const limit = (above: number) =>
  db.as('owner')`update app_private.message_settings set approval_above = ${above}`;

test('who cancels many messages asks another person, who approves exactly that, once', {
  timeout: patience(120_000),
}, async () => {
  await plan(3);
  await limit(2);
  const cancel = ['messages', 'cancel', '--type', 'BIRTHDAY', '--reason', 'a wrong text'];
  // To look needs nobody.
  expect(await as('ada', ...cancel, '--dry-run')).toMatchObject({ code: 0 });
  const refused = await as('ada', ...cancel, '--yes');
  expect(refused.code).toBe(1);
  const [, request] = /gw messages approve (\d+)\. Then run this/.exec(refused.stderr) ?? [];
  expect(refused.stderr).toContain('error: this changes 3 messages, which a second person has');
  expect(await statuses()).toEqual([{ status: 'SCHEDULED', n: 3 }]);
  // Who asks twice asks for the same.
  expect((await as('ada', ...cancel, '--yes')).stderr).toContain(`approve ${request}.`);

  const listed = await as('grace', 'messages', 'approvals', '--json');
  expect(JSON.parse(listed.stdout)).toMatchObject([
    { action: 'messages.canceled', size: 3, requested_by: 'ada', approved_by: null },
  ]);
  const own = await as('ada', 'messages', 'approve', `${request}`, '--yes');
  expect(own).toMatchObject({ code: 2, stderr: expect.stringContaining('ada has asked for it') });
  expect(await as('grace', 'messages', 'approve', `${request}`, '--yes')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('once, within a day'),
  });

  // Another command is not what was approved.
  const other = [...cancel.slice(0, -1), 'another reason', '--yes'];
  expect((await as('ada', ...other)).code).toBe(1);
  expect((await as('ada', ...cancel, '--yes')).code).toBe(0);
  expect(await statuses()).toEqual([{ status: 'CANCELED', n: 3 }]);
  const [entry] = await db.as('owner')`
      select details from ops.audit_log where action = 'messages.canceled'
      order by id desc limit 1`;
  expect(entry?.details).toMatchObject({ operator: 'ada', approval: Number(request), messages: 3 });

  // What was approved once is used up.
  await plan(3);
  expect((await as('ada', ...cancel, '--yes')).code).toBe(1);
});

test('releasing and publishing ask too, and what is small does not', {
  timeout: patience(120_000),
}, async () => {
  await plan(2);
  await limit(2);
  const draft = [
    'templates',
    'draft',
    'BIRTHDAY',
    'en',
    '--subject',
    'New',
    '--body',
    '-',
    '--json',
  ];
  const made = await checkout.run(draft, { DATABASE_URL: db.url('owner') }, 'New {{first_name}}');
  const publish = ['templates', 'publish', 'BIRTHDAY', 'en', '2', '--yes'];
  expect(JSON.parse(made.stdout)).toMatchObject({ version: 2 });
  expect(await as('ada', ...publish)).toMatchObject({ code: 0 });
  await limit(1);
  const later = [...publish.slice(0, 4), '1', '--at', '2099-01-01', '--yes'];
  for (const command of [[...publish.slice(0, 4), '1', '--yes'], later]) {
    const refused = await as('ada', ...command);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('2 messages') });
  }
  const [text] = await db.as('owner')`
      select version from app_private.message_templates
      where message_type = 'BIRTHDAY' and locale = 'en'`;
  expect(text?.version).toBe(2);
  expect(await db.as('owner')`select from app_private.template_releases`).toHaveLength(0);

  const owner = db.as('owner');
  await owner`select ops.hold_messages('to see', p_message_type => 'BIRTHDAY')`;
  const [hold] = await owner`
      update app_public.message_logs
      set status = 'QUEUED', hold_id = (select max(id) from app_private.message_holds)
      returning hold_id`;
  const release = ['messages', 'release', `${hold?.hold_id}`, '--skip', '--yes'];
  expect((await as('ada', ...release)).code).toBe(1);
  expect(await statuses()).toEqual([{ status: 'QUEUED', n: 2 }]);
  const [asked] = await owner`
      select id from ops.approvals where action = 'messages.released'`;
  expect((await as('grace', 'messages', 'approve', `${asked?.id}`, '--yes')).code).toBe(0);
  expect((await as('ada', ...release)).code).toBe(0);
  expect(await statuses()).toEqual([{ status: 'CANCELED', n: 2 }]);
});
