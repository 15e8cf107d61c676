--! Previous: sha1:6c684c59d5759c3f17b30166f3a9a5eaee29f3b0
--! Hash: sha1:e505ee7977e20eba6f57e355c32ebc3729ad1b5d
--! Message: schedule
--! Baseline: topics/40-schedule.sql

/*
 * Every pg_cron job, every partition policy, every retention policy. No other topic
 * declares one.
 *
 * "gw report schedule" shows the jobs and their latest runs, "gw report retention" what
 * is kept for how long and what will be deleted next.
 */

-- How long rows of a table are kept. A partitioned table drops whole partitions instead:
-- see ops.partition_policies. The name is text, since a table of an extension may be
-- absent.
create table ops.retention_policies (
  relation text not null,
  time_column text not null,
  kept_for interval not null,
  reason text not null,
  constraint retention_policies_pkey primary key (relation),
  constraint retention_policies_relation_check
    check (relation ~ '^[a-z_][a-z0-9_]*[.][a-z_][a-z0-9_]*$'),
  constraint retention_policies_kept_for_check check (kept_for > interval '0'),
  constraint retention_policies_reason_check check (reason <> '')
);

-- No insert, update or delete: only the owner decides what is deleted.
grant select on ops.retention_policies to gw_monitor;

comment on table ops.retention_policies is
  'How long rows are kept before ops.delete_expired_rows() deletes them.';
comment on column ops.retention_policies.relation is 'The table, as schema.table.';
comment on column ops.retention_policies.time_column is
  'A timestamptz, timestamp or date column. A row is deleted when its value is longer ago than kept_for.';
comment on column ops.retention_policies.reason is 'Why rows are kept this long.';

-- A name of a policy is used in a statement only when the catalogue has it.
create view ops.retention_targets with (security_invoker = true) as
select retention_policies.relation, retention_policies.time_column,
  retention_policies.kept_for, named.nspname as schema_name, named.relname as table_name,
  named.oid as table_id, format_type(pg_attribute.atttypid, null) as time_type,
  case
    when named.oid is null then 'there is no such table'
    when pg_attribute.attnum is null
      then format('there is no column %I', retention_policies.time_column)
    when pg_attribute.atttypid not in ('timestamptz'::regtype, 'timestamp'::regtype,
        'date'::regtype)
      then format('%I is not a time', retention_policies.time_column)
    when not has_schema_privilege(named.nspname, 'usage')
      or not has_table_privilege(named.oid, 'select')
      or not has_table_privilege(named.oid, 'delete')
      then format('%I may not delete from it', current_user)
  end as problem
from ops.retention_policies
left join (
  select pg_class.oid, pg_namespace.nspname, pg_class.relname
  from pg_catalog.pg_class
  inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
  where pg_class.relkind in ('r', 'p')
) as named on named.nspname || '.' || named.relname = retention_policies.relation
left join pg_catalog.pg_attribute on pg_attribute.attrelid = named.oid
  and pg_attribute.attname = retention_policies.time_column
  and pg_attribute.attnum > 0
  and not pg_attribute.attisdropped;

comment on view ops.retention_targets is
  'Retention policies with the table and column that they name, or why the current role cannot follow one.';

--! Included functions/app_private/analyze_hot_tables.sql
-- Autovacuum analyzes partitions, and never their parent, whose statistics the planner uses for a
-- query of several.
create or replace function app_private.analyze_hot_tables() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  parent regclass;
begin
  for parent in
    select pg_class.oid
    from pg_class
    inner join pg_namespace on pg_namespace.oid = pg_class.relnamespace
    where pg_class.relkind = 'p'
      and pg_namespace.nspname in ('app_public', 'app_private', 'ops')
      and pg_has_role(pg_class.relowner, 'usage')
    order by pg_class.oid::regclass::text
  loop
    execute format('analyze %s', parent);
  end loop;
  analyze app_public.reflections;
end
$$;

comment on function app_private.analyze_hot_tables() is
  'Refreshes the planner''s statistics of every partitioned table, and of reflections.';
--! EndIncluded functions/app_private/analyze_hot_tables.sql
--! Included functions/app_private/tg_retention_policies__validate.sql
-- app_private.next_occasions() looks for an occasion in the ledger until its late window has
-- passed, 7 days at most, and two days longer, because dates are local. Without its row the
-- message would be planned, and sent, again.
create or replace function app_private.tg_retention_policies__validate() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  shortest constant interval := interval '9 days';
  named constant regclass := to_regclass(new.relation);
