import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import type { Sql, Transaction } from '../../src/postgres/connect.ts';
import {
  type AlertDestination,
  alertDestinations,
  email,
  type Notice,
  webhook,
} from '../../src/worker/alerts.ts';
import { FileChannel } from '../../src/worker/channels/file.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();

const raise = (sql: Sql | Transaction, object: string, level = 'warning', detail = 'x') =>
  sql`select ops.raise_alert('test-check', ${object}, ${level}, ${detail}, 'Mend it.')`;
const resolve = (sql: Sql | Transaction, object: string) =>
  sql`select ops.resolve_alert('test-check', ${object})`;

/** The states of the notices that are queued, oldest first. */
async function queued(sql: Transaction): Promise<string[]> {
  const rows = await sql<{ state: string }[]>`
    select data ->> 'state' as state from pgboss.job where name = 'alert-notify'
    order by (data ->> 'key')::text collate "C", split_part(data ->> 'key', ':', 3)::int`;
  const notices = await sql<{ state: string }[]>`select state from ops.alert_notices order by id`;
  expect(rows.map(({ state }) => state).sort()).toEqual(notices.map(({ state }) => state).sort());
  return notices.map(({ state }) => state);
}

describe('a change of an alert', () => {
  test('is announced when it opens, changes its level and is resolved, and never else', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await raise(sql, 'a', 'warning', '1 job');
      await raise(sql, 'a', 'warning', '2 jobs');
      expect(await queued(sql)).toEqual(['opened']);
      await raise(sql, 'a', 'critical', '200 jobs');
      await raise(sql, 'a', 'critical', '201 jobs');
      expect(await queued(sql)).toEqual(['opened', 'changed']);
      await resolve(sql, 'a');
      await resolve(sql, 'a');
      expect(await queued(sql)).toEqual(['opened', 'changed', 'resolved']);
      const [job] = await sql`
        select data from pgboss.job where name = 'alert-notify' and data ->> 'state' = 'changed'`;
      expect(job?.data).toMatchObject({
        check: 'test-check',
        object: 'a',
        level: 'critical',
        detail: '200 jobs',
        remediation: 'Mend it.',
        resolvedAt: null,
      });
    });
  });

  test('is not announced when its transaction is rolled back', async () => {
    await rolledBack(db.as('superuser'), async (sql) => raise(sql, 'gone').then(() => {}));
    const [row] = await db.as('owner')`select count(*)::int from pgboss.job`;
    expect(row?.count).toBe(0);
  });

  test('that comes and goes is announced as flapping, once, and again when it has settled', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      for (let round = 0; round < 8; round += 1) {
        await raise(sql, 'a');
        await resolve(sql, 'a');
      }
      const expected = ['opened', 'resolved', 'opened', 'resolved', 'opened', 'resolved'];
      expect(await queued(sql)).toEqual([...expected, 'flapping']);
      // Another alert is not held.
      await raise(sql, 'b');
      expect(await queued(sql)).toEqual([...expected, 'flapping', 'opened']);
      expect((await sql`select ops.settle_alerts() as n`)[0]?.n).toBe(0);

      await sql`update ops.alerts set raised_at = raised_at - interval '2 hours',
        changed_at = changed_at - interval '2 hours', resolved_at = resolved_at - interval '2 hours'`;
      await sql`update ops.alert_notices set created_at = created_at - interval '2 hours'`;
      expect((await sql`select ops.settle_alerts() as n`)[0]?.n).toBe(1);
      expect((await sql`select ops.settle_alerts() as n`)[0]?.n).toBe(0);
      await raise(sql, 'a');
      const states = await queued(sql);
      expect(states.slice(-2)).toEqual(['settled', 'opened']);
    });
  });

  test('of the way by which notices go is not sent that way', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      for (const object of ['alert-notify', 'alert-notify-dead']) {
        await sql`select ops.raise_alert('health-dead-letters', ${object}, 'critical', 'x')`;
        await sql`select ops.resolve_alert('health-dead-letters', ${object})`;
      }
      expect(await queued(sql)).toEqual([]);
    });
  });

  test('leaves no notice after 90 days', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await raise(sql, 'a');
      await raise(sql, 'b');
      await sql`update ops.alert_notices set created_at = now() - interval '91 days'
        where object = 'a'`;
      expect((await sql`select ops.delete_expired_rows()::int as n`)[0]?.n).toBe(1);
    });
  });
});

interface Posted {
  id: string;
  text: string;
  alerts: Notice[];
}

