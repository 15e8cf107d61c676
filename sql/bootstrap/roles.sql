-- Roles of a Groundwork cluster. Run by a superuser, once for each cluster and again
-- whenever this file changes; every statement can be repeated.
--
-- Passwords are never written here, and never come here. The session may carry SCRAM
-- verifiers in the setting groundwork.role_verifiers, a JSON object {role: verifier}; roles
-- that it does not name keep the password they have (none, when new: such a role cannot log
-- in yet). In psql, \password makes a verifier too.

-- Nothing that another role may have put into a schema is found by its name.
set search_path = pg_catalog, pg_temp;
-- Verifiers are nobody's business either.
set pg_stat_statements.track = 'none';

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
      ('gw_monitor', 'login inherit')
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
    execute pg_catalog.format('alter role %I with %s nosuperuser nocreatedb nocreaterole',
      wanted.role_name, wanted.attributes);
  end loop;
end
$roles$;

grant app_user, app_anonymous to gw_authenticator;
grant pg_monitor to gw_monitor;
-- The health checks that pg_cron runs look at connections, settings and replication.
grant pg_monitor to gw_owner;

-- A stray session cannot write, whatever is granted to it by mistake.
alter role gw_readonly set default_transaction_read_only = on;
alter role gw_monitor set default_transaction_read_only = on;

-- The message of an error can quote a value ("invalid input syntax for type date: …"). These
-- sessions get it themselves, and the processes log it without the value; pg_cron keeps that
-- of a job. The server's log has what is about the server: sessions that it ended (FATAL),
-- slow statements, lock waits. Errors of superusers and of autovacuum are logged.
alter role gw_owner set log_min_messages = log;
alter role gw_authenticator set log_min_messages = log;
alter role gw_worker set log_min_messages = log;
alter role gw_cdc set log_min_messages = log;
alter role gw_readonly set log_min_messages = log;
alter role gw_monitor set log_min_messages = log;
-- People type these sessions' statements, with values in them. pg_stat_statements has the
-- slow ones, without.
alter role gw_readonly set log_min_duration_statement = -1;
alter role gw_monitor set log_min_duration_statement = -1;

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
    execute pg_catalog.format('alter role %I password %L',
      secret.role_name, secret.verifier);
  end loop;
end
$verifiers$;
