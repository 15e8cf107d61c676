--! Previous: -
--! Hash: sha1:c7c827b7f4a45567d9bf668421f3f1833c77f219
--! Message: schemas
--! Baseline: topics/01-schemas.sql

/*
 * The schemas, the roles that may use them, and the functions that every topic needs.
 *
 * Each schema is for one kind of caller. No role has access by default: USAGE on a schema
 * is granted here, and rights on a table or function in its own topic.
 */

create schema app_public;
create schema app_hidden;
create schema app_private;
create schema app_partitions;
create schema ops;

-- Everything in app_public is served, so it needs RLS and a comment. A partition does not
-- inherit grants and policies: others than the owner reach its rows through the parent.
comment on schema app_public is
  'Tables, views and functions that frontends use: the GraphQL API.';
comment on schema app_hidden is
  'Helpers that app_user may execute, and the time zones.';
comment on schema app_private is
  'Password hashes, sessions, the message ledger, templates, metrics, the query cache, change capture''s copies, materialized views and trigger functions. No user of the API may enter.';
comment on schema app_partitions is
  'Every partition. Only the owner may enter.';
comment on schema ops is
  'What the toolkit works on: partition and retention policies, pg_cron jobs, health checks, alerts, backups, the audit log, the state of change capture.';

grant usage on schema app_public to app_user, app_anonymous, gw_readonly, gw_cdc;
grant usage on schema app_hidden to app_user, app_anonymous, gw_readonly, gw_sender;
grant usage on schema app_private to gw_authenticator, gw_worker, gw_cdc, gw_monitor;
grant usage on schema ops to gw_authenticator, gw_monitor, gw_worker, gw_cdc, gw_support;

-- PostgreSQL lets every role execute a new function. Here a function needs a grant.
alter default privileges for role gw_owner revoke execute on functions from public;

--! Included functions/app_hidden/current_app_user_id.sql
-- One SQL statement without SET, so that PostgreSQL inlines it into every policy and
-- prunes hash partitions when a plan starts.
create or replace function app_hidden.current_app_user_id() returns uuid
language sql stable parallel safe
as $$
  select nullif(pg_catalog.current_setting('app.current_user_id', true), '')::uuid
$$;

grant execute on function app_hidden.current_app_user_id()
  to app_user, app_anonymous, gw_readonly;
comment on function app_hidden.current_app_user_id() is
  'The current user of the transaction, or null. Every policy compares user_id with it.';
--! EndIncluded functions/app_hidden/current_app_user_id.sql
--! Included functions/app_private/set_app_user.sql
-- SET LOCAL, not set_config(): an extension that distributes tables passes only SET LOCAL
-- on to its workers. The value is a uuid, so the statement cannot be injected into.
create or replace function app_private.set_app_user(p_user_id uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute pg_catalog.format(
    'set local app.current_user_id = %L', coalesce(p_user_id::text, ''));
end
$$;

grant execute on function app_private.set_app_user(uuid) to gw_authenticator;
comment on function app_private.set_app_user(uuid) is
  'Sets the current user until the transaction ends. Not in the API.';
--! EndIncluded functions/app_private/set_app_user.sql
--! Included functions/ops/last_migration.sql
-- Definer: only its owner can read graphile_migrate, and /readyz asks as a role without
-- other rights. No caller check: it takes no argument and returns only a file name.
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

grant execute on function ops.last_migration() to
  gw_authenticator, gw_monitor, gw_worker, gw_cdc;
comment on function ops.last_migration() is
  'The newest committed migration that this database has run, or null.';
--! EndIncluded functions/ops/last_migration.sql
--! Included functions/ops/migration_hash.sql
-- Definer: see last_migration().
create or replace function ops.migration_hash(p_name text) returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select migrations.hash
    from graphile_migrate.migrations
    where migrations.filename = p_name
  );
end
$$;

grant execute on function ops.migration_hash(text) to
  gw_authenticator, gw_monitor, gw_worker, gw_cdc;
