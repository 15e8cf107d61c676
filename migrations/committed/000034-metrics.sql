--! Previous: sha1:f5d4ca76102c3859e2414d90e5db7c95e9df17c0
--! Hash: sha1:9170d6ecdbd7fd6b6b870c016018bdc141f6751c
--! Message: metrics
--! Baseline: topics/34-metrics.sql

/*
 * How long things took, how connection pools are used, and summaries of both.
 *
 * squawk asks for concurrent indexes on the materialized views. These views are new and have
 * no readers yet, so the rule is ignored where it says so.
 */

-- A unique key of a partitioned table must contain the partition column, so id alone
-- cannot be the primary key.
--
-- user_id is a plain uuid. Metrics are the system's, not the user's: many are about
-- nobody, they outlive the account for as long as the policy keeps them, and a foreign
-- key would cost each insert a lookup and each deleted account a pass over all months.
create table app_private.performance_metrics (
  id uuid not null default gen_random_uuid(),
  metric_type text not null,
  metric_name text not null,
  duration_ms integer not null,
  memory_usage_mb integer,
  cpu_usage_percent numeric(5, 2),
  user_id uuid,
  session_id text,
  request_id text,
  endpoint text,
  query_hash text,
  user_agent text,
  ip_address inet,
  "timestamp" timestamptz not null default now(),
  metadata jsonb not null default '{}',
  constraint performance_metrics_pkey primary key (id, "timestamp"),
  constraint performance_metrics_metric_type_check
    check (metric_type in ('query', 'api', 'frontend', 'cache')),
  constraint performance_metrics_metric_name_check
    check (length(metric_name) between 1 and 100),
  constraint performance_metrics_duration_check check (duration_ms >= 0),
  constraint performance_metrics_memory_check check (memory_usage_mb >= 0),
  constraint performance_metrics_cpu_check check (cpu_usage_percent between 0 and 100),
  constraint performance_metrics_session_id_check check (length(session_id) <= 100),
  constraint performance_metrics_request_id_check check (length(request_id) <= 100),
  constraint performance_metrics_endpoint_check check (length(endpoint) <= 200),
  constraint performance_metrics_query_hash_check
    check (length(query_hash) between 1 and 64),
  constraint performance_metrics_user_agent_check check (length(user_agent) <= 1000),
  constraint performance_metrics_metadata_check check (jsonb_typeof(metadata) = 'object')
) partition by range ("timestamp");

create table app_partitions.performance_metrics_default
  partition of app_private.performance_metrics default;

create index performance_metrics_metric_type_timestamp_idx
  on app_private.performance_metrics (metric_type, "timestamp");

create index performance_metrics_duration_ms_idx
  on app_private.performance_metrics (duration_ms);

-- Partial: most rows have most of these columns empty, and each index costs each insert.
create index performance_metrics_user_id_timestamp_idx_where_known
  on app_private.performance_metrics (user_id, "timestamp")
  where user_id is not null;

create index performance_metrics_endpoint_timestamp_idx_where_known
  on app_private.performance_metrics (endpoint, "timestamp")
  where endpoint is not null;

create index performance_metrics_query_hash_timestamp_idx_where_known
  on app_private.performance_metrics (query_hash, "timestamp")
  where query_hash is not null;

alter table app_private.performance_metrics enable row level security;

create policy writers on app_private.performance_metrics
  for insert to gw_authenticator
  with check (true);

create policy everyone on app_private.performance_metrics
  for select to gw_monitor
  using (true);

-- No update, no delete: old months are dropped by the partition policy. gw_monitor does
-- not see user_id.
grant insert on app_private.performance_metrics to gw_authenticator;

grant select (id, metric_type, metric_name, duration_ms, memory_usage_mb,
  cpu_usage_percent, request_id, endpoint, query_hash, "timestamp", metadata)
  on app_private.performance_metrics to gw_monitor;

comment on table app_private.performance_metrics is
  'Durations of requests and statements. Processes write them in batches; ops.query_performance() summarizes them.';
comment on column app_private.performance_metrics.metric_type is
  'query, api, frontend or cache.';
comment on column app_private.performance_metrics.duration_ms is 'Duration in milliseconds.';
comment on column app_private.performance_metrics.user_id is
  'The user who made the request; null for the system itself. The account may be deleted by now.';
comment on column app_private.performance_metrics.query_hash is
  'Identifies a statement or an operation, independent of its parameters.';
comment on column app_private.performance_metrics."timestamp" is 'When the request or statement began.';

