--! Previous: sha1:4640de98257271f0a77135f153652171366e33f8
--! Hash: sha1:4673cfea361fa053fd04c84458733fa0e0d335fd
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
  -- See acting_person().
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

-- Large changes take four eyes: one person asks, another approves, then it is made.
create table ops.approvals (
  id integer generated always as identity,
  action text not null,
  details jsonb not null,
  size bigint not null,
  requested_by text,
  requested_at timestamptz,
  approved_by text,
  approved_at timestamptz,
  used_at timestamptz,
  constraint approvals_pkey primary key (id),
  constraint approvals_requested_check
    check ((requested_by is null) = (requested_at is null)),
  constraint approvals_approved_check
    check ((approved_by is null) = (approved_at is null)
      and (approved_by is null or approved_by <> requested_by)),
  constraint approvals_used_check check (used_at is null or approved_at is not null)
);

create index approvals_action_idx_where_unused
  on ops.approvals (action) where used_at is null;

--! Included functions/ops/acting_person.sql
-- Several people may share a role; whoever acts says so (GW_OPERATOR).
create or replace function ops.acting_person() returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    nullif(left(current_setting('groundwork.operator', true), 100), ''), session_user)
$$;

comment on function ops.acting_person() is
  'Who acts: the operator that the session names, else its login role.';
--! EndIncluded functions/ops/acting_person.sql
--! Included functions/app_private/tg_approvals__refuse.sql
-- At the end of the transaction, so that a dry run, which is rolled back, can do all of it.
create or replace function app_private.tg_approvals__refuse() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'this changes % messages, which a second person has to approve', new.size
    using errcode = 'GW045',
      detail = jsonb_build_object(
        'action', new.action, 'details', new.details, 'size', new.size)::text,
      hint = format(
        'select ops.request_approval(%L, %L, %s); another person runs: gw messages approve',
        new.action, new.details, new.size);
end
$$;

comment on function app_private.tg_approvals__refuse() is
  'Refuses a large change that nobody else has approved.';
--! EndIncluded functions/app_private/tg_approvals__refuse.sql
--! Included functions/ops/is_same_change.sql
-- "Of the last week" begins later each time that it is said: that is less, not other.
create or replace function ops.is_same_change(p_approved jsonb, p_wanted jsonb)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p_approved - 'since' = p_wanted - 'since'
    and coalesce((p_approved ->> 'since')::timestamptz <= (p_wanted ->> 'since')::timestamptz,
      p_approved ->> 'since' is null)
$$;

comment on function ops.is_same_change(jsonb, jsonb) is
  'Whether a change is what was approved, or a part of it.';
--! EndIncluded functions/ops/is_same_change.sql
--! Included functions/ops/require_approval.sql
-- An approval is used once, within a day, and for no more than a tenth above what was
-- approved: messages come and go meanwhile.
create or replace function ops.require_approval(
  p_action text, p_details jsonb, p_size bigint, p_above integer
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  used integer;
begin
  if p_above is null or p_size <= p_above then
    return null;
  end if;
  update ops.approvals
  set used_at = now()
  where approvals.id = (
    select approvals.id
    from ops.approvals
    where approvals.action = p_action
      and ops.is_same_change(approvals.details, p_details)
      and approvals.size * 1.1 >= p_size
      and approvals.approved_at > now() - interval '1 day'
      and approvals.used_at is null
    order by approvals.id
    limit 1
    for update
  )
  returning approvals.id into used;
  if used is null then
    insert into ops.approvals (action, details, size) values (p_action, p_details, p_size);
  end if;
  return used;
end
$$;

comment on function ops.require_approval(text, jsonb, bigint, integer) is
  'Uses the approval of a change whose size is above a limit (null: none is needed), and returns its number. Without one the transaction ends with GW045.';
--! EndIncluded functions/ops/require_approval.sql
--! Included functions/ops/request_approval.sql
create or replace function ops.request_approval(
  p_action text, p_details jsonb, p_size bigint
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  request integer;
begin
  -- Whoever runs the command twice asks once.
  select approvals.id
  into request
  from ops.approvals
  where approvals.action = p_action
    and ops.is_same_change(approvals.details, p_details)
    and approvals.size = p_size
    and approvals.requested_by = ops.acting_person()
    and approvals.requested_at > now() - interval '1 day'
    and approvals.approved_at is null
  limit 1;
  if found then
    return request;
  end if;
  insert into ops.approvals (action, details, size, requested_by, requested_at)
  values (p_action, p_details, p_size, ops.acting_person(), now())
  returning id into request;
  perform ops.audit('approval.requested', jsonb_build_object(
    'approval', request, 'of', p_action, 'size', p_size));
  return request;
end
$$;

comment on function ops.request_approval(text, jsonb, bigint) is
  'Asks a second person to approve a change. Returns the number of the request.';
--! EndIncluded functions/ops/request_approval.sql
--! Included functions/ops/approve_change.sql
create or replace function ops.approve_change(p_approval integer) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  request ops.approvals;
begin
  select * into request from ops.approvals where approvals.id = p_approval for update;
  if not found or request.requested_at < now() - interval '1 day' then
    raise exception 'there is no request % of the last day', p_approval
      using errcode = 'GW041', hint = 'See: gw messages approvals';
  end if;
  if request.approved_at is not null then
    raise exception '% has approved request % already', request.approved_by, p_approval
      using errcode = 'GW041';
  end if;
  if request.requested_by = ops.acting_person() then
    raise exception '% has asked for it, and cannot approve it', request.requested_by
      using errcode = 'GW041', hint = 'Another person does: GW_OPERATOR says who acts.';
  end if;
  update ops.approvals
  set approved_by = ops.acting_person(), approved_at = now()
  where approvals.id = p_approval;
  perform ops.audit('approval.given', jsonb_build_object('approval', p_approval,
    'of', request.action, 'size', request.size, 'requested_by', request.requested_by));
end
$$;

comment on function ops.approve_change(integer) is
  'Approves a change that another person has asked for. It can then be made once, within a day.';
--! EndIncluded functions/ops/approve_change.sql

-- A change inserts such a row when nobody has approved it, and cannot be committed then.
create constraint trigger _300_refuse
  after insert on ops.approvals
  deferrable initially deferred
  for each row when (new.requested_at is null)
  execute function app_private.tg_approvals__refuse();

comment on table ops.approvals is
  'Changes above a limit, which a second person has to approve: see ops.require_approval().';
comment on column ops.approvals.action is 'The action, as the audit log names it.';
comment on column ops.approvals.details is
  'What exactly is approved, such as filters and a reason.';
comment on column ops.approvals.size is 'How much it changed when it was asked for.';
comment on column ops.approvals.used_at is 'When the change was made; an approval is used once.';
