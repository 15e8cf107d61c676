--! Previous: sha1:91b815c4361dee5d7eb8b2bab93c4664d3c00450
--! Hash: sha1:4640de98257271f0a77135f153652171366e33f8
--! Message: backups
--! Baseline: topics/05-backups.sql

/*
 * The catalogue of backups, and which database this is. A partition is dropped only when a
 * verified backup holds it. A copy is fenced: it does nothing until somebody adopts it.
 */

-- "gw backup" enters a backup when it is complete, and again after each trial restore. Other
-- programs may enter theirs at the beginning, at the end (finished_at), and after a trial.
create table ops.backups (
  id uuid not null default gen_random_uuid(),
  kind text not null,
  tables text[],
  location text not null,
  bytes bigint,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  verified_at timestamptz,
  failure text,
  pinned text,
  constraint backups_pkey primary key (id),
  constraint backups_kind_check check (kind in ('logical', 'physical')),
  constraint backups_tables_check
    check (tables is null or kind = 'logical' and cardinality(tables) > 0),
  constraint backups_location_check check (location <> ''),
  constraint backups_bytes_check check (bytes >= 0),
  constraint backups_finished_at_check check (finished_at >= started_at),
  constraint backups_verified_at_check
    check (verified_at is null or finished_at is not null and verified_at >= finished_at),
  constraint backups_failure_check
    check (failure is null or failure <> '' and verified_at is null),
  constraint backups_pinned_check check (pinned <> '')
);

create index backups_started_at_idx on ops.backups (started_at);

grant select on ops.backups to gw_monitor;

comment on table ops.backups is
  'Backups of this database. A partition is dropped only when a verified backup holds it.';
comment on column ops.backups.kind is 'logical (pg_dump) or physical (the whole server).';
comment on column ops.backups.tables is
  'The tables that a logical backup is limited to, as schema.table; a partitioned table includes its partitions. Null: all tables.';
comment on column ops.backups.started_at is
  'When the backup began. It holds nothing that was written later.';
comment on column ops.backups.finished_at is 'When the backup ended; null while it runs, and when it failed.';
comment on column ops.backups.verified_at is
  'When a trial restore of it last succeeded; null without one, and when the latest has failed.';
comment on column ops.backups.failure is 'What the latest trial restore found; null when it succeeded.';
comment on column ops.backups.pinned is 'Why it is not to be pruned; null when it may be.';


-- Who this database is. A copy brings these rows along, and is somewhere else. Each fact can be
-- told without a connection to the original: a copy has no other way to know.
create table ops.identity (
  is_only boolean not null default true,
  system_identifier text not null,
  database_id oid not null,
  timeline integer not null,
  machine text,
  data_directory text,
  files_since timestamptz,
  watches_files boolean not null default true,
  closed text,
  adopted_at timestamptz not null default now(),
  adopted_by text not null,
  constraint identity_pkey primary key (is_only),
  constraint identity_is_only_check check (is_only),
  constraint identity_closed_check check (closed <> '')
);

grant select on ops.identity to gw_monitor;

comment on table ops.identity is
  'Who this database is: one row. Where it says something else than ops.present_place(), the database is a copy, and fenced. No row: it is being restored.';
comment on column ops.identity.system_identifier is 'The number that initdb gave the server.';
comment on column ops.identity.database_id is
  'Its oid: a restored dump and a database made from a template have others.';
comment on column ops.identity.timeline is
  'The branch of the server''s history: recovery and promotion begin new ones.';
comment on column ops.identity.machine is
  'The machine''s number, of /etc/machine-id. Null: cannot tell, and is not compared.';
comment on column ops.identity.data_directory is
  'The folder of the server''s files. Null: cannot tell, and is not compared.';
comment on column ops.identity.files_since is
  'Since when the files are there: when PG_VERSION was last copied, or changed its owner or mode. Null: cannot tell, and is not compared.';
comment on column ops.identity.watches_files is
  'Whether files_since is compared. Off where the platform gives files another owner at each start.';