describe('the worker', () => {
  let vendor: Vendor;
  let worker: Worker | undefined;
  let lines: string[];
  const posts = (): Posted[] => vendor.deliveries.map(({ body }) => body as unknown as Posted);

  async function work(alerts: AlertDestination[]): Promise<void> {
    const log = createLog('worker', 'silent');
    lines = [];
    for (const level of ['info', 'warn', 'error'] as const) {
      log[level] = (_: unknown, text?: string) => {
        lines.push(text ?? '');
      };
    }
    const channel = new FileChannel(`/tmp/groundwork-alerts-${randomUUID()}.jsonl`);
    worker = await startWorker({ workerUrl: db.url('worker'), channel, alerts, log });
  }

  const states = async () => {
    const rows = await db.as('owner')<{ state: string }[]>`
      select state::text from pgboss.job where name = 'alert-notify'`;
    return rows.map(({ state }) => state);
  };
  const allCompleted = (count: number) =>
    eventually(async () => {
      const seen = await states();
      return seen.length === count && seen.every((state) => state === 'completed');
    });

  beforeEach(async () => {
    vendor = new Vendor();
    await vendor.start();
    await db.as('owner')`
      update pgboss.queue set retry_delay = 1, retry_backoff = false where name = 'alert-notify'`;
  });
  afterEach(async () => {
    await worker?.close();
    worker = undefined;
    await vendor.stop();
    await db.as('owner')`delete from ops.alerts`;
    await db.as('owner')`delete from pgboss.job`;
  });

  test('posts many changes as one notice, and a resolution as another', async () => {
    await db.as('worker').begin(async (sql) => {
      for (let i = 0; i < 30; i += 1)
        await raise(sql, `object-${i}`, i === 7 ? 'critical' : 'warning');
    });
    await work([webhook(vendor.url)]);
    await allCompleted(30);
    expect(posts()).toHaveLength(1);
    const [first] = posts();
    expect(first?.alerts).toHaveLength(30);
    expect(first?.text).toMatch(/^1 critical, 29 warning\n/);
    expect(vendor.deliveries[0]?.key).toBe(first?.id);
    await resolve(db.as('worker'), 'object-7');
    await vendor.arrived(2);
    expect(posts()[1]?.alerts).toMatchObject([{ state: 'resolved', object: 'object-7' }]);
    expect(posts()[1]?.text).toMatch(/^resolved: test-check object-7\n/);
  });

  test('tries again when the receiver refuses, with the same keys', async () => {
    let answers = 0;
    vendor.answer = () => {
      answers += 1;
      return { status: answers === 1 ? 500 : 200 };
    };
    await raise(db.as('worker'), 'a');
    await work([webhook(vendor.url)]);
    await allCompleted(1);
    expect(posts().map(({ id }) => id)).toEqual([posts()[0]?.id, posts()[0]?.id]);
    expect(lines).toContain('alerts were not accepted');
    // Its own failure is no alert.
    const [row] = await db.as('owner')`select count(*)::int from ops.alerts`;
    expect(row?.count).toBe(1);
  });

  test('does nothing but say so when nobody is to be told', async () => {
    await raise(db.as('worker'), 'a');
    await work([]);
    await allCompleted(1);
    expect(lines).toContain('alerts changed, and GW_ALERT_URL says nowhere to tell it');
  });

  test('sends an e-mail, and repeats only what was not accepted', async () => {
    const mails: string[] = [];
    let refusals = 1;
    const server = new SMTPServer({
      authOptional: true,
      disabledCommands: ['STARTTLS'],
      onData(stream, _session, done) {
        let text = '';
        stream.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        stream.on('end', () => {
          refusals -= 1;
          if (refusals >= 0) return done(Object.assign(new Error('busy'), { responseCode: 451 }));
          mails.push(text);
          done();
        });
      },
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', () => ready()));
    const { port } = server.server.address() as AddressInfo;
    await raise(db.as('worker'), 'a', 'critical', '96 % full\r\nBcc: x@example.com');
    await work([
      webhook(vendor.url),
      email(
        `smtp://127.0.0.1:${port}`,
        { name: '', address: 'db@example.com' },
        'oncall@example.com, dba@example.com',
      ),
    ]);
    // The webhook has it; what is left waits half a minute, which we do not.
    await eventually(async () => (await states()).length === 2);
    await db.as('owner')`update pgboss.job set start_after = now() where state = 'created'`;
    await allCompleted(2);
    expect(vendor.deliveries).toHaveLength(1);
    expect(mails).toHaveLength(1);
    expect(mails[0]).toMatch(/^Subject: \[groundwork\] critical: test-check a: 96 % full Bcc:/m);
    expect(mails[0]).toMatch(/^To: oncall@example.com, dba@example.com/m);
    expect(mails[0]?.split('\r\n\r\n')[0]).not.toMatch(/^Bcc:/im);
    expect(mails[0]).toContain('Mend it.');
    await new Promise<void>((closed) => server.close(() => closed()));
  });
});

describe('the environment', () => {
  test('names destinations, and an address needs a server', () => {
    const config = (env: Record<string, string>) => alertDestinations(loadConfig(env));
    expect(config({})).toEqual([]);
    const all = config({
      GW_ALERT_URL: 'https://hooks.example.com/secret',
      GW_ALERT_EMAIL_TO: 'a@example.com',
      GW_SMTP_URL: 'smtp://user:secret@mail.example.com:587',
      GW_MAIL_FROM: 'db@example.com',
    });
    expect(all.map(({ description }) => description)).toEqual([
      'https://hooks.example.com',
      'mail.example.com:587',
    ]);
    expect(() => config({ GW_ALERT_EMAIL_TO: 'a@example.com' })).toThrow(/needs GW_SMTP_URL/);
    expect(() => loadConfig({ GW_SMTP_URL: 'http://x' })).toThrow(/GW_SMTP_URL/);
  });
});
