import { describe, expect, test } from 'vitest';
import { useDatabase } from '../helpers/database.ts';
import { type Row, row, useReports } from '../helpers/reports.ts';

const db = useDatabase();
const { rows, rowsAfter } = useReports(db);

describe('a report on our own parts', () => {
  test('job-queues counts what is due, and what was given up', async () => {
    const found = await rowsAfter(
      `delete from pgboss.job;
       insert into pgboss.job (name, start_after, state) values
         ('message-send', now() - interval '1 hour', 'created'),
         ('message-send', now() + interval '1 hour', 'retry'),
         ('message-send', now(), 'completed'),
         ('message-send-dead', now(), 'created');`,
      'job-queues',
    );
    expect(found).toContainEqual(
      row({
        queue_name: 'message-send',
        due: 1,
        later: 1,
        retrying: 1,
        completed: 1,
        oldest_due_seconds: 3600,
      }),
    );
    expect(found).toContainEqual(row({ queue_name: 'message-send-dead', due: 1 }));
  });

  test('message-status counts messages by day, and monitoring reads no message', async () => {
    const id = '00000000-0000-4000-8000-000000000009';
    const found = await rowsAfter(
      `delete from app_public.users;
       insert into app_public.users (id, email, first_name) values ('${id}', 'm@example.com', 'M');
       insert into app_public.message_logs (user_id, id, message_type, delivery_date,
         message_content, scheduled_send_time, idempotency_key, status, actual_send_time)
       select '${id}', gen_random_uuid(), 'BIRTHDAY', current_date, 'secret', now(), n::text,
         (array['SENT', 'FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELED', 'SUPPRESSED'])[n],
         case when n = 1 then now() end
       from generate_series(1, 6) as n;`,
      'message-status',
    );
    expect(found).toMatchObject([
      {
        message_type: 'BIRTHDAY',
        planned: 0,
        sent: 1,
        failed: 1,
        expired: 1,
        unknown: 1,
        canceled: 1,
        suppressed: 1,
        share: 0.25,
      },
    ]);
    const monitor = db.as('monitor');
    for (const table of ['message_logs', 'users', 'tasks']) {
      await expect(monitor.unsafe(`select * from app_public.${table}`)).rejects.toMatchObject({
        code: '42501',
      });
    }
    await expect(
      db.as('worker')`select ops.message_status(current_date, current_date)`,
    ).rejects.toMatchObject({ code: '42501' });
  });

  test('message-funnel counts what became of messages, also where a report came first', async () => {
    const id = '00000000-0000-4000-8000-000000000009';
    const found = await rowsAfter(
      `delete from app_public.users;
       insert into app_public.users (id, email, first_name) values ('${id}', 'm@example.com', 'M');
       insert into app_private.delivery_events (vendor, event_id, kind, occurred_at,
         provider_message_id)
       values ('relay', '1', 'delivered', now(), 'v1'), ('relay', '2', 'complained', now(), 'v1'),
         ('relay', '3', 'delivered', now(), 'v2'), ('relay', '4', 'bounced', now(), 'v3');
       insert into app_public.message_logs (user_id, id, message_type, delivery_date,
         message_content, scheduled_send_time, idempotency_key, status, actual_send_time, channel,
         provider_message_id, template_version)
       select '${id}', gen_random_uuid(), 'BIRTHDAY', current_date, 'secret',
         now() - interval '10 seconds', n::text,
         (array['SENT', 'SENT', 'SENT', 'SENT', 'SUPPRESSED', 'CANCELED'])[n],
         case when n < 5 then now() end, 'http', 'v' || n, case n when 2 then 2 else 1 end
       from generate_series(1, 6) as n;`,
      'message-funnel',
    );
    const counts = { message_type: 'BIRTHDAY', channel: 'http', late_p50: 10, unsubscribed: 0 };
    expect(found).toEqual([
      expect.objectContaining({ vendor: '', version: 1, planned: 2, sent: 1, suppressed: 1 }),
      expect.objectContaining({
        ...counts,
        ...{ vendor: 'relay', version: 1, sent: 2, delivered: 1, bounced: 1, complained: 1 },
      }),
      expect.objectContaining({ ...counts, vendor: 'relay', version: 2, sent: 1, delivered: 1 }),
    ]);
  });

  test('answer-rules lists what a refusal means, the first rule first', async () => {
    const found = await rowsAfter(
      `insert into app_private.answer_rules (position, channel, lowest_code, highest_code, verdict,
         note) values (1, 'http', 418, 419, 'later', 'a teapot')`,
      'answer-rules',
    );
    expect(found[0]).toEqual(
      row({ position: 1, channel: 'http', codes: '418–419', verdict: 'later', note: 'a teapot' }),
    );
  });

  test('message-routes says by which channels a type leaves, and why one does not send', async () => {
    const found = await rowsAfter(
      `insert into app_private.delivery_channels (name, protocol, messages_per_second)
       values ('ses', 'smtp', 0);
       insert into app_private.message_routes (message_type, step, channel, weight)
       values ('BIRTHDAY', 2, 'http', 100), ('BIRTHDAY', 1, 'ses', 300), ('BIRTHDAY', 1, 'push', 10)`,
      'message-routes',
    );
    const route = (step: number, channel: string, weight: number, more: object = {}) =>
      row({ message_type: 'BIRTHDAY', step, channel, weight, problem: '', ...more });
    expect(found).toEqual([
      route(1, 'ses', 300, { problem: 'it is stopped' }),
      route(1, 'push', 10, { address_kind: 'push' }),
      route(2, 'http', 100, { address_kind: 'email' }),
    ]);
  });

  test('schedule lists what is declared, also without pg_cron', async () => {
    const found = await rows('schedule');
    expect(found).toContainEqual(
      row({
        job_name: 'delete-expired-rows',
        schedule: '41 3 * * *',
        is_declared: true,
        is_active: false,
        last_start: null,
        last_status: 'pg_cron is not here',
      }),
    );
  });

  test('retention counts the rows that are due, and monitoring reads none', async () => {
    const user = '00000000-0000-4000-8000-000000000008';
    const found = await rowsAfter(
      `insert into app_public.users (id, email, first_name) values ('${user}', 'r@example.com', 'R');
       insert into app_private.sessions (user_id, refresh_token_hash, expires_at)
       select '${user}', sha256(n::text::bytea), now() - n * interval '1 day'
       from unnest(array[1, 6, 8, 30]) as n;
       update ops.cron_jobs set is_active = false where job_name like 'prune-%'`,
      'retention',
    );
    const named = (relation: string) => found.find((each) => each.relation === relation);
    expect(named('app_private.sessions')).toMatchObject({
      kept_for: '7 days',
      time_column: 'expires_at',
      due_rows: 2,
      due_partitions: null,
      next_job: 'delete-expired-rows',
      schedule: '41 3 * * *',
      blocked_by: 'pg_cron is not here',
    });
    const oldest = named('app_private.sessions')?.oldest as Date;
    expect(Math.round((Date.now() - Number(oldest)) / 86_400_000)).toBe(30);
    const dueAt = named('app_private.sessions')?.due_at as Date;
    expect(Math.round((Date.now() - Number(dueAt)) / 86_400_000)).toBe(23);
    expect(named('cron.job_run_details')).toMatchObject({
      oldest: null,
      due_rows: null,
      blocked_by: 'there is no such table; pg_cron is not here',
    });
    expect(named('app_public.message_logs')).toMatchObject({
      kept_for: null,
      next_job: null,
      blocked_by: null,
    });
    expect(named('app_public.user_activity')).toMatchObject({
      kept_for: '1 year',
      next_job: null,
      blocked_by: expect.stringMatching(/^no active job calls prune_/),
    });
    await expect(db.as('monitor')`select from app_private.sessions`).rejects.toMatchObject({
      code: '42501',
    });
    await expect(db.as('worker')`select ops.retention_status()`).rejects.toMatchObject({
      code: '42501',
    });
  });

  test('retention says which partitions go next, and what is in their way', async () => {
    const aged = `
      set local role gw_owner;
      create table ops.aged (at timestamptz not null, note text) partition by range (at);
      create table app_partitions.aged_default partition of ops.aged default;
      insert into ops.partition_policies
        (parent_table, step, premake, retention, retention_action, require_backup)
      values ('ops.aged', '1 day', 1, '2 days', 'drop', true);
      select ops.create_range_partition('ops.aged', now() - age * interval '1 day', '1 day')
      from generate_series(0, 6) as age;
      insert into ops.aged values (now() - interval '5 days', 'x'), (now(), 'y');`;
    const ask = async (statements: string) =>
      (await rowsAfter(`${aged}${statements}reset role`, 'retention')).find(
        (each) => each.relation === 'ops.aged',
      ) as Row;

    /** The beginning of a day so many days ago, in UTC. */
    const day = (ago: number): Date =>
      new Date(Math.floor(Date.now() / 86_400_000 - ago) * 86_400_000);
    const partition = (ago: number): string =>
      `app_partitions.aged_p${day(ago).toISOString().slice(0, 10).replaceAll('-', '')}`;

    const before = await ask('');
    expect(before).toMatchObject({
      time_column: 'at',
      due_rows: null,
      due_partitions: 4,
      detached_partitions: 0,
      next_partition: partition(6),
      due_at: day(3),
      next_job: 'prune-partitions',
    });
    expect(Math.round((Date.now() - (before.oldest as Date).getTime()) / 86_400_000)).toBe(5);
    const detached = await ask('select ops.prune_partitions();');
    expect(detached).toMatchObject({
      due_partitions: 0,
      detached_partitions: 4,
      next_partition: partition(6),
      next_job: 'drop-detached-partitions',
      blocked_by: 'no verified backup began after it was detached; pg_cron is not here',
    });
    expect(Date.now() - (detached.oldest as Date).getTime()).toBeLessThan(3_600_000);
    const referenced = await ask(`
      alter table ops.aged add unique (at, note);
      create table ops.child (at timestamptz, note text,
        foreign key (at, note) references ops.aged (at, note));
      insert into ops.child select * from ops.aged where note = 'x';
      select ops.prune_partitions();`);
    expect(referenced).toMatchObject({
      due_partitions: 1,
      next_job: 'prune-partitions',
      blocked_by: expect.stringContaining('violates foreign key constraint'),
    });
  });

  test('retention tells which policy failed, and which table the owner cannot read', async () => {
    const found = await rowsAfter(
      `set local role gw_owner;
       create table ops.refusing as select now() - interval '9 days' as at;
       create trigger refuse before delete on ops.refusing
         for each statement execute function app_private.tg__append_only();
       insert into ops.retention_policies (relation, time_column, kept_for, reason)
       values ('ops.refusing', 'at', '1 day', 'x');
       select ops.delete_expired_rows();
       reset role;
       create table ops.hidden as select now() as at;
       insert into ops.retention_policies (relation, time_column, kept_for, reason)
       values ('ops.hidden', 'at', '1 day', 'x');`,
      'retention',
    );
    expect(found).toContainEqual(
      row({
        relation: 'ops.refusing',
        due_rows: 1,
        blocked_by: expect.stringMatching(/^failed: GW030: /),
      }),
    );
    expect(found).toContainEqual(
      row({
        relation: 'ops.hidden',
        oldest: null,
        due_rows: null,
        blocked_by: expect.stringMatching(/^gw_owner may not delete from it/),
      }),
    );
  });

  test('audit, alerts and backups list what there is', async () => {
    expect(
      await rowsAfter("select ops.audit('test.done', '{\"a\": 1}')", 'audit', { action: '^test' }),
    ).toMatchObject([{ action: 'test.done', details: '{"a": 1}' }]);
    expect(
      await rowsAfter("select ops.raise_alert('x-y', 'o', 'critical', 'd')", 'alerts'),
    ).toMatchObject([{ state: 'open', check_name: 'x-y', level: 'critical', open_seconds: 0 }]);
    const made = `delete from ops.backups; insert into ops.backups (kind, location, started_at, finished_at)
      values ('logical', 'here', now() - interval '1 hour', now())`;
    expect(await rowsAfter(made, 'backups')).toMatchObject([
      { run_seconds: 3600, verified_at: null },
    ]);
  });

  test('connection-pools draws who waited, and api-queries lists slow operations', async () => {
    const samples = `delete from app_private.connection_pool_stats;
      insert into app_private.connection_pool_stats (pool_name, total_connections,
        active_connections, idle_connections, waiting_connections, recorded_at)
      select 'api', 20, 20, 0, n, now() - (5 - n) * interval '1 minute'
      from generate_series(1, 3) as n`;
    expect(await rowsAfter(samples, 'connection-pools')).toMatchObject([
      { pool_name: 'api', waiting: 3, waiting_history: [1, 2, 3] },
    ]);
    const metrics = `insert into app_private.performance_metrics
        (metric_type, metric_name, duration_ms, query_hash, user_id)
      select 'query', 'slow', 9000, 'slowest', gen_random_uuid() from generate_series(1, 20)`;
    expect((await rowsAfter(metrics, 'api-queries'))[0]).toMatchObject({
      query_hash: 'slowest',
      executions: 20,
      p95_seconds: 9,
      users: 20,
    });
  });
});
