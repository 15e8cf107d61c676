import type { Transaction } from '../../src/postgres/connect.ts';

/** What makes a check find something, in a superuser's transaction that is rolled back. */
export interface HealthFault {
  check: string;
  title: string;
  violate: string | ((sql: Transaction) => Promise<unknown>);
  /** Thresholds. */
  params?: Record<string, string>;
  /** `level object`, of what is found then and was not before. */
  findings: string[];
}

const message = (status: string, due: string, user: string): string => `
  insert into app_public.users (id, email, first_name)
  values ('${user}', '${user}@example.com', 'Late');
  insert into app_public.message_logs (user_id, id, message_type, delivery_date,
    message_content, scheduled_send_time, idempotency_key, status)
  values ('${user}', gen_random_uuid(), 'BIRTHDAY', current_date, 'x', ${due}, '${user}',
    '${status}');`;
const someone = (digit: number): string => `00000000-0000-4000-8000-00000000000${digit}`;

export const healthFaults: HealthFault[] = [
  {
    check: 'fence',
    title: 'a copy that nobody has adopted',
    violate: 'update ops.identity set timeline = timeline + 1',
    findings: ['critical '],
  },
  {
    check: 'connections',
    title: 'a server whose connections are taken',
    // Analysts of other tests are not what is looked for.
    violate: 'alter role gw_readonly connection limit -1',
    params: { connections_warning: '0.001', connections_critical: '0.9999' },
    findings: ['warning '],
  },
  {
    check: 'disk',
    title: 'files that fill the volume that they are said to have',
    violate: '',
    params: { disk_volume: '1000000' },
    findings: ['critical '],
  },
  {
    check: 'partition-coverage',
    title: 'a table whose partitions end tomorrow, and one without any for today',
    violate: `
      create table ops.soon (at timestamptz) partition by range (at);
      create table ops.soon_p partition of ops.soon
        for values from ('2020-01-01') to (${"'tomorrow'"});
      create table ops.never (at date) partition by range (at);
      create table ops.never_default partition of ops.never default;
      create table ops.gap (at timestamp) partition by range (at);
      do $$ begin
        execute format('create table ops.gap_a partition of ops.gap for values from (%L) to (%L)',
          now()::date - 40, now()::date + 40);
        execute format('create table ops.gap_b partition of ops.gap for values from (%L) to (%L)',
          now()::date + 70, now()::date + 700);
      end $$;
      create table ops.daily (at timestamptz) partition by range (at);
      do $$ begin
        for day in 0..3 loop
          execute format('create table ops.daily_%s partition of ops.daily'
            ' for values from (%L) to (%L)', day, current_date + day, current_date + day + 1);
        end loop;
      end $$;`,
    findings: ['critical ops.never', 'critical ops.soon', 'warning ops.gap'],
  },
  {
    check: 'message-holds',
    title: 'messages that somebody stopped a day ago, and not a hold that ends or holds nothing',
    violate: `
      ${message('QUEUED', "now() - interval '1 day'", someone(1))}
      insert into app_private.message_holds (reason, held_at, held_until) values
        ('a wrong text', now() - interval '2 days', null),
        ('a holiday', now() - interval '2 days', now() + interval '1 day'),
        ('nothing', now() - interval '2 days', null);
      update app_public.message_logs
      set hold_id = (select id from app_private.message_holds where reason = 'a wrong text');
      update app_private.message_holds set held_at = now() - interval '3 hours'
      where reason = 'a wrong text';`,
    findings: ['warning hold 1'],
  },
  {
    check: 'message-routes',
    title: 'a route by which no worker sends, alone in its step or not',
    violate: `
      insert into app_private.delivery_channels (name, protocol)
      values ('ses', 'smtp'), ('relay', 'http');
      insert into app_private.send_workers (channel) values ('http'), ('relay');
      insert into app_private.message_routes (message_type, step, channel) values
        ('BIRTHDAY', 1, 'ses'), ('BIRTHDAY', 1, 'relay'), ('BIRTHDAY', 2, 'http'),
        ('ANNIVERSARY', 1, 'ses');`,
    findings: ['critical ANNIVERSARY by ses', 'warning BIRTHDAY by ses'],
  },
  {
    check: 'untranslated-locales',
    title: 'a language that enough people read, and not English, nor one with a text',
    violate: `
      insert into app_public.users (email, first_name)
      select 'reader' || n || '@example.com', 'R' from generate_series(1, 320) as n;
      insert into app_public.user_settings (user_id, locale)
      select id, case when n <= 110 then 'da' when n <= 150 then 'fi'
        when n <= 260 then 'de-AT' else 'en-GB' end
      from (
        select id, substring(email from '[0-9]+')::integer as n
        from app_public.users where email like 'reader%'
      ) as readers;`,
    findings: ['warning da'],
  },
  {
    check: 'stuck-messages',
    title: 'messages that were due long ago, and not those that are sent, failed or due now',
    violate: `
      ${message('SCHEDULED', "now() - interval '2 hours'", someone(1))}
      ${message('SENDING', "now() - interval '1 day'", someone(2))}
      ${message('FAILED', "now() - interval '1 day'", someone(3))}
      ${message('CANCELED', "now() - interval '1 day'", someone(5))}
      ${message('SCHEDULED', "now() - interval '1 minute'", someone(4))}`,
    findings: ['critical BIRTHDAY SENDING', 'warning BIRTHDAY SCHEDULED'],
  },
  {
    check: 'set-aside-users',
    title: 'users in a zone that the server does not know, and one who cannot be planned',
    violate: `
      insert into app_hidden.timezones values ('Atlantis/Capital');
      set local session_replication_role = replica;
      insert into app_public.users (id, email, first_name, timezone) values
        ('${someone(6)}', 'six@example.com', 'Six', 'Atlantis/Capital'),
        ('${someone(7)}', 'seven@example.com', 'Seven', 'UTC');
      set local session_replication_role = origin;
      insert into app_private.set_aside_users (user_id, task, error, failed_at)
      values ('${someone(7)}', 'plan', '23514: refused', now());`,
    findings: ['critical messages', 'critical time zones'],
  },
  {
    check: 'missing-configuration',
    title: 'settings, a queue and a template that somebody deleted',
    violate: `
      set local session_replication_role = replica;
      delete from app_private.message_settings;
      delete from app_private.message_templates
      where message_type = 'ANNIVERSARY' and locale = 'en';
      delete from pgboss.queue where name = 'alert-notify';
      set local session_replication_role = origin;`,
    findings: [
      'critical ANNIVERSARY',
      'critical alert-notify',
      'critical app_private.message_settings',
    ],
  },
  {
    check: 'broken-plans',
    title: 'a ledger row without its message, and a wish without a schedule',
    violate: `
      insert into app_public.users (id, email, first_name, birthday_date)
      values ('${someone(8)}', 'eight@example.com', 'Eight', '1990-01-01');
      delete from app_private.message_schedule where user_id = '${someone(8)}';
      insert into app_private.message_ledger
        (user_id, message_type, delivery_date, message_id, scheduled_send_time)
      values ('${someone(8)}', 'BIRTHDAY', current_date, gen_random_uuid(), now());`,
    findings: ['critical message_ledger', 'critical message_schedule'],
  },
  {
    check: 'unknown-deliveries',
    title: 'a message of which nobody knows whether it was delivered',
    violate: message('UNKNOWN', "now() - interval '1 day'", someone(5)),
    findings: ['warning message-send'],
  },
  {
    check: 'dead-letters',
    title: 'a job that was given up',
    violate: "insert into pgboss.job (name) values ('message-send-dead')",
    findings: ['warning message-send-dead'],
  },
  {
    check: 'job-queues',
    title: 'a job that is due for half an hour',
    violate: `insert into pgboss.job (name, start_after)
      values ('message-send', now() - interval '30 minutes')`,
    findings: ['warning message-send'],
  },
  {
    check: 'backups',
    title: 'an old backup that was never tried',
    violate: `insert into ops.backups (kind, location, started_at, finished_at)
      values ('logical', 'x', now() - interval '4 days', now() - interval '4 days')`,
    findings: ['critical ', 'warning verification'],
  },
  {
    check: 'rls-disabled',
    title: 'a table whose row-level security somebody switched off',
    violate: 'alter table app_public.habits disable row level security',
    findings: ['critical app_public.habits'],
  },
  {
    check: 'change-capture',
    title: 'change capture that failed, one that is behind, and one that counts again and again',
    violate: `
      drop view if exists ops.change_capture_status cascade;
      create view ops.change_capture_status as
      select slot_name, 'pgoutput' as plugin, true as active, 'reserved' as wal_status,
        0::bigint as lag_bytes, lag_seconds, null::pg_lsn as applied_lsn,
        now() as applied_at, state, error, recounts
      from (values ('a', 'failed', 0::numeric, 'no such table', 0),
        ('b', 'running', 90, null, 0), ('c', 'running', 1, null, 1),
        ('d', 'running', 1, null, 2)) as slots (slot_name, state, lag_seconds, error, recounts)`,
    findings: ['critical a', 'warning b', 'warning d'],
  },
  {
    check: 'audit-log',
    title: 'an entry that was altered',
    violate: `
      select ops.audit('test.done');
      alter table ops.audit_log disable trigger _200_append_only;
      update ops.audit_log set actor = 'somebody else'
        where id = (select max(id) from ops.audit_log);`,
    findings: ['critical '],
  },
  {
    check: 'sequences',
    title: 'a sequence whose column ends before it does',
    violate: `
      create table ops.counted (id int generated always as identity);
      select setval('ops.counted_id_seq', 2000000000);
      create sequence ops.cycling maxvalue 10 cycle;
      select setval('ops.cycling', 10);`,
    findings: ['critical ops.counted_id_seq'],
  },
  {
    check: 'settings',
    title: 'a setting that damages data',
    violate: 'set local zero_damaged_pages = on',
    findings: ['critical zero_damaged_pages'],
  },
  {
    check: 'log-values',
    title: 'each way in which a value gets into the log, for the server, a role, a database',
    violate: `
      set local log_parameter_max_length = -1;
      set local log_parameter_max_length_on_error = 64;
      set local log_error_verbosity = 'default';
      set local log_min_error_statement = error;
      set local log_statement = ddl;
      set local debug_print_plan = on;
      load 'auto_explain';
      set local auto_explain.log_min_duration = 0;
      alter role gw_worker set log_error_verbosity = 'VERBOSE';
      alter role gw_worker set log_statement = 'none';
      alter database postgres set auto_explain.log_min_duration = 100;
      alter role gw_cdc in database postgres set log_statement = 'all';`,
    findings: [
      'critical auto_explain.log_min_duration',
      'critical auto_explain.log_min_duration in database postgres',
      'critical debug_print_plan',
      'critical log_error_verbosity',
      'critical log_error_verbosity of role gw_worker',
      'critical log_min_error_statement',
      'critical log_parameter_max_length',
      'critical log_parameter_max_length_on_error',
      'critical log_statement',
      'critical log_statement of role gw_cdc in database postgres',
    ],
  },
  ...[
    ['ahead of ours', -60_000],
    ['behind ours', 600_000],
  ].map(([how, milliseconds]) => ({
    check: 'clock',
    title: `a clock that is ${how}`,
    violate: '',
    params: { clock_client: new Date(Date.now() + Number(milliseconds)).toISOString() },
    findings: ['critical '],
  })),
  {
    check: 'wraparound',
    title: 'databases whose oldest transaction is older than it should be',
    violate: '',
    params: { wraparound_warning: '0' },
    findings: ['warning postgres', 'warning template0', 'warning template1'],
  },
  {
    check: 'collation-version',
    title: 'a collation whose rules changed',
    violate: "update pg_collation set collversion = '0' where collname = 'en-x-icu'",
    findings: ['critical "en-x-icu"'],
  },
  {
    check: 'disabled-triggers',
    title: 'a trigger that is off, and the triggers of a foreign key',
    violate: `
      alter table app_public.habits disable trigger _100_timestamps;
      alter table app_private.unknown_timezones disable trigger all;
      alter table app_private.set_aside_users disable trigger all;`,
    findings: [
      'critical app_private.set_aside_users set_aside_users_user_id_fkey',
      'critical app_public.habits _100_timestamps',
    ],
  },
  {
    check: 'unvalidated-constraints',
    title: 'a constraint that old rows may break',
    violate: `
      alter table app_public.habits add constraint habits_by_hand check (id is not null) not valid`,
    findings: ['warning app_public.habits habits_by_hand'],
  },
  {
    check: 'role-passwords',
    title: 'passwords that have expired and will, and not one that lasts',
    violate: `
      create role gw_gone login password 'expired-0' valid until '2020-01-01';
      create role gw_soon login password 'expires-0';
      do $$ begin
        execute format('alter role gw_soon valid until %L', now() + interval '3 days');
      end $$;
      create role gw_lasts login password 'lasts-000' valid until 'infinity';`,
    findings: ['critical gw_gone', 'warning gw_soon'],
  },
  {
    check: 'checksum-failures',
    title: 'a database with as many damaged pages as it is said to have',
    violate: '',
    params: { checksum_failures: '0' },
    findings: ['critical ', 'critical shared objects'],
  },
  {
    check: 'last-hour',
    title: 'deadlocks, temporary files, checkpoints, forgotten statements and disk reads',
    violate: `
      insert into ops.statistics_samples (taken_at, name, value)
      select now() - interval '30 minutes', name, value - 1e12 from ops.current_statistics()`,
    findings: [
      'warning deadlocks',
      'warning disk reads',
      'warning forgotten statements',
      'warning requested checkpoints',
      'warning temporary files',
    ],
  },
  {
    check: 'extension-versions',
    title: 'an extension whose package was updated',
    violate: "update pg_extension set extversion = '0.1' where extname = 'pgcrypto'",
    findings: ['warning pgcrypto'],
  },
  {
    check: 'replica-identity',
    title: 'a published table without a key, and not one whose changes are not published',
    violate: `
      create table ops.keyless (id integer);
      create table ops.appended (id integer);
      create publication gw_changes for table ops.keyless;
      create publication gw_inserts for table ops.appended with (publish = 'insert');`,
    findings: ['critical ops.keyless'],
  },
  {
    check: 'subscriptions',
    title: 'a subscription that is off',
    violate: `
      create subscription gw_off connection 'host=127.0.0.1' publication p
        with (connect = false, slot_name = none, enabled = false)`,
    findings: ['warning gw_off'],
  },
  {
    check: 'checks-running',
    title: 'checks that nobody has run for an hour',
    violate: "update ops.health_checks set ran_at = now() - interval '1 hour'",
    findings: [],
  },
];
