--! Previous: sha1:84fca519737b0d8d2dcdb8a07f7a4af9d73cbb87
--! Hash: sha1:ab671469ae495c20483a7107ae6a9ac85a7b4a41
--! Message: observability

--! split: 0001-x.sql
/*
 * What the system measures about itself: performance_metrics (one row a request, query,
 * page or cache access), query_cache, connection_pool_stats, and two summaries that are
 * refreshed every 15 minutes.
 *
 * Extensions: pg_stat_statements is made by sql/bootstrap/database.sql, because only a
 * superuser may. uuid-ossp is not needed: gen_random_uuid() is part of PostgreSQL.
 *
 * Locks: none on existing tables. The summaries read users, tasks, projects and lists
 * once, for as long as that takes.
 */

-- Monitoring reads measurements, and nothing else here: each is granted by itself.
grant usage on schema app_private to gw_monitor;

-- A unique key on a partitioned table must contain the column that it is partitioned by:
-- id alone cannot be the key, and the table is partitioned only when it says so.
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
-- Partial: most rows lack most of these, and each index costs each insert.
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
  for insert to gw_authenticator, gw_worker
  with check (true);
create policy everyone on app_private.performance_metrics
  for select to gw_monitor
  using (true);
-- No update, no delete: months leave by their policy. Who it was is not for monitoring.
grant insert on app_private.performance_metrics to gw_authenticator, gw_worker;
grant select (id, metric_type, metric_name, duration_ms, memory_usage_mb,
  cpu_usage_percent, request_id, endpoint, query_hash, "timestamp", metadata)
  on app_private.performance_metrics to gw_monitor;

comment on table app_private.performance_metrics is
  'How long things took. Written in batches by the processes, summarised every 15 minutes.';
comment on column app_private.performance_metrics.metric_type is
  'query, api, frontend or cache.';
comment on column app_private.performance_metrics.duration_ms is 'In milliseconds.';
comment on column app_private.performance_metrics.user_id is
  'Whose request it was; null for the system''s own. May name an account that is gone.';
comment on column app_private.performance_metrics.query_hash is
  'What tells one statement or operation from another, whatever its parameters.';
comment on column app_private.performance_metrics."timestamp" is 'When it began.';

--! Included functions/app_private/sha256_hex.sql
-- convert_to() is declared stable, because a conversion may be replaced; that of a
-- database in UTF-8 to UTF-8 cannot.
create or replace function app_private.sha256_hex(p_text text) returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select encode(sha256(convert_to(p_text, 'UTF8')), 'hex')
$$;
--! EndIncluded functions/app_private/sha256_hex.sql
comment on function app_private.sha256_hex(text) is
  'SHA-256 of a text in UTF-8, as 64 hexadecimal digits.';

-- Results that took long to compute. What one user was given is never given to another:
-- user_id is part of the key, and the functions take it from current_app_user_id(). Rows
-- without a user are for callers without a user.
--
-- Unlogged: after a crash an empty cache is right, and it stays out of the write-ahead
-- log, so out of replicas and of change data capture.
create unlogged table app_private.query_cache (
  id uuid not null default gen_random_uuid(),
  cache_key text not null,
  cache_key_hash text not null
    generated always as (app_private.sha256_hex(cache_key)) stored,
  cached_data jsonb not null,
  data_size integer not null
    generated always as (octet_length(cached_data::text)) stored,
  query_hash text,
  user_id uuid,
  tags text[] not null default '{}',
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  last_accessed timestamptz not null default now(),
  access_count integer not null default 1,
  generation_time_ms integer not null,
  hit_count integer not null default 0,
  constraint query_cache_pkey primary key (id),
  -- The hash first: an index of long keys would be long.
  constraint query_cache_cache_key_hash_user_id_key
    unique nulls not distinct (cache_key_hash, user_id),
  constraint query_cache_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint query_cache_cache_key_check check (length(cache_key) between 1 and 255),
  constraint query_cache_query_hash_check check (length(query_hash) between 1 and 64),
  constraint query_cache_tags_check check (array_position(tags, null) is null),
  constraint query_cache_expires_at_check check (expires_at > created_at),
  constraint query_cache_access_count_check check (access_count >= 1),
  constraint query_cache_generation_time_check check (generation_time_ms >= 0),
  constraint query_cache_hit_count_check check (hit_count >= 0)
-- A hit changes counters only, which no index holds: with room on the page that is cheap.
) with (fillfactor = 80);

create index query_cache_expires_at_idx on app_private.query_cache (expires_at);
create index query_cache_tags_idx on app_private.query_cache using gin (tags);
create index query_cache_user_id_idx on app_private.query_cache (user_id);
-- No index on last_accessed: each hit would write it, and nothing looks for it.