begin
  -- A table of an extension may be absent.
  if named is not null and not exists (
    select from pg_attribute
    where attrelid = named
      and attname = new.time_column
      and attnum > 0
      and atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
  ) then
    raise exception '% has no column % with a time', new.relation, new.time_column
      using errcode = 'GW014', hint = 'time_column names a timestamptz, timestamp or date.';
  end if;
  if new.kept_for < shortest
    and exists (
      select from pg_partition_tree('app_private.message_ledger') as part
      where part.relid = named
    )
  then
    raise exception 'message_ledger must be kept for % at least, not %',
      shortest, new.kept_for
    using errcode = 'GW014',
      hint = 'A message may be sent up to 7 days late, and its ledger row keeps it from '
        'being sent twice.';
  end if;
  return null;
end
$$;

comment on function app_private.tg_retention_policies__validate() is
  'Refuses a policy whose column does not exist, and one that would forget messages that could still be planned.';
--! EndIncluded functions/app_private/tg_retention_policies__validate.sql
--! Included functions/ops/delete_expired_rows.sql
-- A batch names its rows by ctid, because not every table has an index on its time
-- column. A ctid repeats across partitions: the second condition spares rows that are not
-- due.
create or replace function ops.delete_expired_rows(
  p_batch_rows integer default 10000, p_batches integer default 100
) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- A date is due at midnight UTC.
set timezone = 'UTC'
-- Rows that are locked now are deleted in the next run.
set lock_timeout = '5s'
as $$
declare
  target record;
  failure text;
  batch bigint;
  deleted bigint := 0;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('ops.delete_expired_rows', 0));

  for target in
    select * from ops.retention_targets order by retention_targets.relation
  loop
    failure := target.problem;
    if failure is null then
      begin
        for round in 1..p_batches loop
          execute format(
            'delete from %1$I.%2$I'
            ' where ctid = any (array('
            '   select ctid from %1$I.%2$I where %3$I < (now() - $1)::%4$s limit $2))'
            ' and %3$I < (now() - $1)::%4$s',
            target.schema_name, target.table_name, target.time_column, target.time_type)
          using target.kept_for, p_batch_rows;
          get diagnostics batch = row_count;
          deleted := deleted + batch;
          exit when batch < p_batch_rows;
        end loop;
      exception when others then
        failure := sqlstate || ': ' || sqlerrm;
      end;
    end if;

    if failure is null then
      perform ops.resolve_alert('retention-failed', target.relation);
    else
      perform ops.raise_alert('retention-failed', target.relation, 'warning', failure,
        'Nothing is deleted from it. Correct its cause, or its row of'
        ' ops.retention_policies; then: select ops.delete_expired_rows()');
    end if;
  end loop;

  perform ops.resolve_alert(alerts.check_name, alerts.object)
  from ops.alerts
  where alerts.check_name = 'retention-failed'
    and alerts.resolved_at is null
    and not exists (
      select from ops.retention_policies where retention_policies.relation = alerts.object
    );
  return deleted;
end
$$;

comment on function ops.delete_expired_rows(integer, integer) is
  'Deletes rows that are older than ops.retention_policies allows, in batches. Arguments: rows in a batch, and batches for each table. A table that fails is skipped with an alert. Returns how many rows were deleted.';
--! EndIncluded functions/ops/delete_expired_rows.sql
--! Included functions/ops/oldest_row.sql
-- Of a partitioned table, only the first partition with rows and DEFAULT are read.
create or replace function ops.oldest_row(p_table regclass, p_column name)
returns timestamptz
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  part record;
  found_here timestamptz;
  oldest timestamptz;