-- Each process samples its own connection pool.
create table app_private.connection_pool_stats (
  id uuid not null default gen_random_uuid(),
  pool_name text not null,
  database_name text not null default current_database(),
  total_connections integer not null,
  active_connections integer not null,
  idle_connections integer not null,
  waiting_connections integer not null,
  avg_connection_time_ms numeric(10, 3),
  max_connection_time_ms integer,
  connection_errors integer not null default 0,
  recorded_at timestamptz not null default now(),
  constraint connection_pool_stats_pkey primary key (id, recorded_at),
  constraint connection_pool_stats_pool_name_check
    check (length(pool_name) between 1 and 50),
  constraint connection_pool_stats_database_name_check
    check (length(database_name) between 1 and 63),
  constraint connection_pool_stats_connections_check
    check (least(total_connections, active_connections, idle_connections,
      waiting_connections, connection_errors) >= 0),
  constraint connection_pool_stats_connection_time_check
    check (least(avg_connection_time_ms, max_connection_time_ms) >= 0)
) partition by range (recorded_at);

create table app_partitions.connection_pool_stats_default
  partition of app_private.connection_pool_stats default;

create index connection_pool_stats_recorded_at_idx
  on app_private.connection_pool_stats (recorded_at);

create index connection_pool_stats_pool_name_recorded_at_idx
  on app_private.connection_pool_stats (pool_name, recorded_at);

alter table app_private.connection_pool_stats enable row level security;

create policy writers on app_private.connection_pool_stats
  for insert to gw_authenticator, gw_worker
  with check (true);

create policy everyone on app_private.connection_pool_stats
  for select to gw_monitor
  using (true);

grant insert on app_private.connection_pool_stats to gw_authenticator, gw_worker;

grant select on app_private.connection_pool_stats to gw_monitor;

comment on table app_private.connection_pool_stats is
  'Samples of the processes'' connection pools.';
comment on column app_private.connection_pool_stats.waiting_connections is
  'Callers that waited for a connection when the sample was taken.';
comment on column app_private.connection_pool_stats.avg_connection_time_ms is
  'Mean time that callers waited for a connection since the sample before, in milliseconds.';

-- Tasks, projects, lists and metrics are counted separately and then joined by user. A
-- join before counting multiplies rows: 3 tasks and 2 projects would count as 6 tasks.
create materialized view app_private.user_activity_summary as
select
  users.id as user_id,
  users.email,
  coalesce(task.total, 0) as total_tasks,
  coalesce(project.total, 0) as total_projects,
  coalesce(list.total, 0) as total_lists,
  coalesce(task.completed, 0) as completed_tasks,
  coalesce(task.recent, 0) as recent_tasks,
  task.last_activity,
  coalesce(metric.avg_duration_ms, 0) as avg_response_time_ms
from app_public.users
left join (
  select tasks.user_id,
    count(*) as total,
    count(*) filter (where tasks.status = 'done') as completed,
    count(*) filter (where tasks.created_at >= current_date - interval '30 days')
      as recent,
    max(tasks.updated_at) as last_activity
  from app_public.tasks
  group by tasks.user_id
) as task on task.user_id = users.id
left join (
  select projects.user_id, count(*) as total
  from app_public.projects
  group by projects.user_id
) as project on project.user_id = users.id
left join (
  select lists.user_id, count(*) as total
  from app_public.lists
  group by lists.user_id
) as list on list.user_id = users.id
left join (
  select performance_metrics.user_id,
    avg(performance_metrics.duration_ms) as avg_duration_ms
  from app_private.performance_metrics
  where performance_metrics.metric_type = 'api'
    and performance_metrics."timestamp" >= current_date - interval '7 days'
    and performance_metrics.user_id is not null
  group by performance_metrics.user_id
) as metric on metric.user_id = users.id
where users.deleted_at is null;

-- squawk-ignore require-concurrent-index-creation
create unique index user_activity_summary_user_id_key
  on app_private.user_activity_summary (user_id);

comment on materialized view app_private.user_activity_summary is
  'Counts for each user, as of the latest refresh. To refresh it reads the tables whole, so nothing does so unasked: refresh_performance_views().';
comment on column app_private.user_activity_summary.last_activity is
  'When a task last changed; null without tasks.';
comment on column app_private.user_activity_summary.avg_response_time_ms is
  'Mean duration of the user''s API requests in the last 7 days; 0 without requests.';

-- refresh materialized view concurrently needs a unique index on plain columns, without a
-- condition.
create materialized view app_private.query_performance_summary as
select
  performance_metrics.query_hash,
  count(*) as execution_count,
  avg(performance_metrics.duration_ms) as avg_duration_ms,
  min(performance_metrics.duration_ms) as min_duration_ms,
  max(performance_metrics.duration_ms) as max_duration_ms,
  percentile_cont(0.95) within group (order by performance_metrics.duration_ms)
    as p95_duration_ms,
  count(distinct performance_metrics.user_id) as unique_users,
  max(performance_metrics."timestamp") as last_execution
from app_private.performance_metrics
where performance_metrics.metric_type = 'query'
  and performance_metrics."timestamp" >= current_date - interval '7 days'
  and performance_metrics.query_hash is not null
group by performance_metrics.query_hash
having count(*) > 10;

-- squawk-ignore require-concurrent-index-creation
create unique index query_performance_summary_query_hash_key
  on app_private.query_performance_summary (query_hash);

