import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { MailServer } from '../helpers/mail-server.ts';
import { createDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';

/*
 * A text is changed while messages with it are planned.
 */
const db = useDatabase();
const checkout = new Checkout();
const server = new MailServer();
const folder = mkdtempSync(join(tmpdir(), 'gw-templates-'));
beforeAll(() => server.start());
afterAll(async () => {
  checkout.remove();
  rmSync(folder, { recursive: true });
  await server.stop();
});

const gw = (args: string[], env: Record<string, string> = {}) =>
  checkout.run(['templates', ...args], { DATABASE_URL: db.url('owner'), ...env });
const json = async (...args: string[]) => JSON.parse((await gw([...args, '--json'])).stdout);

/** Plans birthdays of so many users, an hour ahead. */
async function planned(count: number): Promise<string[]> {
  const owner = db.as('owner');
  const users = await createDue(owner, count);
  await owner`
    update app_public.users set send_time = (now() at time zone 'UTC' + interval '2 minutes')::time
    where id = any (${users.map(({ id }) => id)}::uuid[])`;
  await owner`select app_private.plan_due_messages()`;
  return users.map(({ id }) => id);
}

const textsOf = async (ids: string[]) => {
  const rows = await db.as('owner')<{ subject: string; version: number }[]>`
    select message_subject as subject, template_version as version
    from app_public.message_logs where user_id = any (${ids}::uuid[]) order by user_id`;
  return rows.map(({ subject, version }) => ({ subject, version }));
};

const draft = async (subject: string, body = 'Hi {{first_name}}!\nBye.') => {
  const file = join(folder, 'body.txt');
  writeFileSync(file, `${body}\n`);
  const made = await json('draft', 'BIRTHDAY', 'en', '--subject', subject, '--body', file);
  return made.version as number;
};

describe('gw templates', { timeout: patience(60_000) }, () => {
  beforeEach(async () => {
    await db.as('owner')`delete from app_public.users`;
    await gw(['publish', 'BIRTHDAY', 'en', '1', '--yes']);
  });

  test('publish writes a version into what is planned, says how many, and rollback takes it back', async () => {
    const ids = await planned(5);
    const before = await textsOf(ids);
    const version = await draft('Hello {{first_name}}');
    expect(await textsOf(ids)).toEqual(before);
    const dry = await gw(['publish', 'BIRTHDAY', 'en', String(version), '--dry-run']);
    expect(dry.stdout).toBe(
      `version ${version} of BIRTHDAY in en would be published; 5 planned messages would be written anew\n`,
    );
    expect(await textsOf(ids)).toEqual(before);
    expect(await gw(['publish', 'BIRTHDAY', 'en', String(version)])).toMatchObject({ code: 2 });

    const done = await json('publish', 'BIRTHDAY', 'en', String(version), '--yes');
    expect(done).toMatchObject({ dryRun: false, version, messages: 5 });
    expect((await textsOf(ids))[0]?.subject).toMatch(/^Hello Due\d$/);
    expect(new Set((await textsOf(ids)).map((row) => row.version))).toEqual(new Set([version]));
    const [audit] = await db.as('owner')`
      select action, details #>> '{after,subject}' as subject from ops.audit_log
      order by id desc limit 1`;
    expect(audit).toEqual({
      action: 'messages.template_changed',
      subject: 'Hello {{first_name}}',
    });

    // Not to a draft that was never in force.
    await draft('Never {{first_name}}');
    const later = await draft('Later still {{first_name}}');
    await json('publish', 'BIRTHDAY', 'en', String(later), '--yes');
    const back = await json('rollback', 'BIRTHDAY', 'en', '--yes');
    expect(back).toMatchObject({ version, messages: 5 });
  });

  test('a trial gives a share of the users another version, always the same ones', async () => {
    const ids = await planned(60);
    const version = await draft('Trial {{first_name}}');
    await json('publish', 'BIRTHDAY', 'en', String(version), '--percent', '50', '--yes');
    const texts = await textsOf(ids);
    const share = texts.filter((text) => text.version === version).length;
    expect(share).toBeGreaterThan(15);
    expect(share).toBeLessThan(45);
    await db.as('owner')`select app_private.replan_messages(${ids}::uuid[])`;
    expect(await textsOf(ids)).toEqual(texts);
    expect(await json('list', 'BIRTHDAY')).toContainEqual(
      expect.objectContaining({ locale: 'en', trial: `version ${version} for 50 %` }),
    );
  });

  test('several trials share the users, and publishing one for all ends them', async () => {
    const ids = await planned(200);
    const [first, second] = [
      await draft('First {{first_name}}'),
      await draft('Second {{first_name}}'),
    ];
    await json('publish', 'BIRTHDAY', 'en', String(first), '--percent', '30', '--yes');
    const alone = await textsOf(ids);
    await json('publish', 'BIRTHDAY', 'en', String(second), '--percent', '50', '--yes');
    const texts = await textsOf(ids);
    const of = (version: number) => texts.filter((text) => text.version === version).length;
    // 60, 100 and 40 of 200, within four standard deviations.
    expect(Math.abs(of(first) - 60)).toBeLessThan(26);
    expect(Math.abs(of(second) - 100)).toBeLessThan(29);
    // Who had the first one has it still.
    expect(texts.map(({ version }) => version === first)).toEqual(
      alone.map(({ version }) => version === first),
    );
    expect(await json('list', 'BIRTHDAY')).toContainEqual(
      expect.objectContaining({
        locale: 'en',
        trial: `version ${first} for 30 %, version ${second} for 50 %`,
      }),
    );
    const third = await draft('Third {{first_name}}');
    const refused = await gw([
      ...['publish', 'BIRTHDAY', 'en', String(third), '--percent', '20', '--yes'],
    ]);
    expect(refused.stderr).toContain(
      'trials of BIRTHDAY in en would be for 100 percent of the users',
    );
    await json('publish', 'BIRTHDAY', 'en', String(third), '--yes');
    expect(new Set((await textsOf(ids)).map(({ version }) => version))).toEqual(new Set([third]));
  });

  test('publish --at waits for its time; the planner does it', async () => {
    const ids = await planned(2);
    const version = await draft('Later {{first_name}}');
    const at = new Date(Date.now() + 3_600_000).toISOString().slice(0, 16);
    await json('publish', 'BIRTHDAY', 'en', String(version), '--at', `${at}Z`);
    expect((await json('list', 'BIRTHDAY'))[1]).toMatchObject({ locale: 'en' });
    await db.as('owner')`select app_private.plan_due_messages()`;
    expect((await textsOf(ids))[0]?.version).not.toBe(version);
    await db.as('owner')`update app_private.template_releases set starts_at = now()`;
    await db.as('owner')`select app_private.plan_due_messages()`;
    expect((await textsOf(ids)).map((text) => text.version)).toEqual([version, version]);
  });

  test('a text that is edited by SQL is a version too, and reaches what is planned', async () => {
    const ids = await planned(2);
    await db.as('owner')`
      update app_private.message_templates set subject = 'By SQL {{first_name}}'
      where message_type = 'BIRTHDAY' and locale = 'en'`;
    await db.as('owner')`select app_private.plan_due_messages()`;
    expect((await textsOf(ids))[0]?.subject).toMatch(/^By SQL Due/);
    const [row] = (await json('list', 'BIRTHDAY')).filter(
      ({ locale }: { locale: string }) => locale === 'en',
    );
    expect(row.version).toBe(row.latest);
  });

  test('a version that cannot be filled in is refused before anything changes', async () => {
    const file = join(folder, 'wrong.txt');
    writeFileSync(file, 'Dear {{nobody}}');
    const refused = await gw(['draft', 'BIRTHDAY', 'en', '--subject', 'x', '--body', file]);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain('cannot fill in: nobody');
    for (const wrong of [
      ['publish', 'BIRTHDAY', 'en', '999', '--yes'],
      ['publish', 'NOTHING', 'en', '1', '--yes'],
      ['publish', 'BIRTHDAY', 'EN', '1', '--yes'],
      ['publish', 'BIRTHDAY', 'en', '1', '--percent', '0', '--yes'],
      ['rollback', 'BIRTHDAY', 'fr', '--yes'],
      ['preview', 'BIRTHDAY', '--user', '00000000-0000-4000-8000-00000000000f'],
      ['draft', 'BIRTHDAY', 'en', '--subject', 'x', '--body', join(folder, 'none')],
    ]) {
      expect(await gw(wrong)).toMatchObject({ code: 2, stdout: '' });
    }
  });

  test('diff, preview and send-test show what a user would read', async () => {
    const version = await draft('Hello {{first_name}}', 'Hi {{full_name}}!\nBye.');
    const diff = await gw(['diff', 'BIRTHDAY', 'en', '1', String(version)]);
    expect(diff.stdout).toBe(
      `--- version 1\n+++ version ${version}\n-Subject: Happy birthday, {{first_name}}!\n` +
        "-Hey, {{full_name}}, it's your birthday! Have a great day.\n" +
        '+Subject: Hello {{first_name}}\n+Hi {{full_name}}!\n+Bye.\n',
    );
    const { id } = await createUser(db.as('owner'), {
      ...{ first_name: 'Zoë', birthday_date: '1990-05-05' },
    });
    await db.as('owner')`
      update app_public.user_settings set locale = 'de-CH' where user_id = ${id}`;
    const read = await gw(['preview', 'BIRTHDAY', '--user', id]);
    expect(read.stdout).toMatch(
      /^de, version 1\n\nSubject: Alles Gute zum Geburtstag, Zoë!\n\nHallo Zoë, alles Gute zum \d+\. Geburtstag!\n$/,
    );
    const digest = await gw(['preview', 'DIGEST', '--user', id]);
    expect(digest.stdout).toContain('«week_start»');
    const mail = { GW_DELIVERY_URL: server.url(), GW_MAIL_FROM: 'news@example.com' };
    const sent = await gw(['send-test', 'BIRTHDAY', '--user', id, '--to', 'me@example.com'], mail);
    expect(sent).toMatchObject({ code: 0, stdout: expect.stringContaining('sent through') });
    expect(server.letters[0]).toMatchObject({ to: ['me@example.com'] });
    expect(server.letters[0]?.text).toContain('=5Btest=5D_Alles_Gute_zum_Geburtstag');
  });

  test('list names a language that users have, and that gets English', async () => {
    const { id } = await createUser(db.as('owner'));
    await db.as('owner')`
      update app_public.user_settings set locale = 'zh-Hant-TW' where user_id = ${id}`;
    expect(await json('list', 'BIRTHDAY')).toContainEqual(
      expect.objectContaining({ locale: 'zh-Hant-TW', version: null, users: 1 }),
    );
    await db.as('owner')`
      insert into app_private.message_templates (message_type, locale, subject, body)
      values ('BIRTHDAY', 'zh-Hant', '生日快樂', '{{first_name}}，生日快樂！')`;
    expect(await json('list', 'BIRTHDAY')).toContainEqual(
      expect.objectContaining({ locale: 'zh-Hant', version: 1, users: 1 }),
    );
    expect((await gw(['list'])).stdout).toMatch(/BIRTHDAY +zh-Hant +1 +1 +1/);
  });
});