begin
  for part in
    select pg_inherits.inhrelid::regclass as name, bounds.text = 'DEFAULT' as is_default,
      substring(bounds.text from ' FROM \(''([^'']+)''\)')::timestamptz as lower_bound
    from pg_inherits
    inner join pg_partitioned_table on pg_partitioned_table.partrelid = pg_inherits.inhparent
      and pg_partitioned_table.partstrat = 'r'
    inner join pg_class on pg_class.oid = pg_inherits.inhrelid
    cross join lateral pg_get_expr(pg_class.relpartbound, pg_class.oid) as bounds (text)
    where pg_inherits.inhparent = p_table
      and has_table_privilege(pg_inherits.inhrelid, 'select')
    union all
    select p_table, false, null
    where not exists (
        select from pg_partitioned_table where partrelid = p_table and partstrat = 'r'
      )
      and has_table_privilege(p_table, 'select')
    order by is_default desc, lower_bound nulls first
  loop
    execute format('select min(%I)::timestamptz from %s', p_column, part.name)
    into found_here;
    oldest := least(oldest, found_here);
    exit when found_here is not null and not part.is_default;
  end loop;
  return oldest;
end
$$;

comment on function ops.oldest_row(regclass, name) is
  'The earliest time in a column of a table; null when the table is null or empty.';
--! EndIncluded functions/ops/oldest_row.sql
--! Included functions/ops/due_rows.sql
create or replace function ops.due_rows(p_target ops.retention_targets) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  due bigint;
begin
  execute format('select count(*) from %I.%I where %I < (now() - $1)::%s',
    p_target.schema_name, p_target.table_name, p_target.time_column, p_target.time_type)
  into due
  using p_target.kept_for;
  return due;
end
$$;

comment on function ops.due_rows(ops.retention_targets) is
  'Number of rows of a table that its retention policy would delete now.';
--! EndIncluded functions/ops/due_rows.sql
--! Included functions/ops/schedule_status.sql
-- Dynamic SQL, because the shadow database and test databases have no schema "cron".
create or replace function ops.schedule_status(
  p_since timestamptz default now() - interval '7 days', p_runs integer default 20
)
returns table (
  job_name text, schedule text, command text, description text, is_declared boolean,
  is_active boolean, last_start timestamptz, last_end timestamptz, last_status text,
  last_message text, run_seconds double precision[], failed bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pg_extension where extname = 'pg_cron') then
    return query
    select cron_jobs.job_name, cron_jobs.schedule, cron_jobs.command,
      cron_jobs.description, true, false, null::timestamptz, null::timestamptz,
      'pg_cron is not here', null::text, null::double precision[], null::bigint
    from ops.cron_jobs;
    return;
  end if;

  return query execute $sql$
    select coalesce(cron_jobs.job_name, job.jobname, job.jobid::text),
      coalesce(job.schedule, cron_jobs.schedule),
      case when job.command <> cron_jobs.scheduled_command then job.command
        else coalesce(cron_jobs.command, job.command) end,
      coalesce(cron_jobs.description, ''), cron_jobs.job_name is not null,
      coalesce(job.active, false), latest.start_time, latest.end_time, latest.status,
      latest.return_message, history.run_seconds, history.failed
    from (
      select * from cron.job where job.database = current_database()
    ) as job
    full join ops.cron_jobs on cron_jobs.job_name = job.jobname
    left join lateral (
      select * from cron.job_run_details as run
      where run.jobid = job.jobid
      order by run.runid desc
      limit 1
    ) as latest on true
    left join lateral (
      select
        (array_agg(coalesce(extract(epoch from run.end_time - run.start_time), 0)
            ::double precision order by run.runid) filter (where run.place <= $2)
          ) as run_seconds,
        count(*) filter (where run.status = 'failed' and run.start_time >= $1) as failed
      from (
        select *, row_number() over (order by runid desc) as place
        from cron.job_run_details
        where jobid = job.jobid
      ) as run
    ) as history on true
  $sql$ using p_since, p_runs;
end
$$;

grant execute on function ops.schedule_status(timestamptz, integer) to gw_monitor;
comment on function ops.schedule_status(timestamptz, integer) is
  'Each pg_cron job of this database, declared or not, with its latest run, its failures since an instant, and the durations of its latest runs (as many as the second argument says).';