alter table app_private.query_cache enable row level security;

comment on table app_private.query_cache is
  'Results that took long to compute, by user. Use query_cache_get() and query_cache_put().';
comment on column app_private.query_cache.user_id is
  'Whom the result is for; null for callers without a user.';
comment on column app_private.query_cache.tags is
  'What it was made from, for invalidate_query_cache().';
comment on column app_private.query_cache.data_size is 'Bytes of the result as text.';
comment on column app_private.query_cache.access_count is
  'Hits, and the access that made it.';
comment on column app_private.query_cache.generation_time_ms is
  'What a hit saves, in milliseconds.';

--! Included functions/app_private/query_cache_get.sql
-- Definer: nobody but the owner may read the cache. It returns what was put for the
-- current user of the transaction, and without a user what was put without one.
create or replace function app_private.query_cache_get(p_cache_key text) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := app_hidden.current_app_user_id();
  found_id uuid;
  found_data jsonb;
begin
  -- An unlogged table cannot be read on a standby.
  if pg_is_in_recovery() then
    return null;
  end if;

  select query_cache.id, query_cache.cached_data into found_id, found_data
  from app_private.query_cache
  where query_cache.cache_key_hash = app_private.sha256_hex(p_cache_key)
    and query_cache.cache_key = p_cache_key
    and (query_cache.user_id = caller or caller is null and query_cache.user_id is null)
    and query_cache.expires_at > clock_timestamp();

  -- Counting must neither wait for another reader of the same row nor end a transaction
  -- that is read-only.
  if found_id is not null
    and not current_setting('transaction_read_only')::boolean
  then
    update app_private.query_cache
    set access_count = query_cache.access_count + 1,
      hit_count = query_cache.hit_count + 1,
      last_accessed = clock_timestamp()
    where query_cache.id = (
      select free.id
      from app_private.query_cache as free
      where free.id = found_id
      for no key update skip locked
    );
  end if;
  return found_data;
end
$$;
--! EndIncluded functions/app_private/query_cache_get.sql
grant execute on function app_private.query_cache_get(text) to gw_authenticator;
comment on function app_private.query_cache_get(text) is
  'The current user''s cached result for a key, or null when there is none or it expired.';

--! Included functions/app_private/query_cache_put.sql
-- Definer: nobody but the owner may write the cache. The row is the current user's.
create or replace function app_private.query_cache_put(
  p_cache_key text,
  p_cached_data jsonb,
  p_time_to_live interval,
  p_generation_time_ms integer,
  p_tags text[] default '{}',
  p_query_hash text default null
) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into app_private.query_cache (user_id, cache_key, cached_data, created_at,
    last_accessed, expires_at, generation_time_ms, tags, query_hash)
  values (app_hidden.current_app_user_id(), p_cache_key, p_cached_data, clock_timestamp(),
    clock_timestamp(), clock_timestamp() + p_time_to_live, p_generation_time_ms, p_tags,
    p_query_hash)
  on conflict on constraint query_cache_cache_key_hash_user_id_key do update
  set cached_data = excluded.cached_data,
    created_at = excluded.created_at,
    last_accessed = excluded.last_accessed,
    expires_at = excluded.expires_at,
    generation_time_ms = excluded.generation_time_ms,
    tags = excluded.tags,
    query_hash = excluded.query_hash,
    access_count = query_cache.access_count + 1
$$;
--! EndIncluded functions/app_private/query_cache_put.sql
grant execute on function
  app_private.query_cache_put(text, jsonb, interval, integer, text[], text)
  to gw_authenticator;
comment on function
  app_private.query_cache_put(text, jsonb, interval, integer, text[], text) is
  'Keeps a result for the current user and a key, in place of an earlier one.';

--! Included functions/app_private/invalidate_query_cache.sql
-- Definer: nobody but the owner may write the cache. It deletes and tells only how much.
create or replace function app_private.invalidate_query_cache(tags text[]) returns integer
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with deleted as (
    delete from app_private.query_cache
    where query_cache.tags && invalidate_query_cache.tags
    returning 1
  )
  select count(*)::integer from deleted
$$;
--! EndIncluded functions/app_private/invalidate_query_cache.sql
grant execute on function app_private.invalidate_query_cache(text[])
  to gw_authenticator, gw_worker;
comment on function app_private.invalidate_query_cache(text[]) is
  'Deletes every result, of every user, that has one of the tags. Returns how many.';

