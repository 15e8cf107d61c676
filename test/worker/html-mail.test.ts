import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import PostalMime from 'postal-mime';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { SmtpChannel } from '../../src/worker/channels/smtp.ts';
import { startWorker } from '../../src/worker/worker.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { MailServer } from '../helpers/mail-server.ts';
import { createDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * From a file with HTML to what a mail program shows.
 */
const db = useDatabase();
const checkout = new Checkout();
const server = new MailServer();
const folder = mkdtempSync(join(tmpdir(), 'gw-html-'));
beforeAll(() => server.start());
afterAll(async () => {
  checkout.remove();
  rmSync(folder, { recursive: true });
  await server.stop();
});

const gw = (...args: string[]) =>
  checkout.run(['templates', ...args], { DATABASE_URL: db.url('owner') });

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Plans messages that are due, and runs a worker until they are sent. */
async function deliver(channel: SmtpChannel | HttpChannel): Promise<string> {
  const owner = db.as('owner');
  const [user] = await createDue(owner, 1);
  await owner`
    update app_public.users set first_name = 'Zoë <b>"&"</b>', last_name = ''
    where id = ${user?.id ?? ''}`;
  await owner`select app_private.plan_due_messages()`;
  const worker = await startWorker({
    workerUrl: db.url('worker'),
    channel,
    log: createLog('worker', 'silent'),
    unsubscribeUrl: () => 'https://app.example.com/unsubscribe?token=abc',
  });
  try {
    await eventually(async () => {
      const rows = await owner`
        select from app_public.message_logs where user_id = ${user?.id ?? ''} and status = 'SENT'`;
      return rows.length === 1;
    });
  } finally {
    await worker.close();
    await channel.close();
  }
  return user?.email ?? '';
}

const smtp = () =>
  new SmtpChannel(server.url(), {
    ...{ concurrency: 1, timeoutMs: 5_000 },
    from: { name: 'Groundwork', address: 'news@example.com' },
  });

test('HTML is drafted with its text, published, sent in its layout; a new layout is for new versions', {
  timeout: patience(60_000),
}, async () => {
  const html = file(
    'birthday.html',
    '<h1>Happy birthday, {{first_name}}!</h1>\n' +
      '<p>Today is <b>your</b> day. ' +
      '<a href="https://shop.example.com/gift?for={{first_name}}">Open it</a></p>\n' +
      '<img src="https://shop.example.com/cake.png" alt="A cake for {{first_name}}">\n',
  );
  const draft = ['draft', 'BIRTHDAY', 'en', '--subject', 'Hi {{first_name}}', '--html', html];
  const made = await gw(...draft, '--json');
  expect(made).toMatchObject({ code: 0, stderr: '' });
  const { version } = JSON.parse(made.stdout);
  expect((await gw('publish', 'BIRTHDAY', 'en', `${version}`, '--yes')).code).toBe(0);

  await deliver(smtp());
  const mail = await PostalMime.parse(server.sources.at(-1) ?? '');
  expect(mail.text?.trimEnd()).toBe(
    'Happy birthday, Zoë <b>"&"</b>!\n\nToday is your day. ' +
      'Open it <https://shop.example.com/gift?for=Zo%C3%AB%20%3Cb%3E%22%26%22%3C%2Fb%3E>\n\n-- \n' +
      'Unsubscribe: https://app.example.com/unsubscribe?token=abc',
  );
  expect(mail.html).toContain('<div class="sheet">\n<h1>Happy birthday, Zoë &lt;b&gt;&quot;');
  expect(mail.html).toContain('gift?for=Zo%C3%AB%20%3Cb%3E%22%26%22%3C%2Fb%3E"');
  expect(mail.html).toContain('alt="A cake for Zoë &lt;b&gt;&quot;&amp;&quot;&lt;/b&gt;"');
  expect(mail.html).toContain('<html lang="en">');
  expect(mail.html).toMatch(/class="foot">\s*<hr>\s*<p lang="en".*unsubscribe\?token=abc/s);

  const layout = file(
    'layout.html',
    '<html {{language}}><head><title>{{subject}}</title></head><body>' +
      '<main>{{content}}</main>{{footer}}</body></html>',
  );
  expect((await gw('layout', 'standard', '--html', layout)).code).toBe(0);
  await deliver(smtp());
  expect((await PostalMime.parse(server.sources.at(-1) ?? '')).html).toContain('class="sheet"');
  const again = JSON.parse((await gw(...draft, '--json')).stdout).version;
  expect((await gw('publish', 'BIRTHDAY', 'en', `${again}`, '--yes')).code).toBe(0);
  const vendor = new Vendor();
  await vendor.start();
  try {
    await deliver(new HttpChannel(vendor.url, { concurrency: 1, timeoutMs: 5_000 }));
    expect(vendor.deliveries[0]?.body).toMatchObject({
      content: expect.stringContaining('Today is your day.'),
      html: expect.stringContaining('<main><h1>Happy birthday, Zoë &lt;b&gt;'),
    });
  } finally {
    await vendor.stop();
  }
  const [row] = await db.as('owner')`
      select message_html from app_public.message_logs order by created_at limit 1`;
  expect(row?.message_html).not.toContain('<main>');
});
