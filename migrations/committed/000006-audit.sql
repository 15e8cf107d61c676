--! Previous: sha1:42fbc93f9d2391075a8b7fe1da8308154b2fc32c
--! Hash: sha1:27ae77b5ad2e30a15b2302b9dc4dcfca3e2728ec
--! Message: audit
--! Baseline: topics/06-audit.sql

/*
 * An append-only log of privileged actions. Each row holds the hash of the row before, so
 * a changed or missing row is noticed.
 */

create table ops.audit_log (
  id bigint not null,
  occurred_at timestamptz not null,
  actor text not null,
  application_name text not null,
  client_address inet,
  action text not null,
  details jsonb not null,
  prev_hash bytea not null,
  hash bytea not null,
  constraint audit_log_pkey primary key (id),
  constraint audit_log_action_check check (action ~ '^[a-z][a-z0-9_.]{1,62}$'),
  constraint audit_log_details_check check (jsonb_typeof(details) = 'object'),
  constraint audit_log_hash_check
    check (octet_length(prev_hash) = 32 and octet_length(hash) = 32)
);

create index audit_log_occurred_at_idx on ops.audit_log (occurred_at);

create index audit_log_action_idx on ops.audit_log (action);

-- No insert for anybody: ops.audit() makes the rows.
grant select on ops.audit_log to gw_monitor;

create trigger _200_append_only before update or delete or truncate on ops.audit_log
  for each statement execute function app_private.tg__append_only();

-- Fires also while session_replication_role = replica turns other triggers off.
alter table ops.audit_log enable always trigger _200_append_only;

comment on table ops.audit_log is
  'Privileged actions. Append-only; each row holds the hash of the row before: see ops.verify_audit_log().';
comment on column ops.audit_log.id is 'Counts from 1, without gaps.';
comment on column ops.audit_log.actor is 'The role that logged in (session_user).';
comment on column ops.audit_log.application_name is
  'The application_name of the session; pg_cron for jobs. A session may claim any name.';
comment on column ops.audit_log.client_address is 'Null for a local socket.';
comment on column ops.audit_log.action is 'The action, such as partition.dropped.';
comment on column ops.audit_log.prev_hash is
  'The hash of the row before; 32 zero bytes in the first.';
comment on column ops.audit_log.hash is
  'SHA-256 over the row''s other columns, by ops.audit_log_hash().';

-- One row: the end of the chain.
create table ops.audit_log_head (
  is_only boolean not null default true,
  last_id bigint not null,
  last_hash bytea not null,
  constraint audit_log_head_pkey primary key (is_only),
  constraint audit_log_head_is_only_check check (is_only),
  constraint audit_log_head_last_hash_check check (octet_length(last_hash) = 32)
);

-- gw_worker seals it.
grant select on ops.audit_log_head to gw_monitor, gw_worker;

create trigger _200_append_only before delete or truncate on ops.audit_log_head
  for each statement execute function app_private.tg__append_only();

alter table ops.audit_log_head enable always trigger _200_append_only;

comment on table ops.audit_log_head is
  'The newest row of ops.audit_log. It shows when rows are missing from the end.';

--! Included functions/ops/audit_log_hash.sql
-- Every column is named, so a later column does not change old hashes. JSON keeps values
-- apart. Times are in UTC, independent of the session's zone.
create or replace function ops.audit_log_hash(p_row ops.audit_log) returns bytea
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select sha256(convert_to(jsonb_build_array(
    p_row.id, p_row.occurred_at, p_row.actor, p_row.application_name,
    p_row.client_address, p_row.action, p_row.details, encode(p_row.prev_hash, 'hex')
  )::text, 'UTF8'))
$$;

grant execute on function ops.audit_log_hash(ops.audit_log) to gw_monitor;
comment on function ops.audit_log_hash(ops.audit_log) is
  'Computes the hash that a row of the audit log must have.';