--! Included functions/app_private/cleanup_expired_cache.sql
create or replace function app_private.cleanup_expired_cache() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with deleted as (
    delete from app_private.query_cache
    where query_cache.expires_at <= now()
    returning 1
  )
  select count(*)::integer from deleted
$$;
--! EndIncluded functions/app_private/cleanup_expired_cache.sql
comment on function app_private.cleanup_expired_cache() is
  'Deletes results that have expired. Returns how many.';

-- A sample of a pool of connections, taken by the process that has it.
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
  'Callers that waited for a connection at that moment.';
comment on column app_private.connection_pool_stats.avg_connection_time_ms is
  'How long callers waited for one since the sample before, in milliseconds.';

-- Samples, not records: after their time they are dropped, backed up or not.
insert into ops.partition_policies
  (parent_table, step, premake, retention, retention_action, require_backup)
values
  ('app_private.performance_metrics', '1 month', 6, '12 months', 'drop', false),
  ('app_private.connection_pool_stats', '1 month', 6, '3 months', 'drop', false);
select ops.ensure_partitions();

-- Each side is counted by itself and then joined by user. Joining tasks, projects, lists
-- and metrics first multiplies them: 3 tasks and 2 projects made 6 done tasks of 3, and
-- every row of metrics made it worse.
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

create unique index user_activity_summary_user_id_idx
  on app_private.user_activity_summary (user_id);

comment on materialized view app_private.user_activity_summary is
  'What each user has and did. As old as the latest refresh, at most 15 minutes.';
comment on column app_private.user_activity_summary.last_activity is
  'When a task last changed; null without tasks.';
comment on column app_private.user_activity_summary.avg_response_time_ms is
  'Mean of the API''s answers to the user in the last 7 days; 0 without any.';

-- A unique index on plain columns, without a condition, is what CONCURRENTLY needs.
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

create unique index query_performance_summary_query_hash_idx
  on app_private.query_performance_summary (query_hash);
create index query_performance_summary_avg_duration_ms_idx
  on app_private.query_performance_summary (avg_duration_ms);

grant select on app_private.query_performance_summary to gw_monitor;

comment on materialized view app_private.query_performance_summary is
  'Queries that ran more than 10 times in the last 7 days, and how long they took.';

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
--! EndIncluded functions/app_private/refresh_performance_views.sql
comment on function app_private.refresh_performance_views() is
  'Refreshes both summaries without keeping readers waiting.';

-- A materialized view has no row-level security, so nobody but the owner may read it.
-- This view reads it with the owner's rights and shows one row: the caller's.
-- security_barrier, so that no condition of a caller's is tried on another's row first.
create view app_public.my_activity_summary with (security_barrier) as
select
  user_activity_summary.user_id,
  user_activity_summary.total_tasks::integer as total_tasks,
  user_activity_summary.total_projects::integer as total_projects,
  user_activity_summary.total_lists::integer as total_lists,
  user_activity_summary.completed_tasks::integer as completed_tasks,
  user_activity_summary.recent_tasks::integer as recent_tasks,
  user_activity_summary.last_activity,
  user_activity_summary.avg_response_time_ms::double precision as avg_response_time_ms
from app_private.user_activity_summary
where user_activity_summary.user_id = app_hidden.current_app_user_id();

grant select on app_public.my_activity_summary to app_user;

comment on view app_public.my_activity_summary is
  E'@primaryKey user_id\nWhat you have and did: one row, at most 15 minutes old; none right after signing up.';
comment on column app_public.my_activity_summary.user_id is 'You.';
comment on column app_public.my_activity_summary.total_tasks is
  E'@notNull\nTasks of any status.';
comment on column app_public.my_activity_summary.total_projects is
  E'@notNull\nProjects, archived ones too.';
comment on column app_public.my_activity_summary.total_lists is E'@notNull\nLists.';
comment on column app_public.my_activity_summary.completed_tasks is
  E'@notNull\nTasks whose status is done.';
comment on column app_public.my_activity_summary.recent_tasks is
  E'@notNull\nTasks made in the last 30 days.';
comment on column app_public.my_activity_summary.last_activity is
  'When a task last changed; null without tasks.';
comment on column app_public.my_activity_summary.avg_response_time_ms is
  E'@notNull\nHow long answers took on average in the last 7 days, in milliseconds; 0 without any.';

insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('cache-cleanup', '0 * * * *', 'select app_private.cleanup_expired_cache()',
    'An expired result is never returned; this gives its space back.'),
  ('refresh-views', '*/15 * * * *', 'select app_private.refresh_performance_views()',
    'user_activity_summary and query_performance_summary.')
on conflict (job_name) do update
set schedule = excluded.schedule,
  command = excluded.command,
  description = excluded.description;
