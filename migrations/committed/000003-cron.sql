--! Previous: sha1:79e5d6756a8226827ecf75523dc9513e8451418b
--! Hash: sha1:e2d030b2d76da26e1fd36668ab2fac612ebe3b7b
--! Message: cron
--! Baseline: topics/03-cron.sql

/*
 * What pg_cron runs: one row of ops.cron_jobs for each job.
 *
 * pg_cron lives in one database of a cluster. Shadow and test databases have to migrate
 * without it. So jobs are declared in a table of ours, and ops.sync_cron_jobs() makes
 * pg_cron follow. The rows are in the topic "schedule".
 */

create table ops.cron_jobs (
  job_name text not null,
  schedule text not null,
  command text not null,
  is_active boolean not null default true,
  description text not null,
  -- In a copy that nobody has adopted, pg_cron starts it and nothing happens, also while it is
  -- being restored. A procedure that commits cannot be called from within a function.
  scheduled_command text not null generated always as (
    case when command like 'call %'
      then 'do $fence$ begin if not ops.is_fenced() then ' || command
        || '; end if; end $fence$'
      else command || ' where not ops.is_fenced()'
    end
  ) stored,
  constraint cron_jobs_pkey primary key (job_name),
  constraint cron_jobs_job_name_check check (job_name ~ '^[a-z][a-z0-9-]{1,60}$'),
  constraint cron_jobs_schedule_check
    check (schedule ~ '^\s*(\S+\s+){4}\S+\s*$' or schedule ~ '^[1-5]?[0-9] seconds$'),
  constraint cron_jobs_command_check
    check (command ~ '^(select|call) [a-z0-9_]+[.][a-z0-9_]+[(][^;]*[)]$')
);

grant select on ops.cron_jobs to gw_monitor;

comment on table ops.cron_jobs is
  'What pg_cron runs in this database. Change rows here, never in cron.job.';
comment on column ops.cron_jobs.schedule is 'Five cron fields, in UTC.';
comment on column ops.cron_jobs.command is 'One call of one function or procedure.';

--! Included functions/ops/sync_cron_jobs.sql
-- Dynamic SQL, because the shadow database and test databases have no schema "cron".
create or replace function ops.sync_cron_jobs() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  removed integer := 0;
  added integer := 0;
  removed_names text[];
  added_names text[];
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron')
    or pg_is_in_recovery()
  then
    return 0;
  end if;

  -- A job that differs from its declaration is removed, even one that somebody switched
  -- off: cron.schedule() would leave it off.
  execute $sync$
    select count(cron.unschedule(job.jobid)), array_agg(job.jobname order by job.jobname)
    from cron.job
    where job.database = current_database()
      and job.username = current_user
      and not exists (
        select from ops.cron_jobs
        where cron_jobs.job_name = job.jobname
          and cron_jobs.schedule = job.schedule
          and cron_jobs.scheduled_command = job.command
          and cron_jobs.is_active
          and job.active
      )
  $sync$ into removed, removed_names;

  execute $sync$
    select
      count(cron.schedule(cron_jobs.job_name, cron_jobs.schedule,
        cron_jobs.scheduled_command)),
      array_agg(cron_jobs.job_name order by cron_jobs.job_name)
    from ops.cron_jobs
    where cron_jobs.is_active
      and not exists (
        select from cron.job
        where job.jobname = cron_jobs.job_name
          and job.database = current_database()
          and job.username = current_user
      )
  $sync$ into added, added_names;

  if removed + added > 0 then
    perform ops.audit('cron_jobs.synchronised', jsonb_build_object(
      'removed', coalesce(removed_names, '{}'), 'added', coalesce(added_names, '{}')));
  end if;
  return removed + added;
end
$$;

comment on function ops.sync_cron_jobs() is
  'Makes cron.job equal to ops.cron_jobs. Returns how many jobs were removed and added; 0 without pg_cron.';
--! EndIncluded functions/ops/sync_cron_jobs.sql