comment on function ops.migration_hash(text) is
  'The hash with which this database ran a committed migration, such as 000001.sql; null when it did not.';
--! EndIncluded functions/ops/migration_hash.sql
--! Included functions/app_private/tg__append_only.sql
create or replace function app_private.tg__append_only() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '%.% is append-only', tg_table_schema, tg_table_name
    using errcode = 'GW030',
      hint = 'What was recorded stays. Add a row that corrects it.';
end
$$;

comment on function app_private.tg__append_only() is
  'Refuses update, delete and truncate, also for the owner.';
--! EndIncluded functions/app_private/tg__append_only.sql
--! Included functions/app_private/tg__timestamps.sql
create or replace function app_private.tg__timestamps() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    -- A bulk load may set both; app_user has no right to write them.
    new.created_at := coalesce(new.created_at, now());
    new.updated_at := greatest(new.created_at, coalesce(new.updated_at, now()));
    return new;
  end if;
  new.created_at := old.created_at;
  -- Strictly later than before, so that a client can tell two versions apart.
  new.updated_at := case
    when old.updated_at >= now() then old.updated_at + interval '1 microsecond'
    else now()
  end;
  return new;
end
$$;

comment on function app_private.tg__timestamps() is
  'On insert, fills created_at and updated_at unless they are given. On update, keeps '
  'created_at and sets updated_at, whatever the statement says.';
--! EndIncluded functions/app_private/tg__timestamps.sql
--! Included functions/app_hidden/current_traceparent.sql
-- A session can set any text, so a value that is not a traceparent is ignored.
create or replace function app_hidden.current_traceparent() returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select given.traceparent
  from (values (current_setting('app.traceparent', true))) as given (traceparent)
  where given.traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
$$;

grant execute on function app_hidden.current_traceparent()
  to app_user, app_anonymous;
comment on function app_hidden.current_traceparent() is
  'The W3C traceparent of the current request, or null. Jobs carry it in their data.';
--! EndIncluded functions/app_hidden/current_traceparent.sql

-- For forms: PostgreSQL itself names but the first CHECK that a row breaks.
--! Included functions/app_private/violated_checks.sql
-- Definer: the API's login role may not look up names in app_public. It reads no row: what
-- it evaluates are the table's own CHECKs, on values that the caller has sent.
create or replace function app_private.violated_checks(relation text, inputs jsonb)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  relation_id regclass := relation::regclass;
  checks text;
  violated jsonb;
begin
  select string_agg(format('(%L, %L, %s)', pg_constraint.conname, pg_attribute.attname,
      pg_get_expr(pg_constraint.conbin, pg_constraint.conrelid)), ', ')
  into checks
  from pg_constraint
  inner join pg_attribute on pg_attribute.attrelid = pg_constraint.conrelid
    and pg_attribute.attnum = pg_constraint.conkey[1]
  where pg_constraint.conrelid = relation_id
    and pg_constraint.contype = 'c'
    and cardinality(pg_constraint.conkey) = 1;
  if checks is not null then
    execute format(
      'select jsonb_agg(by_row_.names_ order by by_row_.place_) from ('
      ' select list_.place_, coalesce(jsonb_agg(check_.name_ order by check_.name_)'
      '     filter (where not check_.is_kept_ and list_.row_ ? check_.column_), ''[]'') as names_'
      ' from jsonb_array_elements($1) with ordinality as list_ (row_, place_)'
      ' cross join lateral jsonb_populate_record(null::%s, list_.row_) as given_'
      ' cross join lateral (values %s) as check_ (name_, column_, is_kept_)'
      ' group by list_.place_) as by_row_', relation_id, checks)
    into violated
    using inputs;
  end if;
  return violated;
end
$$;

grant execute on function app_private.violated_checks(text, jsonb) to gw_authenticator;
comment on function app_private.violated_checks(text, jsonb) is
  'For each of these rows of a table the names of the CHECKs of one column that it breaks; '
  'null when the table has none. A column that a row does not have is not looked at.';
--! EndIncluded functions/app_private/violated_checks.sql
