--! Previous: -
--! Hash: sha1:8213b360a161a413f030cb2c3080634e2a0462bb
--! Message: schemas-and-roles

--! split: 0001-x.sql
/*
 * Schemas, who may enter them, and the two functions that all row-level security hangs on.
 *
 * Roles are made by sql/bootstrap/roles.sql, which needs a superuser; this file is run by
 * gw_owner, like every migration. It takes no lock on an existing table.
 */

-- What frontends use. Everything in it is in the GraphQL API, so it needs RLS and a comment.
create schema app_public;
-- Helpers that app_user may execute but that are not in the API.
create schema app_hidden;
-- Secrets, sessions, ledgers, trigger functions.
create schema app_private;
-- Every partition. Grants and policies are not inherited by partitions, so nobody but the
-- owner may enter: rows are only reachable through the parent.
create schema app_partitions;
-- The toolkit: partition policies, pg_cron declarations, checks.
create schema ops;

grant usage on schema app_public, app_hidden to app_user, app_anonymous, gw_readonly;
grant usage on schema app_private to gw_authenticator, gw_worker;
grant usage on schema ops to gw_authenticator, gw_monitor, gw_worker;

-- A function is callable by nobody until it is granted.
alter default privileges for role gw_owner revoke execute on functions from public;

--! Included functions/app_hidden/current_app_user_id.sql
-- One statement, SQL, no SET: so it is inlined into every policy and prunes hash
-- partitions when the plan starts.
create or replace function app_hidden.current_app_user_id() returns uuid
language sql stable parallel safe
as $$
  select nullif(pg_catalog.current_setting('app.current_user_id', true), '')::uuid
$$;
--! EndIncluded functions/app_hidden/current_app_user_id.sql
grant execute on function app_hidden.current_app_user_id()
  to app_user, app_anonymous, gw_readonly;
comment on function app_hidden.current_app_user_id() is
  'The user of this transaction, or null. Every policy compares user_id with it.';

--! Included functions/app_private/set_app_user.sql
-- SET LOCAL rather than set_config(): a distributing extension passes only the former on to
-- its workers. The value is a uuid, so format() cannot be tricked.
create or replace function app_private.set_app_user(p_user_id uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute pg_catalog.format(
    'set local app.current_user_id = %L', coalesce(p_user_id::text, ''));
end
$$;
--! EndIncluded functions/app_private/set_app_user.sql
grant execute on function app_private.set_app_user(uuid) to gw_authenticator;
comment on function app_private.set_app_user(uuid) is
  'Makes a user the current one until the transaction ends. Never exposed to the API.';

--! Included functions/app_private/tg__timestamps.sql
create or replace function app_private.tg__timestamps() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  new.created_at := case tg_op when 'INSERT' then now() else old.created_at end;
  -- Strictly later than before, so that a client can tell two versions apart.
  new.updated_at := case
    when tg_op = 'UPDATE' and old.updated_at >= now()
      then old.updated_at + interval '1 microsecond'
    else now()
  end;
  return new;
end
$$;
--! EndIncluded functions/app_private/tg__timestamps.sql
comment on function app_private.tg__timestamps() is
  'Keeps created_at as it was and sets updated_at, whatever the statement says.';

--! Included functions/ops/last_migration.sql
-- Definer: graphile_migrate is readable by its owner only, and /readyz asks as a role that
-- has no other right. It takes no argument and tells only a file's name.
create or replace function ops.last_migration() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select migrations.filename
    from graphile_migrate.migrations
    order by migrations.filename desc
    limit 1
  );
end
$$;
--! EndIncluded functions/ops/last_migration.sql
grant execute on function ops.last_migration() to gw_authenticator, gw_monitor, gw_worker;
comment on function ops.last_migration() is
  'The newest committed migration that this database has run, or null.';