--! EndIncluded functions/ops/schedule_status.sql
--! Included functions/ops/partition_retention.sql
create or replace function ops.partition_retention()
returns table (
  relation text, kept_for interval, time_column text, table_id regclass,
  due_at timestamptz, due_partitions bigint, detached_partitions bigint,
  next_partition text, function_name text, obstacle text
)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select partition_policies.parent_table::text, partition_policies.retention,
    pg_attribute.attname::text, pg_attribute.attrelid::regclass,
    coalesce(dropping.due_at, leaving.due_at), detaching.partitions, dropping.partitions,
    coalesce(dropping.partition_name, leaving.partition_name),
    case when dropping.partition_name is null then 'prune_(old_activity_)?partitions'
      else 'drop_detached_partitions' end,
    case when pg_attribute.attrelid is null
      then 'there is no such table, or it is not partitioned'
      else nullif(concat_ws('; ', detaching.obstacles, dropping.obstacles), '') end
  from ops.partition_policies
  left join pg_catalog.pg_partitioned_table
    on pg_partitioned_table.partrelid = partition_policies.parent_table
  left join pg_catalog.pg_attribute
    on pg_attribute.attrelid = pg_partitioned_table.partrelid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
  cross join lateral (
    select count(*), string_agg(distinct latest.reason, '; ')
    from ops.partitions_to_detach() as due
    left join lateral (
      select partition_events.reason
      from ops.partition_events
      where partition_events.partition_name = due.partition::text
      order by partition_events.id desc
      limit 1
    ) as latest on true
    where due.parent_table = partition_policies.parent_table
  ) as detaching (partitions, obstacles)
  left join lateral (
    select ends.partition::text, ends.ends_at + ends.retention
    from ops.partition_ends() as ends
    where ends.parent_table = partition_policies.parent_table
      and ends.retention is not null
    order by ends.ends_at
    limit 1
  ) as leaving (partition_name, due_at) on true
  -- Without a partition to detach first, the oldest one that waits to be dropped is next.
  cross join lateral (
    select count(*), string_agg(distinct due.obstacle, '; '),
      case when detaching.partitions = 0
        then (array_agg(due.partition_name order by due.detached_at))[1] end,
      case when detaching.partitions = 0 then min(due.detached_at) end
    from ops.partitions_to_drop() as due
    where to_regclass(due.parent_table) = partition_policies.parent_table
  ) as dropping (partitions, obstacles, partition_name, due_at)
$$;

comment on function ops.partition_retention() is
  'The part of ops.retention_status() about tables that drop whole partitions.';