--! EndIncluded functions/ops/audit_log_hash.sql
--! Included functions/ops/audit.sql
-- Not definer, and granted to nobody: it serves the owner's functions and the toolkit,
-- which are the owner already.
create or replace function ops.audit(action text, details jsonb default '{}')
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  entry ops.audit_log;
begin
  -- One writer at a time until its transaction ends: each row needs the one before it.
  perform pg_advisory_xact_lock(hashtextextended('ops.audit_log', 0));

  select audit_log_head.last_id + 1, audit_log_head.last_hash
  into strict entry.id, entry.prev_hash
  from ops.audit_log_head
  for update;
  entry.occurred_at := clock_timestamp();
  entry.actor := session_user;
  entry.application_name := current_setting('application_name');
  entry.client_address := inet_client_addr();
  entry.action := audit.action;
  -- Several people may share a role; whoever acts says so (GW_OPERATOR).
  entry.details := audit.details || case
    when coalesce(current_setting('groundwork.operator', true), '') <> ''
    then jsonb_build_object('operator', left(current_setting('groundwork.operator'), 100))
    else '{}' end;
  entry.hash := ops.audit_log_hash(entry);

  insert into ops.audit_log values (entry.*);
  update ops.audit_log_head set last_id = entry.id, last_hash = entry.hash;
  return entry.id;
end
$$;

comment on function ops.audit(text, jsonb) is
  'Records an action in the audit log. Returns the id of the row.';
--! EndIncluded functions/ops/audit.sql
--! Included functions/ops/verify_audit_log.sql
create or replace function ops.verify_audit_log()
returns table (broken_id bigint, problem text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with chain as (
    select audit_log.id, audit_log.prev_hash, audit_log.hash,
      ops.audit_log_hash(audit_log) as right_hash,
      lag(audit_log.id, 1, 0) over by_id as id_before,
      lag(audit_log.hash, 1, decode(repeat('00', 32), 'hex')) over by_id as hash_before
    from ops.audit_log
    window by_id as (order by audit_log.id)
  ),
  newest as (
    select coalesce(max(audit_log.id), 0) as id from ops.audit_log
  )
  select found.broken_id, found.problem
  from (
    select chain.id as broken_id,
      case
        when chain.id <> chain.id_before + 1 then 'the row before it is missing'
        when chain.prev_hash <> chain.hash_before then 'the row before it was altered'
        else 'it was altered'
      end as problem
    from chain
    where chain.id <> chain.id_before + 1
      or chain.prev_hash <> chain.hash_before
      or chain.hash <> chain.right_hash
    union all
    -- Last, since every other finding names an earlier row.
    select newest.id + 1, 'it is missing, or audit_log_head was altered'
    from newest
    where not exists (
      select from ops.audit_log_head
      where audit_log_head.last_id = newest.id
        and audit_log_head.last_hash = coalesce(
          (select audit_log.hash from ops.audit_log where audit_log.id = newest.id),
          decode(repeat('00', 32), 'hex'))
    )
  ) as found
  order by found.broken_id
  limit 1
$$;

grant execute on function ops.verify_audit_log() to gw_monitor;
comment on function ops.verify_audit_log() is
  'The first row of the audit log that was changed or is missing, and what is wrong; no row when the log is intact.';
--! EndIncluded functions/ops/verify_audit_log.sql
--! Included functions/app_private/tg_partition_events__audit.sql
create or replace function app_private.tg_partition_events__audit() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform ops.audit('partition.' || new.event, jsonb_build_object(
    'parent_table', new.parent_table,
    'partition_name', new.partition_name,
    'bytes', new.bytes));
  return null;
end
$$;

comment on function app_private.tg_partition_events__audit() is
  'Enters partitions that left into the audit log.';
--! EndIncluded functions/app_private/tg_partition_events__audit.sql

insert into ops.audit_log_head (last_id, last_hash)
values (0, decode(repeat('00', 32), 'hex'));

create trigger _900_audit after insert on ops.partition_events
  for each row when (new.event in ('detached', 'dropped'))
  execute function app_private.tg_partition_events__audit();
