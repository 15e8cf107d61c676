--! Previous: sha1:eec07ce8c58661d21ed479830019079746cafe4f
--! Hash: sha1:6c684c59d5759c3f17b30166f3a9a5eaee29f3b0
--! Message: scrape
--! Baseline: topics/39-scrape.sql

/*
 * Figures for Prometheus, in one call.
 */

-- One row. Logged: a promoted standby has it, too.
create table ops.metrics_lease (
  is_only boolean not null default true,
  process uuid not null default gen_random_uuid(),
  asked_at timestamptz not null default '-infinity',
  constraint metrics_lease_pkey primary key (is_only),
  constraint metrics_lease_is_only_check check (is_only)
);

insert into ops.metrics_lease default values;

comment on table ops.metrics_lease is
  'Which process has the figures of ops.metrics() in its own. One row.';
comment on column ops.metrics_lease.is_only is 'Always true: there is one row.';
comment on column ops.metrics_lease.process is 'The process, by an id that it made up when it began.';
comment on column ops.metrics_lease.asked_at is
  'When it last asked; another takes its place 90 seconds later.';

--! Included functions/ops/queue_metrics.sql
-- The age of the oldest job that waits shows whether there are enough workers. Active and
-- failed jobs are as the workers last counted them: no index serves them.
create or replace function ops.queue_metrics()
returns table (name text, labels jsonb, value double precision, help text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with waiting as (
    select job.name as queue,
      count(*) filter (where job.start_after > now()) as deferred,
      count(*) filter (where job.start_after <= now()) as ready,
      min(job.start_after) filter (where job.start_after <= now()) as oldest
    from pgboss.job
    where job.state < 'active'
      and not job.blocked
    group by job.name
  )
  select measured.metric,
    jsonb_build_object('queue', queue.name, 'state', measured.state),
    measured.amount,
    case measured.metric
      when 'gw_queue_jobs' then 'Jobs by queue and state.'
      else 'How long the oldest job that is due has waited, in seconds.' end
  from pgboss.queue
  left join waiting on waiting.queue = queue.name
  cross join lateral (values
    ('gw_queue_jobs', 'deferred', coalesce(waiting.deferred, 0)::double precision),
    ('gw_queue_jobs', 'ready', coalesce(waiting.ready, 0)::double precision),
    ('gw_queue_jobs', 'active', queue.active_count::double precision),
    ('gw_queue_jobs', 'failed', queue.failed_count::double precision),
    ('gw_queue_oldest_seconds', 'ready',
      coalesce(extract(epoch from now() - waiting.oldest), 0)::double precision)
  ) as measured (metric, state, amount)
$$;

comment on function ops.queue_metrics() is 'The part of ops.metrics() about job queues.';
--! EndIncluded functions/ops/queue_metrics.sql
--! Included functions/ops/message_metrics.sql
create or replace function ops.message_metrics()
returns table (name text, labels jsonb, value double precision, help text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'gw_messages',
    jsonb_build_object('type', types.message_type, 'status', statuses.status),
    count(message_logs.id)::double precision,
    'Messages that were due in the last 24 hours, by type and status.'
  from (select type from app_private.message_types) as types (message_type)
  cross join unnest(array['SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'RETRYING', 'FAILED',
    'CANCELED', 'EXPIRED', 'UNKNOWN', 'SUPPRESSED']) as statuses (status)
  left join app_public.message_logs
    on message_logs.message_type = types.message_type
    and message_logs.status = statuses.status
    and message_logs.scheduled_send_time > now() - interval '24 hours'
    and message_logs.scheduled_send_time <= now()
  group by types.message_type, statuses.status
  union all
  select 'gw_message_lateness_seconds', '{}'::jsonb,
    coalesce(extract(epoch from now() - min(overdue.oldest)), 0)::double precision,
    'How late the most overdue message is, in seconds. Messages that a person or quiet '
      'hours hold do not count.'
  from ops.overdue_messages(interval '0') as overdue
$$;

comment on function ops.message_metrics() is 'The part of ops.metrics() about messages.';
--! EndIncluded functions/ops/message_metrics.sql
--! Included functions/ops/metrics.sql
-- Definer: monitoring counts rows that it may not read. Labels hold names of queues,
-- tables, jobs and roles, nothing of a user. Each part reads a range of an index or a
-- small table.
create or replace function ops.metrics()
returns table (name text, labels jsonb, value double precision, help text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  hits double precision;
  misses double precision;
begin
  return query select * from ops.queue_metrics();
  return query select * from ops.message_metrics();

  return query
  select measured.metric, jsonb_build_object('slot', status.slot_name),
    measured.amount, measured.help
  from ops.change_capture_status as status
  cross join lateral (values
    ('gw_cdc_lag_bytes', status.lag_bytes::double precision,
      'Write-ahead log that change capture has not confirmed, in bytes.'),
    ('gw_cdc_lag_seconds', status.lag_seconds,
      'How far change capture is behind, in seconds.'),
    ('gw_cdc_active', status.active::integer::double precision,
      'Whether change capture is connected.')
  ) as measured (metric, amount, help)
  where measured.amount is not null;

  -- Dynamic SQL, because the shadow database and test databases have no schema "cron".
  if exists (select from pg_extension where extname = 'pg_cron') then
    return query execute $sql$
      select 'gw_cron_failures', jsonb_build_object('job', job.jobname),
        count(details.runid)::double precision,
        'Failed runs of a pg_cron job in the last 24 hours.'
      from cron.job
      left join cron.job_run_details as details
        on details.jobid = job.jobid
        and details.status = 'failed'
        and details.start_time > now() - interval '24 hours'
      where job.database = current_database()
        and job.jobname is not null
      group by job.jobname
    $sql$;
  end if;

  return query
  select 'gw_partition_months_ahead',
    jsonb_build_object('table', partition_policies.parent_table::text),
    greatest(0, extract(epoch from
      coalesce(max(bounds.upper_bound), now()) - now()) / 2629746)::double precision,
    'How many months ahead the table has partitions.'
  from ops.partition_policies
  inner join pg_class as parent on parent.oid = partition_policies.parent_table
  left join pg_inherits on pg_inherits.inhparent = partition_policies.parent_table
  left join pg_class as child on child.oid = pg_inherits.inhrelid
  left join lateral (
    select substring(pg_get_expr(child.relpartbound, child.oid)
      from ' TO \(''([^'']+)''\)$')::timestamptz
  ) as bounds (upper_bound) on true
  group by partition_policies.parent_table;

  return query
  select 'gw_backup_age_seconds', '{}'::jsonb,
    coalesce(extract(epoch from now() - max(backups.finished_at)), 'Infinity')
      ::double precision,
    'How long ago the last verified backup of the whole database ended; +Inf without.'
  from ops.backups
  where backups.verified_at is not null
    and backups.tables is null;

  return query
  select 'gw_alerts_open', jsonb_build_object('level', levels.level),
    count(alerts.id)::double precision, 'Alerts that are open.'
  from unnest(array['warning', 'critical']) as levels (level)
  left join ops.alerts on alerts.level = levels.level and alerts.resolved_at is null
  group by levels.level;

  return query
  select 'gw_database_connections',
    jsonb_build_object('role', coalesce(pg_stat_activity.usename::text, 'none')),
    count(*)::double precision, 'Connections to this database, by role.'
  from pg_stat_activity
  where pg_stat_activity.datname = current_database()
  group by pg_stat_activity.usename;

  select coalesce(pg_sequence_last_value('app_private.query_cache_hits'), 0),
    coalesce(pg_sequence_last_value('app_private.query_cache_misses'), 0)
  into hits, misses;
  return query values
    ('gw_query_cache_hits_total', '{}'::jsonb, hits, 'Reads of the query cache that found a result.'),
    ('gw_query_cache_misses_total', '{}'::jsonb, misses, 'Reads of the query cache that found none.'),
    ('gw_query_cache_hit_ratio', '{}'::jsonb, hits / nullif(hits + misses, 0),
      'Share of reads that found a result, since the counters began.');
end
$$;

grant execute on function ops.metrics() to gw_monitor;
comment on function ops.metrics() is
  'Metrics for a scraper: queues, messages, change capture, cron, backups and more.';
--! EndIncluded functions/ops/metrics.sql
--! Included functions/ops/metrics_of_fleet.sql
-- Each scrape of each process asks. The figures are the same for all, and cost most of a
-- scrape: one process has them, for as long as it keeps asking. Nobody waits for a process
-- that is being answered.
--
-- On a server that takes no writes, or whose disk is full, there is no lease, and whoever
-- asks gets them.
create or replace function ops.metrics_of_fleet(p_process uuid)
returns table (name text, labels jsonb, value double precision, help text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  begin
    perform from ops.metrics_lease
    where process = p_process
      or asked_at < clock_timestamp() - interval '90 seconds'
    for update skip locked;
    if not found then
      return;
    end if;
    update ops.metrics_lease
    set process = p_process,
      asked_at = clock_timestamp();
  exception
    when read_only_sql_transaction or disk_full then
      null;
  end;
  return query select * from ops.metrics();
end
$$;

grant execute on function ops.metrics_of_fleet(uuid) to gw_authenticator;
comment on function ops.metrics_of_fleet(uuid) is
  'As ops.metrics(), for one process at a time: no rows for one while another has asked within the last 90 seconds.';
--! EndIncluded functions/ops/metrics_of_fleet.sql