comment on column ops.identity.closed is
  'Why a person has fenced it, such as before a volume is rolled back in its place; null otherwise.';
comment on column ops.identity.adopted_by is
  'The role that adopted it; "migration" in a new database, "promotion" for a declared standby.';

-- A promotion is a new timeline elsewhere, as a copy is. Which standbys may take over is
-- declared beforehand.
create table ops.standbys (
  machine text not null,
  data_directory text not null,
  files_since timestamptz,
  declared_at timestamptz not null default now(),
  declared_by text not null default session_user,
  constraint standbys_pkey primary key (machine, data_directory),
  constraint standbys_machine_check check (machine <> '' or data_directory <> '')
);

grant select on ops.standbys to gw_monitor;

comment on table ops.standbys is
  'Standbys that go on after a promotion without being adopted, by machine and folder. Another is fenced.';
comment on column ops.standbys.machine is 'As in ops.identity; empty: cannot tell.';
comment on column ops.standbys.data_directory is 'As in ops.identity; empty: cannot tell.';

--! Included functions/ops/present_place.sql
-- Definer: settings of the server's files are the owner's to read, as a member of pg_monitor.
-- Dynamic SQL, because a managed server has no public.groundwork_place().
create or replace function ops.present_place(
  out system_identifier text, out database_id oid, out timeline integer, out machine text,
  out data_directory text, out files_since timestamptz
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  system_identifier := (select control.system_identifier from pg_control_system() as control);
  database_id := (select oid from pg_database where datname = current_database());
  -- A standby has none of its own. That of the control file is late after a promotion.
  if not pg_is_in_recovery() then
    timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
  end if;
  if pg_has_role('pg_read_all_settings', 'usage') then
    data_directory := current_setting('data_directory');
  end if;
  if has_function_privilege(to_regprocedure('public.groundwork_place()'), 'execute') then
    execute 'select * from public.groundwork_place()' into machine, files_since;
  end if;
end
$$;

grant execute on function ops.present_place() to gw_monitor;
comment on function ops.present_place() is
  'What a database can tell of where it is: the server''s number, the database''s, the timeline (null on a standby), the machine, the folder of the files and since when they are there. Null: cannot tell.';
--! EndIncluded functions/ops/present_place.sql
--! Included functions/ops/fence_reason.sql
-- Definer: every process asks, and none may read ops.identity.
create or replace function ops.fence_reason() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  own ops.identity;
  here record;
begin
  -- A standby does nothing by itself.
  if pg_is_in_recovery() then
    return null;
  end if;
  select * into own from ops.identity;
  if not found then
    return 'it is being restored, or was restored without its identity';
  end if;
  if own.closed is not null then
    return 'it was fenced by hand: ' || own.closed;
  end if;
  select * into here from ops.present_place();

  if here.system_identifier <> own.system_identifier then
    return 'it was restored into another server';
  elsif here.database_id <> own.database_id then
    return 'it is another database of the same server: restored from a dump, or copied';
  elsif here.timeline > own.timeline and exists (
    select from ops.standbys
    where (standbys.machine, standbys.data_directory, standbys.files_since)
      is not distinct from (coalesce(here.machine, ''), coalesce(here.data_directory, ''),
        case when own.watches_files then here.files_since else standbys.files_since end)
  ) then
    return null;
  elsif here.machine <> own.machine then
    return 'its files are on another machine';
  elsif here.data_directory <> own.data_directory then
    return format('its files are in %s, and were in %s',
      here.data_directory, own.data_directory);
  elsif own.watches_files and here.files_since <> own.files_since then
    return format('its files were put here at %s: they were copied, or given another owner',
      to_char(here.files_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'));
  elsif here.timeline <> own.timeline then
    return format('its log branched off: timeline %s, and not %s. It was recovered to an '
      'earlier point, or a standby was promoted that is not declared',
      here.timeline, own.timeline);
  end if;
  return null;
end
$$;

grant execute on function ops.fence_reason()
  to gw_authenticator, gw_worker, gw_cdc, gw_monitor;
comment on function ops.fence_reason() is
  'Why this database is taken for a copy that nobody has adopted, in one sentence; null when it is not.';
--! EndIncluded functions/ops/fence_reason.sql
--! Included functions/ops/is_fenced.sql
create or replace function ops.is_fenced() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select ops.fence_reason() is not null
$$;

grant execute on function ops.is_fenced()
  to gw_authenticator, gw_worker, gw_cdc, gw_monitor;
comment on function ops.is_fenced() is
  'Whether this database is a copy that nobody has adopted: it plans, queues, sends, alerts and captures nothing.';
--! EndIncluded functions/ops/is_fenced.sql
--! Included functions/ops/refuse_when_fenced.sql
create or replace function ops.refuse_when_fenced() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  reason constant text := ops.fence_reason();
begin
  if reason is not null then
    raise exception 'this database is a copy that nobody has adopted: %', reason
      using errcode = 'GW070',
        hint = 'It plans, queues, sends, alerts and captures nothing. '
          'To make it the one that does: gw adopt';
  end if;
end
$$;

comment on function ops.refuse_when_fenced() is
  'Raises GW070 when this database is a copy that nobody has adopted.';
--! EndIncluded functions/ops/refuse_when_fenced.sql
--! Included functions/ops/take_identity.sql
-- The standbys are those of the server that it was.
create or replace function ops.take_identity(p_by text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  kept boolean := (select watches_files from ops.identity);
begin
  delete from ops.standbys
  using ops.identity, ops.present_place() as here
  where here.system_identifier <> identity.system_identifier;

  delete from ops.identity;
  insert into ops.identity (system_identifier, database_id, timeline, machine,
    data_directory, files_since, watches_files, adopted_by)
  select here.system_identifier, here.database_id, here.timeline, here.machine,
    here.data_directory, here.files_since, coalesce(kept, true), p_by
  from ops.present_place() as here;
end
$$;

comment on function ops.take_identity(text) is
  'Makes this database, where it is now, the one that works.';
--! EndIncluded functions/ops/take_identity.sql
--! Included functions/ops/note_promotion.sql
-- A declared standby that was promoted becomes what it stands for: from now on it is known by
-- its own timeline.
create or replace function ops.note_promotion() returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  before integer := (select timeline from ops.identity);
  now_on integer := (select timeline from ops.present_place());
begin
  if before = now_on or ops.is_fenced() then
    return false;
  end if;
  perform ops.take_identity('promotion');
  perform ops.audit('database.promoted',
    jsonb_build_object('timeline_before', before, 'timeline', now_on));
  return true;
end
$$;

comment on function ops.note_promotion() is
  'Takes the promotion of a declared standby over into ops.identity. Returns whether there was one.';
--! EndIncluded functions/ops/note_promotion.sql
--! Included functions/ops/adopt.sql
create or replace function ops.adopt(p_reason text) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  was_fenced constant text := ops.fence_reason();
  before constant jsonb := (select to_jsonb(identity) from ops.identity);
begin
  if pg_is_in_recovery() then
    raise exception 'a standby cannot be adopted'
      using errcode = 'GW071', hint = 'Promote it first.';
  elsif coalesce(btrim(p_reason), '') = '' then
    raise exception 'a reason is missing' using errcode = 'GW071';
  elsif was_fenced is null then
    return null;
  end if;
  perform ops.take_identity(session_user);
  -- Positions in the log of another server mean nothing here.
  update ops.change_capture
  set resnapshot_requested = true, state = 'snapshotting', applied_lsn = null, hold_lsn = null;
  perform ops.audit('database.adopted', jsonb_build_object(
    'reason', p_reason, 'was_fenced', was_fenced, 'before', before,
    'now', (select to_jsonb(identity) from ops.identity)));
  -- What the original had to say, it has said, or nobody waits for it any more.
  delete from pgboss.job
  where name = 'alert-notify'
    and state < 'active';
  perform ops.sync_cron_jobs();
  return was_fenced;
end
$$;

comment on function ops.adopt(text) is
  'Takes a copy for the database that plans, sends and captures from now on, for a reason that the audit log keeps. Returns why it was fenced; null when it was not. "gw adopt" first finds out what was sent meanwhile.';
--! EndIncluded functions/ops/adopt.sql
--! Included functions/ops/declare_standby.sql
create or replace function ops.declare_standby(
  p_system_identifier text, p_machine text, p_data_directory text, p_files_since timestamptz
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_system_identifier is distinct from (select system_identifier from ops.identity) then
    raise exception 'this is no standby of this server: its number is %', p_system_identifier
      using errcode = 'GW071';
  elsif coalesce(p_machine, p_data_directory) is null then
    raise exception 'a standby must tell its machine or its folder' using errcode = 'GW071';
  end if;
  insert into ops.standbys (machine, data_directory, files_since)
  values (coalesce(p_machine, ''), coalesce(p_data_directory, ''), p_files_since)
  on conflict (machine, data_directory) do update
  set files_since = excluded.files_since, declared_at = now(), declared_by = session_user;
  perform ops.audit('standby.declared', jsonb_build_object(
    'machine', p_machine, 'data_directory', p_data_directory));
end
$$;

comment on function ops.declare_standby(text, text, text, timestamptz) is
  'Declares a standby: when it is promoted, it goes on without being adopted. The arguments are what ops.present_place() says on it.';
--! EndIncluded functions/ops/declare_standby.sql
--! Included functions/ops/is_backed_up.sql
create or replace function ops.is_backed_up(
  p_table regclass, p_since timestamptz default '-infinity'
) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from ops.backups
    where backups.started_at >= p_since
      and backups.verified_at is not null
      and (backups.tables is null or exists (
        select
        from (
          select p_table
          union
          select pg_partition_ancestors(p_table)
        ) as holder (relation)
        inner join pg_class on pg_class.oid = holder.relation
        where pg_class.relnamespace::regnamespace || '.' || quote_ident(pg_class.relname)
          = any (backups.tables)
      ))
  )
$$;

grant execute on function ops.is_backed_up(regclass, timestamptz) to gw_monitor;
comment on function ops.is_backed_up(regclass, timestamptz) is
  'Whether a verified backup that began at or after an instant holds a table. To hold every row, the instant must be after the last write.';
--! EndIncluded functions/ops/is_backed_up.sql
--! Included functions/ops/partitions_to_drop.sql
create or replace function ops.partitions_to_drop()
returns table (
  parent_table text, partition_name text, relation regclass, bytes bigint,
  detached_at timestamptz, obstacle text
)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select latest.parent_table, latest.partition_name, pg_class.oid::regclass,
    pg_total_relation_size(pg_class.oid), latest.occurred_at,
    case
      when partition_policies.require_backup
        and not ops.is_backed_up(pg_class.oid::regclass, latest.occurred_at)
        then 'no verified backup began after it was detached'
      when not ops.is_confirmed_by_cdc(
        -- Of another server's log: here every slot was made later.
        case when latest.occurred_at < adoption.adopted_at then '0/0'
          else latest.wal_position end)
        then 'a logical replication slot has not confirmed its last changes'
    end
  from (
    select distinct on (partition_events.partition_name) partition_events.*
    from ops.partition_events
    where partition_events.event <> 'skipped'
    order by partition_events.partition_name, partition_events.id desc
  ) as latest
  inner join pg_catalog.pg_class on pg_class.oid = to_regclass(latest.partition_name)
  -- The policy must still say drop.
  inner join ops.partition_policies
    on partition_policies.parent_table = to_regclass(latest.parent_table)
  left join ops.identity as adoption on adoption.adopted_by <> 'promotion'
  where latest.event = 'detached'
    and latest.will_drop
    and partition_policies.retention_action = 'drop'
    -- Somebody may have attached it again.
    and not pg_class.relispartition
  order by latest.id
$$;

comment on function ops.partitions_to_drop() is
  'Detached partitions whose policy says drop, oldest first, and what each still waits for: null when nothing.';
--! EndIncluded functions/ops/partitions_to_drop.sql

select ops.take_identity('migration');
