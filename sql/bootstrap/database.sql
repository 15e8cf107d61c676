-- What a superuser prepares in each Groundwork database (the real one, the shadow
-- database, every test database) before gw_owner migrates it. Can be repeated. The
-- administrator of a managed server can run it too, after roles.sql: what that one may not do
-- is told at the end, as statements.

-- Nothing that another role may have put into a schema is found by its name.
set search_path = pg_catalog, pg_temp;

-- Statements that this role may not run.
create temporary table if not exists groundwork_left (statement text primary key);

create or replace function pg_temp.run_if_allowed(p_statement text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $function$
begin
  execute p_statement;
  delete from pg_temp.groundwork_left where statement = p_statement;
exception when insufficient_privilege then
  insert into pg_temp.groundwork_left values (p_statement) on conflict do nothing;
end
$function$;

-- Extensions. pgcrypto and btree_gin are required; the others are created where the server has them,
-- because the shadow database and the databases of tests must migrate without pg_cron,
-- which lives in one database of a cluster only.
create extension if not exists pgcrypto with schema public;
create extension if not exists btree_gin with schema public;

do $extensions$
declare
  scheduler regprocedure;
  preloaded text[] := pg_catalog.string_to_array(
    pg_catalog.replace(pg_catalog.current_setting('shared_preload_libraries'), ' ', ''), ',');
begin
  if exists (select from pg_catalog.pg_available_extensions where name = 'vector') then
    perform pg_temp.run_if_allowed(
      'create extension if not exists vector with schema public');
  end if;

  if 'pg_stat_statements' = any (preloaded) then
    perform pg_temp.run_if_allowed(
      'create extension if not exists pg_stat_statements with schema public');
    -- Somebody may have set a password in clear text, for monitoring to read.
    if exists (select from pg_catalog.pg_extension where extname = 'pg_stat_statements') then
      perform pg_temp.run_if_allowed($reset$
        select public.pg_stat_statements_reset(userid, dbid, queryid)
        from public.pg_stat_statements
        where query ~* '\m(role|user)\M.*\mpassword\M'$reset$);
    end if;
  end if;

  if 'pg_cron' = any (preloaded)
    and pg_catalog.current_setting('cron.database_name', true)
      = pg_catalog.current_database()
  then
    perform pg_temp.run_if_allowed('create extension if not exists pg_cron');
  end if;
  -- Whoever made the extension gives it away.
  if exists (
    select from pg_catalog.pg_extension
    where extname = 'pg_cron' and pg_catalog.pg_has_role(extowner, 'usage')
  ) then
    -- Jobs are scheduled by, and run as, the owner of the schema. History is pruned by a job.
    grant usage on schema cron to gw_owner;
    grant select on cron.job to gw_owner;
    grant select, delete on cron.job_run_details to gw_owner;
    -- pg_cron lets every role that may use its schema schedule jobs.
    for scheduler in
      select oid from pg_catalog.pg_proc
      where pronamespace = 'cron'::pg_catalog.regnamespace
        and proname in ('schedule', 'unschedule')
    loop
      execute pg_catalog.format('revoke execute on function %s from public', scheduler);
      execute pg_catalog.format('grant execute on function %s to gw_owner', scheduler);
    end loop;
    -- Monitoring reads how jobs went; pg_cron's own policies show a role its own jobs only.
    grant usage on schema cron to gw_monitor;
    grant select on cron.job, cron.job_run_details to gw_monitor;
    if not exists (
      select from pg_catalog.pg_policies
      where schemaname = 'cron' and policyname = 'monitoring' and tablename = 'job'
    ) then
      create policy monitoring on cron.job for select to gw_monitor using (true);
      create policy monitoring on cron.job_run_details
        for select to gw_monitor using (true);
    end if;
  end if;
end
$extensions$;

-- Where the files of this server are, which only a superuser may look up: the machine's number,
-- and since when one of the files is there that PostgreSQL never writes again. A copy of the
-- files has another one. Where it is not there (a managed server), what it tells is not compared.
do $place$
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    return;
  end if;
  create or replace function public.groundwork_place(
    out machine text, out files_since timestamptz
  )
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $function$
  begin
    files_since := (pg_stat_file('PG_VERSION')).change;
    machine := nullif(btrim(pg_read_file('/etc/machine-id', 0, 64, true), E' \n'), '');
  exception when insufficient_privilege then
    null; -- restored under a lesser owner
  end
  $function$;
  comment on function public.groundwork_place() is
    'Which machine this server runs on (/etc/machine-id), and since when its files are there.';
  revoke all on function public.groundwork_place() from public;
  grant execute on function public.groundwork_place() to gw_owner;
end
$place$;

-- Nobody writes large objects, which every role may else: also one that may only read.
do $large_objects$
declare
  writers constant regprocedure[] := array['lo_creat(integer)', 'lo_create(oid)',
    'lo_from_bytea(oid, bytea)', 'lo_put(oid, bigint, bytea)', 'lo_open(oid, integer)',
    'lowrite(integer, bytea)', 'lo_truncate(integer, integer)',
    'lo_truncate64(integer, bigint)', 'lo_unlink(oid)'];
  revocation constant text := 'revoke execute on function '
    || pg_catalog.array_to_string(writers, ', ') || ' from public';
begin
  execute revocation;
  -- Whoever may not revoke it gets a warning, and no error.
  if exists (
    select from pg_catalog.unnest(writers) as writer (oid)
    where pg_catalog.has_function_privilege('public', writer.oid, 'execute')
  ) then
    insert into pg_temp.groundwork_left values (revocation) on conflict do nothing;
  end if;
end
$large_objects$;

-- Nobody creates objects in public, and nobody connects but Groundwork's roles.
revoke create on schema public from public;

do $database$
begin
  execute pg_catalog.format('alter database %I owner to gw_owner',
    pg_catalog.current_database());
  execute pg_catalog.format('revoke all on database %I from public',
    pg_catalog.current_database());
  execute pg_catalog.format('grant connect on database %I to gw_authenticator, gw_worker,'
    ' gw_cdc, gw_readonly, gw_monitor, gw_sender, gw_support', pg_catalog.current_database());
  -- So that statements typed by hand find their tables. Migrations qualify every name.
  execute pg_catalog.format('alter database %I set search_path to'
    ' app_public, app_hidden, app_private, ops, public', pg_catalog.current_database());
  -- Partition bounds and pg_cron schedules are written in UTC.
  execute pg_catalog.format('alter database %I set timezone to ''UTC''',
    pg_catalog.current_database());
end
$database$;

-- For whoever reads this in psql.
do $left$
declare
  found text;
begin
  for found in select statement from pg_temp.groundwork_left order by statement loop
    raise warning 'a superuser must run: %;', found;
  end loop;
end
$left$;
