--! Previous: sha1:3e00a7c1763c999e20db9693c370d43f9ba50ed7
--! Hash: sha1:74758f897cf43a3324ef546a8c14d2d2e2af563b
--! Message: partitions-and-cron

--! split: 0001-x.sql
/*
 * How partitions come to exist, and how pg_cron learns its jobs. Both are declared in
 * tables, so that any schema can use them and a review sees a change as one row.
 *
 * Locks: none on existing tables.
 */

-- One row for each range-partitioned table whose partitions are made for it.
create table ops.partition_policies (
  parent_table regclass not null,
  step interval not null,
  premake smallint not null,
  created_at timestamptz not null default now(),
  constraint partition_policies_pkey primary key (parent_table),
  constraint partition_policies_step_check
    check (step in (interval '1 month', interval '1 day')),
  constraint partition_policies_premake_check check (premake between 1 and 120)
);

grant select on ops.partition_policies to gw_monitor;

comment on table ops.partition_policies is
  'Range-partitioned tables that ops.ensure_partitions() keeps supplied with partitions.';
comment on column ops.partition_policies.step is
  'What one partition spans: 1 month or 1 day. Bounds are in UTC.';
comment on column ops.partition_policies.premake is
  'How many partitions exist ahead of the current one.';
--! Included functions/ops/create_range_partition.sql
-- The partition is built as a table of its own, takes the rows that fell into DEFAULT
-- meanwhile, and is then attached: ATTACH scans DEFAULT under a lock, so the rows must have
-- gone, in this same transaction, or it is refused.
create or replace function ops.create_range_partition(
  p_parent regclass, p_instant timestamptz, p_step interval
) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  unit text := case when p_step = interval '1 day' then 'day' else 'month' end;
  range_start timestamptz := date_trunc(unit, p_instant);
  range_end timestamptz := date_trunc(unit, p_instant) + p_step;
  parent_name text;
  partition_key text;
  partition_name text;
  default_partition regclass;
  written_columns text;
  moved boolean;
begin
  select pg_class.relname, pg_attribute.attname,
    nullif(pg_partitioned_table.partdefid, 0)::regclass
  into parent_name, partition_key, default_partition
  from pg_catalog.pg_class
  inner join pg_catalog.pg_partitioned_table on pg_partitioned_table.partrelid = pg_class.oid
  inner join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_class.oid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
  where pg_class.oid = p_parent
    and pg_partitioned_table.partstrat = 'r'
    and pg_partitioned_table.partnatts = 1;
  if not found then
    raise exception '% is not range-partitioned by one column', p_parent
      using errcode = 'GW010',
        hint = 'ops.partition_policies serves tables PARTITION BY RANGE (one column) only.';
  end if;

  partition_name := parent_name || '_p'
    || to_char(range_start, case unit when 'day' then 'YYYYMMDD' else 'YYYYMM' end);
  if octet_length(partition_name) > 63 then
    raise exception 'the name of % is too long for its partitions', p_parent
      using errcode = 'GW010', hint = 'A name has 63 bytes; a partition needs 10 of them.';
  end if;
  if exists (
    select from pg_catalog.pg_inherits
    where pg_inherits.inhparent = p_parent
      and pg_inherits.inhrelid = to_regclass(format('app_partitions.%I', partition_name))
  ) then
    return null;
  end if;

  -- An existing table of that name, of another schema's table perhaps, is an error here.
  execute format('create table app_partitions.%I (like %s including defaults'
    ' including generated including constraints including storage including compression)',
    partition_name, p_parent);

  if default_partition is not null then
    execute format('select exists (select from %1$s where %2$I >= %3$L and %2$I < %4$L)',
      default_partition, partition_key, range_start, range_end) into moved;
  end if;
  if moved then
    -- Moving is deleting and inserting: a foreign key ON DELETE CASCADE would follow.
    if exists (
      select from pg_catalog.pg_constraint
      where pg_constraint.confrelid = p_parent and pg_constraint.contype = 'f'
    ) then
      raise exception 'rows of % in DEFAULT cannot be moved: other tables reference them',
          p_parent
        using errcode = 'GW012', hint = 'Drop the foreign key, move, and add it again.';
    end if;
    select string_agg(quote_ident(attname), ', ' order by attnum) into written_columns
    from pg_catalog.pg_attribute
    where attrelid = p_parent and attnum > 0 and not attisdropped and attgenerated = '';
    execute format('with moved as (delete from %1$s where %2$I >= %3$L and %2$I < %4$L'
      ' returning *) insert into app_partitions.%5$I (%6$s) select %6$s from moved',
      default_partition, partition_key, range_start, range_end, partition_name,
      written_columns);
  end if;

  execute format('alter table %s attach partition app_partitions.%I'
    ' for values from (%L) to (%L)', p_parent, partition_name, range_start, range_end);
  return 'app_partitions.' || partition_name;
