-- Roles of a Groundwork cluster. Run once for each cluster and again whenever this file
-- changes; every statement can be repeated. A superuser runs it, or a role with CREATEROLE, as a
-- managed server has: what that one may not do is told at the end, as statements.
--
-- Passwords are never written here, and never come here. The session may carry SCRAM
-- verifiers in the setting groundwork.role_verifiers, a JSON object {role: verifier}; roles
-- that it does not name keep the password they have (none, when new: such a role cannot log
-- in yet). In psql, \password makes a verifier too.

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

-- Verifiers are nobody's business either.
do $track$
begin
  perform pg_catalog.set_config('pg_stat_statements.track', 'none', false);
exception when insufficient_privilege then
  null; -- what it would keep are verifiers, and no passwords
end
$track$;

do $roles$
declare
  wanted record;
begin
  for wanted in
    select role_name, attributes
    from (values
      -- Owns every object. Runs migrations and pg_cron jobs. Never a superuser.
      ('gw_owner', 'login inherit'),
      -- What the API logs in as. Can do nothing itself but become one of the next two.
      ('gw_authenticator', 'login noinherit'),
      -- A signed-in user; row-level security decides which rows.
      ('app_user', 'nologin inherit'),
      -- Somebody without a token.
      ('app_anonymous', 'nologin inherit'),
      -- The job worker: calls functions, reads no tenant table directly.
      ('gw_worker', 'login inherit'),
      -- Change data capture; REPLICATION lets it read every row's changes.
      ('gw_cdc', 'login inherit replication'),
      -- Analytics: every row, no secret, no writing.
      ('gw_readonly', 'login inherit'),
      -- Monitoring agents: statistics views and ops.
      ('gw_monitor', 'login inherit'),
      -- Granted to the application's role: send_message() and nothing else.
      ('gw_sender', 'nologin inherit'),
      -- Granted to people who help users: explain, resend, suppress, lift; nothing else.
      ('gw_support', 'nologin inherit')
    ) as wanted_roles (role_name, attributes)
  loop
    if not exists (
      select from pg_catalog.pg_roles where rolname = wanted.role_name
    ) then
      begin
        execute pg_catalog.format('create role %I', wanted.role_name);
      exception when duplicate_object or unique_violation then
        null; -- another database of this cluster is being set up at this moment
      end;
    end if;
    if exists (
      select from pg_catalog.pg_roles
      where rolname = wanted.role_name
        and (rolcanlogin <> (wanted.attributes like 'login %')
          or rolinherit <> (wanted.attributes not like '% noinherit%'))
    ) then
      execute pg_catalog.format('alter role %I with %s', wanted.role_name,
        pg_catalog.replace(wanted.attributes, ' replication', ''));
    end if;
    -- Whoever is no superuser may not even say nosuperuser.
    if exists (
      select from pg_catalog.pg_roles
      where rolname = wanted.role_name
        and (rolsuper or rolcreatedb or rolcreaterole or rolbypassrls
          or rolreplication <> (wanted.attributes like '% replication'))
    ) then
      perform pg_temp.run_if_allowed(pg_catalog.format(
        'alter role %I with nosuperuser nocreatedb nocreaterole nobypassrls %s',
        wanted.role_name,
        case when wanted.attributes like '% replication' then 'replication'
          else 'noreplication' end));
    end if;
  end loop;
end
$roles$;

grant app_user, app_anonymous to gw_authenticator;
-- The health checks that pg_cron runs look at connections, settings and replication.
select pg_temp.run_if_allowed('grant pg_monitor to gw_monitor, gw_owner');

-- A stray session cannot write, whatever is granted to it by mistake.
alter role gw_readonly set default_transaction_read_only = on;
alter role gw_monitor set default_transaction_read_only = on;

-- A bad query of an analyst must not take the server from the API: one process each, a few
-- sessions, an end to each statement, and an end to what it writes to the disk. What a DBA
-- has set instead stays.
do $limits$
declare
  wanted record;
begin
  if (select rolconnlimit from pg_catalog.pg_roles where rolname = 'gw_readonly') = -1 then
    alter role gw_readonly connection limit 20;
  end if;
  for wanted in
    select name, value
    from (values
      ('statement_timeout', '5min'),
      ('idle_in_transaction_session_timeout', '10min'),
      ('max_parallel_workers_per_gather', '0'),
      ('temp_file_limit', '4GB')
    ) as settings (name, value)
    where not exists (
      select from pg_catalog.pg_roles, unnest(rolconfig) as setting
      where rolname = 'gw_readonly' and setting like settings.name || '=%'
    )
  loop
    perform pg_temp.run_if_allowed(pg_catalog.format(
      'alter role gw_readonly set %s = %L', wanted.name, wanted.value));
  end loop;
end
$limits$;

-- The message of an error can quote a value ("invalid input syntax for type date: …"). These
-- sessions get it themselves, and the processes log it without the value; pg_cron keeps that
-- of a job. The server's log has what is about the server: sessions that it ended (FATAL),
-- slow statements, lock waits. Errors of superusers and of autovacuum are logged.
do $settings$
declare
  login text;
begin
  foreach login in array array['gw_owner', 'gw_authenticator', 'gw_worker', 'gw_cdc',
    'gw_readonly', 'gw_monitor']
  loop
    perform pg_temp.run_if_allowed(
      pg_catalog.format('alter role %I set log_min_messages = log', login));
  end loop;
  -- People type these sessions' statements, with values in them. pg_stat_statements has the
  -- slow ones, without.
  perform pg_temp.run_if_allowed('alter role gw_readonly set log_min_duration_statement = -1');
  perform pg_temp.run_if_allowed('alter role gw_monitor set log_min_duration_statement = -1');
  -- So that it can give them the database.
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    execute pg_catalog.format('grant gw_owner to %I', current_user);
  end if;
end
$settings$;

do $verifiers$
declare
  secret record;
begin
  for secret in
    select key as role_name, value as verifier
    from pg_catalog.jsonb_each_text(coalesce(
      nullif(pg_catalog.current_setting('groundwork.role_verifiers', true), ''),
      '{}')::jsonb)
    where key in ('gw_owner', 'gw_authenticator', 'gw_worker', 'gw_cdc',
      'gw_readonly', 'gw_monitor')
  loop
    if secret.verifier !~ '^SCRAM-SHA-256[$]' then
      raise exception 'role % is given no SCRAM verifier', secret.role_name;
    end if;
    begin
      execute pg_catalog.format('alter role %I password %L',
        secret.role_name, secret.verifier);
    exception when insufficient_privilege then
      -- That of a role with REPLICATION is a superuser's. The verifier stays here.
      insert into pg_temp.groundwork_left
      values (pg_catalog.format('\password %I', secret.role_name)) on conflict do nothing;
    end;
  end loop;
end
$verifiers$;

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