--! EndIncluded functions/ops/partition_retention.sql
--! Included functions/ops/retention_status.sql
-- Definer: monitoring must not read these tables. It learns the number of due rows and
-- the age of the oldest.
create or replace function ops.retention_status()
returns table (
  relation text, kept_for interval, time_column text, oldest timestamptz,
  due_at timestamptz, due_rows bigint, due_partitions bigint, detached_partitions bigint,
  next_partition text, next_job text, schedule text, last_run timestamptz,
  last_status text, blocked_by text
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with policies as (
    select targets.relation, targets.kept_for, targets.time_column,
      case when targets.problem is null then targets.table_id end::regclass as table_id,
      null::timestamptz as due_at,
      case when targets.problem is null then ops.due_rows(targets) end as due_rows,
      null::bigint as due_partitions, null::bigint as detached_partitions,
      null::text as next_partition, 'delete_expired_rows' as function_name,
      coalesce(targets.problem, (
        select 'failed: ' || alerts.detail
        from ops.alerts
        where alerts.check_name = 'retention-failed'
          and alerts.object = targets.relation
          and alerts.resolved_at is null
      )) as obstacle
    from ops.retention_targets as targets
    union all
    select parts.relation, parts.kept_for, parts.time_column, parts.table_id, parts.due_at,
      null, parts.due_partitions, parts.detached_partitions, parts.next_partition,
      parts.function_name, parts.obstacle
    from ops.partition_retention() as parts
  ),
  runs as materialized (
    select status.job_name, status.last_start, status.last_status
    from ops.schedule_status() as status
    where status.is_declared
  )
  select policies.relation, policies.kept_for, policies.time_column, oldest.at,
    case when policies.due_partitions is null then oldest.at + policies.kept_for
      else policies.due_at end,
    policies.due_rows, policies.due_partitions, policies.detached_partitions,
    policies.next_partition, job.job_name, job.schedule, runs.last_start, runs.last_status,
    nullif(concat_ws('; ', policies.obstacle,
      case when policies.kept_for is not null and job.job_name is null
        then 'no active job calls ' || policies.function_name end,
      case when policies.kept_for is not null
          and not exists (select from pg_extension where extname = 'pg_cron')
        then 'pg_cron is not here' end), '')
  from policies
  cross join lateral ops.oldest_row(policies.table_id, policies.time_column) as oldest (at)
  left join lateral (
    select cron_jobs.job_name, cron_jobs.schedule
    from ops.cron_jobs
    where cron_jobs.is_active
      and policies.kept_for is not null
      and cron_jobs.command ~ policies.function_name
    -- The function itself before one of another name that calls it.
    order by length(cron_jobs.command), cron_jobs.job_name
    limit 1
  ) as job on true
  left join runs on runs.job_name = job.job_name
$$;

grant execute on function ops.retention_status() to gw_monitor;
comment on function ops.retention_status() is
  'Each table with a retention or partition policy: how long rows are kept, what is due '
  'and when, which job deletes it next, how that job last ended, and what blocks it.';
--! EndIncluded functions/ops/retention_status.sql
--! Included functions/ops/follow_migrations.sql
-- Each step is a subtransaction: one that fails leaves the others done, raises an alert, and
-- is tried again by the next `gw migrate` and by the job follow-migrations.
create or replace function ops.follow_migrations()
returns table (step text, failure text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  gone jsonb;
begin
  if pg_is_in_recovery() then
    return;
  end if;
  -- One at a time: a second run would write the same entries into the audit log.
  perform pg_advisory_xact_lock(hashtextextended('ops.follow_migrations', 0));

  foreach step in array array['partitions', 'cron-jobs', 'audit-log'] loop
    failure := null;
    begin
      case step
        when 'partitions' then
          -- A policy goes with its table, whose number may be given to another one.
          with deleted as (
            delete from ops.partition_policies
            where not exists (
              select from pg_class where pg_class.oid = partition_policies.parent_table
            )
            returning partition_policies.*
          )
          select jsonb_agg(to_jsonb(deleted)) into gone from deleted;
          if gone is not null then
            perform ops.audit('partition_policies.deleted',
              jsonb_build_object('policies', gone));
          end if;
          select string_agg(made.parent_table || ': ' || made.failure, '; ')
          into failure
          from ops.make_partitions() as made;
        when 'cron-jobs' then
          perform ops.sync_cron_jobs();
        when 'audit-log' then
          -- A migration that was taken back and ran again has another date.
          perform ops.audit('migration.ran', ran.details)
          from (
            select entry.details
            from graphile_migrate.migrations
            cross join lateral (
              select jsonb_build_object('migration', migrations.filename,
                'hash', migrations.hash, 'ran_at', to_char(
                  migrations.date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
            ) as entry (details)
            where not exists (
              select from ops.audit_log
              where audit_log.action = 'migration.ran'
                and audit_log.details = entry.details
            )
            order by migrations.filename
          ) as ran;
      end case;
    exception when others then
      failure := sqlstate || ': ' || sqlerrm;
    end;
    if failure is null then
      perform ops.resolve_alert('after-migration', step);
    else
      perform ops.raise_alert('after-migration', step, 'warning', failure,
        'It is tried again every 5 minutes. By hand: select * from ops.follow_migrations();');
      return next;
    end if;
  end loop;
end
$$;

comment on function ops.follow_migrations() is
  'Lets partitions, pg_cron jobs and the audit log follow what the migrations declare. Returns the steps that failed, and why.';
--! EndIncluded functions/ops/follow_migrations.sql

-- After the row's constraints: to_regclass() raises for a name that they refuse.
create trigger _200_validate after insert or update on ops.retention_policies
  for each row execute function app_private.tg_retention_policies__validate();

insert into ops.retention_policies (relation, time_column, kept_for, reason) values
  ('app_private.sessions', 'expires_at', '7 days',
    'A session that has ended serves nobody. A week helps to find out what happened.'),
  ('app_private.message_ledger', 'delivery_date', '60 days',
    'It makes a message unique as long as that could be planned again: 9 days at most. '
      'What became of the message is in message_logs.'),
  ('app_private.message_keys', 'made_at', '60 days',
    'A key makes a message of the application unique as long as it may be sent again.'),
  ('app_private.delivery_event_ids', 'received_at', '60 days',
    'A vendor repeats an event for some days. What it said is in delivery_events.'),
  ('app_private.stripe_events', 'received_at', '1 year',
    'Stripe repeats an event for 3 days, by hand for 30. Disputes ask for older ones.'),
  ('ops.statistics_samples', 'taken_at', '2 days',
    'Checks look back an hour.'),
  ('ops.alert_notices', 'created_at', '90 days',
    'A notice tells whether there were too many within the hour. The alert itself stays.'),
  ('cron.job_run_details', 'end_time', '14 days',
    'pg_cron never deletes its own history.');

insert into ops.partition_policies
  (parent_table, step, premake, retention, retention_action, require_backup)
values
  -- The record of what was sent is kept.
  ('app_public.message_logs', '1 month', 12, null, 'detach', true),
  -- A year, then dropped once a verified backup holds it.
  ('app_public.user_activity', '1 month', 12, '12 months', 'drop', true),
  -- A sending domain's history; what it says of addresses stays in address_states.
  ('app_private.delivery_events', '1 month', 6, '12 months', 'drop', true),
  -- Samples, not records: dropped when they are old, backed up or not.
  ('app_private.performance_metrics', '1 month', 6, '12 months', 'drop', false),
  ('app_private.connection_pool_stats', '1 month', 6, '3 months', 'drop', false);

select ops.ensure_partitions();

-- Times are UTC.
insert into ops.cron_jobs (job_name, schedule, command, description) values
  -- Each minute.
  ('plan-due-messages', '* * * * *', 'call app_private.run_planner()',
    'Plans the messages of the next 24 hours, and queues those that are due.'),
  ('check-health', '* * * * *', 'select ops.check_health()',
    'Runs the health checks that are due, and opens and resolves alerts.'),
  -- Several times an hour.
  ('requeue-lost-messages', '*/5 * * * *', 'select app_private.requeue_lost_messages()',
    'Gives a new job to each message whose job is gone.'),
  ('follow-migrations', '*/5 * * * *', 'select ops.follow_migrations()',
    'Tries again what failed after a migration: partitions, jobs, entries in the audit log.'),
  ('sample-statistics', '*/10 * * * *', 'select ops.sample_statistics()',
    'Notes the counters of deadlocks, temporary files, checkpoints and cache hits, for the check last-hour.'),
  -- Each hour.
  ('cache-cleanup', '0 * * * *', 'select app_private.cleanup_expired_cache()',
    'Deletes expired results of the query cache, which are not returned any more.'),
  ('maintain-partitions', '17 * * * *', 'call ops.maintain_partitions()',
    'Makes the partitions that ops.partition_policies wants ahead of time, and moves rows out of DEFAULT.'),
  ('prune-partitions', '23 * * * *', 'select ops.prune_partitions()',
    'Detaches partitions that are older than ops.partition_policies keeps them; one that was in use is tried again.'),
  -- Each night.
  ('daily-analyze', '0 2 * * *', 'select app_private.analyze_hot_tables()',
    'Analyzes every partitioned table, which autovacuum skips, and reflections.'),
  ('delete-expired-rows', '41 3 * * *', 'select ops.delete_expired_rows()',
    'Deletes rows that are older than ops.retention_policies keeps them.'),
  ('drop-detached-partitions', '51 3 * * *', 'select ops.drop_detached_partitions()',
    'Drops detached partitions, once backups and replication slots have what was in them.'),
  ('sync-timezones', '5 4 * * *', 'select app_hidden.sync_timezones()',
    'Adds the time zones that an update of tzdata brought.'),
  -- Each month.
  ('create-next-month-partition', '0 0 1 * *', 'select ops.create_next_month_partition()',
    'Makes next month''s partitions, as maintain-partitions does each hour.'),
  ('prune-old-partitions', '0 0 2 * *', 'select ops.prune_old_activity_partitions()',
    'Detaches the partitions that are older than ops.partition_policies keeps them.');

-- Off: each reads whole tables, for rows that few look at. What users see of them is counted
-- when they ask. To have a job all the same, set is_active and call ops.sync_cron_jobs().
insert into ops.cron_jobs (job_name, schedule, command, is_active, description) values
  ('refresh-views', '*/15 * * * *', 'select app_private.refresh_performance_views()', false,
    'Refreshes user_activity_summary and query_performance_summary. Off.'),
  ('refresh-weekly-summary', '0 * * * *', 'select app_private.refresh_weekly_summary()', false,
    'Refreshes mv_user_weekly_summary, the last twelve weeks of each user. Off.');