end
$$;
--! EndIncluded functions/ops/create_range_partition.sql
comment on function ops.create_range_partition(regclass, timestamptz, interval) is
  'Creates the partition that holds an instant, moving rows out of DEFAULT. Returns its name, or null when it exists.';

--! Included functions/ops/ensure_partitions.sql
create or replace function ops.ensure_partitions() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- Waiting longer for a table's lock would make every query behind us wait too; the next
-- run tries again.
set lock_timeout = '5s'
as $$
declare
  wanted record;
  created integer := 0;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  -- One at a time: a second run would find the partitions half made.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));

  for wanted in
    select partition_policies.parent_table, partition_policies.step, months.instant
    from ops.partition_policies
    -- A policy outlives its table, when somebody drops that and forgets this.
    inner join pg_catalog.pg_class on pg_class.oid = partition_policies.parent_table
    cross join lateral generate_series(
      date_trunc(
        case when partition_policies.step = interval '1 day' then 'day' else 'month' end,
        now()),
      now() + partition_policies.step * partition_policies.premake,
      partition_policies.step
    ) as months (instant)
    order by partition_policies.parent_table::text, months.instant
  loop
    if ops.create_range_partition(wanted.parent_table, wanted.instant, wanted.step)
      is not null
    then
      created := created + 1;
    end if;
  end loop;
  return created;
end
$$;
--! EndIncluded functions/ops/ensure_partitions.sql
comment on function ops.ensure_partitions() is
  'Creates every partition that the policies ask for. Returns how many were created.';

-- One row for each pg_cron job. pg_cron lives in one database of a cluster; the
-- declarations live here, and ops.sync_cron_jobs() makes pg_cron follow.
create table ops.cron_jobs (
  job_name text not null,
  schedule text not null,
  command text not null,
  is_active boolean not null default true,
  description text not null,
  constraint cron_jobs_pkey primary key (job_name),
  constraint cron_jobs_job_name_check check (job_name ~ '^[a-z][a-z0-9-]{1,60}$'),
  constraint cron_jobs_schedule_check
    check (schedule ~ '^\s*(\S+\s+){4}\S+\s*$' or schedule ~ '^[1-5]?[0-9] seconds$')
);

grant select on ops.cron_jobs to gw_monitor;

comment on table ops.cron_jobs is
  'What pg_cron runs in this database. Change rows here, never in cron.job.';
comment on column ops.cron_jobs.schedule is 'Five cron fields, in UTC.';
comment on column ops.cron_jobs.command is 'One call of one function.';

--! Included functions/ops/sync_cron_jobs.sql
-- Dynamic SQL, because the shadow database and test databases have no schema "cron".
create or replace function ops.sync_cron_jobs() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  removed integer := 0;
  added integer := 0;
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron')
    or pg_is_in_recovery()
  then
    return 0;
  end if;

  -- What is not exactly as declared goes, a job that somebody switched off included:
  -- cron.schedule() would leave it off.
  execute $sync$
    select count(cron.unschedule(job.jobid))
    from cron.job
    where job.database = current_database()
      and job.username = current_user
      and not exists (
        select from ops.cron_jobs
        where cron_jobs.job_name = job.jobname
          and cron_jobs.schedule = job.schedule
          and cron_jobs.command = job.command
          and cron_jobs.is_active
          and job.active
      )
  $sync$ into removed;

  execute $sync$
    select count(cron.schedule(cron_jobs.job_name, cron_jobs.schedule, cron_jobs.command))
    from ops.cron_jobs
    where cron_jobs.is_active
      and not exists (
        select from cron.job
        where job.jobname = cron_jobs.job_name
          and job.database = current_database()
          and job.username = current_user
      )
  $sync$ into added;
  return removed + added;
end
$$;
--! EndIncluded functions/ops/sync_cron_jobs.sql
comment on function ops.sync_cron_jobs() is
  'Makes cron.job equal to ops.cron_jobs. Returns how many jobs were removed and added; 0 without pg_cron.';

--! Included functions/ops/delete_cron_history.sql
-- Dynamic SQL, because the shadow database and test databases have no schema "cron".
create or replace function ops.delete_cron_history() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  deleted integer := 0;
begin
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    execute $sql$
      delete from cron.job_run_details where end_time < now() - interval '14 days'
    $sql$;
    get diagnostics deleted = row_count;
  end if;
  return deleted;
end
$$;
--! EndIncluded functions/ops/delete_cron_history.sql
comment on function ops.delete_cron_history() is
  'Deletes pg_cron''s records of runs that ended 14 days ago. Returns how many.';

insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('ensure-partitions', '17 3 * * *', 'select ops.ensure_partitions()',
    'Keeps every policy''s partitions ahead of time; catches up after missed runs.'),
  ('cron-history-cleanup', '43 3 * * *',
    'select ops.delete_cron_history()',
    'pg_cron never deletes its own history.');