-- squawk-ignore require-concurrent-index-creation
create index query_performance_summary_avg_duration_ms_idx
  on app_private.query_performance_summary (avg_duration_ms);

grant select on app_private.query_performance_summary to gw_monitor;

comment on materialized view app_private.query_performance_summary is
  'Queries that ran more than 10 times in the last 7 days, with their durations, as of the latest refresh: refresh_performance_views().';

-- The same for the caller alone, counted when it is asked for. It has the owner's rights
-- because metrics are nobody's to read. security_barrier: a caller's condition is never
-- evaluated on rows of others.
create view app_public.my_activity_summary with (security_barrier) as
select
  users.id as user_id,
  task.total_tasks,
  (
    select count(*)::integer from app_public.projects where projects.user_id = users.id
  ) as total_projects,
  (
    select count(*)::integer from app_public.lists where lists.user_id = users.id
  ) as total_lists,
  task.completed_tasks,
  task.recent_tasks,
  task.last_activity,
  coalesce((
    select avg(performance_metrics.duration_ms)::double precision
    from app_private.performance_metrics
    where performance_metrics.user_id = users.id
      and performance_metrics.metric_type = 'api'
      and performance_metrics."timestamp" >= current_date - interval '7 days'
  ), 0) as avg_response_time_ms
from app_public.users
cross join lateral (
  select count(*)::integer as total_tasks,
    count(*) filter (where tasks.status = 'done')::integer as completed_tasks,
    count(*) filter (where tasks.created_at >= current_date - interval '30 days')::integer
      as recent_tasks,
    max(tasks.updated_at) as last_activity
  from app_public.tasks
  where tasks.user_id = users.id
) as task
where users.id = app_hidden.current_app_user_id()
  and users.deleted_at is null;

grant select on app_public.my_activity_summary to app_user;

comment on view app_public.my_activity_summary is
  E'@primaryKey user_id\nYour counts: one row.';
comment on column app_public.my_activity_summary.user_id is 'Your id.';
comment on column app_public.my_activity_summary.total_tasks is
  E'@notNull\nTasks of any status.';
comment on column app_public.my_activity_summary.total_projects is
  E'@notNull\nProjects, including archived ones.';
comment on column app_public.my_activity_summary.total_lists is E'@notNull\nLists.';
comment on column app_public.my_activity_summary.completed_tasks is
  E'@notNull\nTasks whose status is done.';
comment on column app_public.my_activity_summary.recent_tasks is
  E'@notNull\nTasks created in the last 30 days.';
comment on column app_public.my_activity_summary.last_activity is
  'When a task last changed; null without tasks.';
comment on column app_public.my_activity_summary.avg_response_time_ms is
  E'@notNull\nMean duration of your API requests in the last 7 days, in milliseconds; 0 without requests.';

--! Included functions/app_private/refresh_performance_views.sql
create or replace function app_private.refresh_performance_views() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  summary record;
begin
  -- A refresh that takes longer than 15 minutes is not joined by the next.
  if pg_is_in_recovery()
    or not pg_try_advisory_xact_lock(
      hashtextextended('app_private.refresh_performance_views', 0))
  then
    return;
  end if;

  for summary in
    select pg_class.oid::regclass as name, pg_class.relispopulated
    from pg_catalog.pg_class
    where pg_class.oid in ('app_private.user_activity_summary'::regclass,
      'app_private.query_performance_summary'::regclass)
    order by pg_class.relname
  loop
    -- What was restored without its rows cannot be refreshed concurrently the first time.
    execute format('refresh materialized view %s %s',
      case when summary.relispopulated then 'concurrently' else '' end, summary.name);
  end loop;
end
$$;

comment on function app_private.refresh_performance_views() is
  'Refreshes both summaries without keeping readers waiting.';
--! EndIncluded functions/app_private/refresh_performance_views.sql
--! Included functions/ops/query_performance.sql
-- Definer: gw_monitor may not see whose requests the measurements are, only how many users.
create or replace function ops.query_performance(p_since timestamptz)
returns table (
  query_hash text, executions bigint, mean_seconds double precision,
  p95_seconds double precision, max_seconds double precision, users bigint,
  last_execution timestamptz
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select query_hash,
    count(*),
    avg(duration_ms)::float8 / 1000,
    percentile_cont(0.95) within group (order by duration_ms)::float8 / 1000,
    max(duration_ms)::float8 / 1000,
    count(distinct user_id),
    max("timestamp")
  from app_private.performance_metrics
  where metric_type = 'query'
    and query_hash is not null
    and "timestamp" >= p_since
  group by query_hash
  having count(*) > 10
$$;

grant execute on function ops.query_performance(timestamptz) to gw_monitor;
comment on function ops.query_performance(timestamptz) is
  'Operations of the API that ran more than 10 times since then, with their durations in seconds and the number of users. Reads every measurement since then.';
--! EndIncluded functions/ops/query_performance.sql
