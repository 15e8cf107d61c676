--! Previous: sha1:d8a0ddae89a09b9ab6b6c087e78ed4b6f2346799
--! Hash: sha1:41a40d94e6f06777a36ab21f40b98a68cf4f7fbe
--! Message: alerts

--! split: 0001-alerts.sql
/*
 * Alerts: what a person on call should know. Checks, the worker and change capture raise
 * them; an alert stays open until what it is about is well again.
 *
 * Locks: none on existing tables.
 */

-- One row for each time that something went wrong, from when it was noticed to when it was
-- well again. Of one check and object, one at most is open.
create table ops.alerts (
  id bigint generated always as identity,
  check_name text not null,
  object text not null default '',
  level text not null,
  detail text not null,
  remediation text not null default '',
  raised_at timestamptz not null default now(),
  changed_at timestamptz not null default now(),
  resolved_at timestamptz,
  constraint alerts_pkey primary key (id),
  constraint alerts_level_check check (level in ('warning', 'critical')),
  constraint alerts_check_name_check check (check_name ~ '^[a-z][a-z0-9-]{1,62}$'),
  constraint alerts_resolved_at_check check (resolved_at >= raised_at)
);

create unique index alerts_check_name_object_idx_where_open
  on ops.alerts (check_name, object) where resolved_at is null;
create index alerts_raised_at_idx on ops.alerts (raised_at);

alter table ops.alerts enable row level security;
create policy everything on ops.alerts
  for select to gw_monitor
  using (true);
-- Read only: raise_alert() and resolve_alert() write it.
grant select on ops.alerts to gw_monitor;

comment on table ops.alerts is
  'What went wrong, and until when: at most one open row for each check and object.';
comment on column ops.alerts.check_name is 'Which check found it.';
comment on column ops.alerts.object is 'What it is about; empty where there is only one.';
comment on column ops.alerts.level is 'warning (soon a problem) or critical (a problem now).';
comment on column ops.alerts.detail is 'What was found, with figures; as it was last said.';
comment on column ops.alerts.remediation is 'What to do about it.';
comment on column ops.alerts.changed_at is 'When the level last changed.';
comment on column ops.alerts.resolved_at is 'When it was well again; null while it is open.';

--! Included functions/ops/raise_alert.sql
-- Definer: who notices a fault need not be able to write ops.alerts. It can only raise.
create or replace function ops.raise_alert(
  p_check_name text, p_object text, p_level text, p_detail text, p_remediation text default ''
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  level_before text;
begin
  select level
  into level_before
  from ops.alerts
  where check_name = p_check_name
    and object = coalesce(p_object, '')
    and resolved_at is null
  for update;

  insert into ops.alerts (check_name, object, level, detail, remediation)
  values (p_check_name, coalesce(p_object, ''), p_level, p_detail, coalesce(p_remediation, ''))
  on conflict (check_name, object) where resolved_at is null
  do update
  set level = excluded.level,
    detail = excluded.detail,
    remediation = excluded.remediation,
    changed_at = case when alerts.level = excluded.level
      then alerts.changed_at else excluded.changed_at end
  where (alerts.level, alerts.detail, alerts.remediation)
    is distinct from (excluded.level, excluded.detail, excluded.remediation);

  return level_before is distinct from p_level;
end
$$;
--! EndIncluded functions/ops/raise_alert.sql
grant execute on function ops.raise_alert(text, text, text, text, text)
  to gw_worker, gw_cdc;
comment on function ops.raise_alert(text, text, text, text, text) is
  'Opens an alert, or brings the open one of this check and object up to date. Returns true when it is new or its level changed.';

--! Included functions/ops/resolve_alert.sql
-- Definer: see raise_alert().
create or replace function ops.resolve_alert(p_check_name text, p_object text default '')
returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with resolved as (
    update ops.alerts
    set resolved_at = now()
    where check_name = p_check_name
      and object = p_object
      and resolved_at is null
    returning 1
  )
  select exists (select from resolved)
$$;
--! EndIncluded functions/ops/resolve_alert.sql
grant execute on function ops.resolve_alert(text, text) to gw_worker, gw_cdc;
comment on function ops.resolve_alert(text, text) is
  'Closes the open alert of this check and object. Returns false when there is none.';
