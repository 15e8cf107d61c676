--! Previous: sha1:4673cfea361fa053fd04c84458733fa0e0d335fd
--! Hash: sha1:efab6e973c896381d90f3a5aae62774108dddb88
--! Message: time
--! Baseline: topics/07-time.sql

/*
 * Time zones, and the conversion of local times to instants.
 *
 * AT TIME ZONE in PostgreSQL takes the later instant when a local time occurs twice.
 * People expect the earlier one, so these functions follow "compatible" of TC39 Temporal.
 */

--! Included functions/app_hidden/month_day.sql
create or replace function app_hidden.month_day(p_date date) returns integer
language sql immutable strict parallel safe
as $$
  select (pg_catalog.date_part('month', p_date) * 100
    + pg_catalog.date_part('day', p_date))::integer
$$;

grant execute on function app_hidden.month_day(date) to app_user, gw_readonly;
comment on function app_hidden.month_day(date) is
  'Month and day as one number: 229 for February 29. Yearly dates are found by it.';
--! EndIncluded functions/app_hidden/month_day.sql

-- The time zones that a user may choose. A CHECK with a pattern cannot decide this:
-- America/Argentina/Buenos_Aires and UTC are zones, Mars/Olympus_Mons is not. The rows
-- come from the server's own tzdata. No RLS: the rows belong to no user.
create table app_hidden.timezones (
  name text not null,
  constraint timezones_pkey primary key (name)
);

-- No write: sync_timezones() fills the table.
grant select on app_hidden.timezones to app_user, app_anonymous, gw_readonly;

comment on table app_hidden.timezones is
  'IANA time zones that the server''s tzdata has, or once had. Filled by app_hidden.sync_timezones().';

-- Names are found in any case.
create index timezones_name_lower_idx on app_hidden.timezones (lower(name));

--! Included functions/app_hidden/sync_timezones.sql
create or replace function app_hidden.sync_timezones() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with added as (
    insert into app_hidden.timezones (name)
    select pg_timezone_names.name
    from pg_catalog.pg_timezone_names
    -- Some systems ship copies and pseudo-zones beside the real zones.
    where pg_timezone_names.name !~ '^(posix|right)/'
      and pg_timezone_names.name not in ('Factory', 'localtime', 'posixrules')
    order by pg_timezone_names.name
    on conflict do nothing
    returning 1
  )
  select count(*)::integer from added
$$;

comment on function app_hidden.sync_timezones() is
  'Adds the zones of a newer tzdata and returns how many. Removes none, because a user '
  'may live there; known_timezones tells which ones the server knows.';
--! EndIncluded functions/app_hidden/sync_timezones.sql

select app_hidden.sync_timezones();

--! Included functions/app_hidden/known_zone.sql
-- The server knows the zones of its own tzdata. A restore elsewhere, or an update that
-- moves old names into another package, takes zones away, and then AT TIME ZONE raises an
-- error for the whole statement. So whoever reads many users' zones asks here first.
--
-- Without SET, and no statement of its own: it is called for each message.
create or replace function app_hidden.known_zone(p_zone text) returns text
language plpgsql stable strict
as $$
begin
  return case when pg_catalog.timezone(p_zone, pg_catalog.now()) is not null then p_zone end;
exception when invalid_parameter_value then
  return null;
end
$$;

grant execute on function app_hidden.known_zone(text) to app_user, gw_readonly;
comment on function app_hidden.known_zone(text) is
  'The name of a time zone, or null when the server does not know it at this moment.';
--! EndIncluded functions/app_hidden/known_zone.sql

-- What reads the zones of many users joins this view, so that a zone that is unknown sets
-- aside its users, and does not raise an error for all.
create view app_hidden.known_timezones with (security_invoker = true) as
select timezones.name
from app_hidden.timezones
where app_hidden.known_zone(timezones.name) is not null;

grant select on app_hidden.known_timezones to gw_readonly;

comment on view app_hidden.known_timezones is
  'The zones that the server knows at this moment.';

--! Included functions/app_hidden/earlier_instant.sql
-- The earlier instant uses the offset from before the clock was put back. The function
-- takes the offset of some hours before, and accepts the instant when it reads as the
-- same local time. It tries several distances, because transitions can be close together.
create or replace function app_hidden.earlier_instant(p_local timestamp, p_zone text)
returns timestamptz
language sql stable strict parallel safe
as $$
  select least(later.instant, min(earlier.instant)
    filter (where earlier.instant at time zone p_zone = p_local))
  from (select p_local at time zone p_zone) as later (instant)
  cross join (values (interval '1 hour'), ('4 hours'), ('12 hours'), ('26 hours'))
    as probe (distance)
  cross join lateral (select later.instant - probe.distance) as before (instant)
  cross join lateral (
    select (p_local - (before.instant at time zone p_zone - before.instant at time zone 'UTC'))
      at time zone 'UTC'
  ) as earlier (instant)
  group by later.instant
$$;

grant execute on function app_hidden.earlier_instant(timestamp, text)
  to app_user, gw_readonly;
comment on function app_hidden.earlier_instant(timestamp, text) is
  'The earlier of two instants with the same local time. The slow part of '
  'local_to_instant().';
--! EndIncluded functions/app_hidden/earlier_instant.sql
--! Included functions/app_hidden/local_to_instant.sql
-- AT TIME ZONE already uses the offset before a gap. Only in an overlap it returns the
-- wrong one, the later of two instants. An overlap follows a change of the clock, and
-- then the local time 26 hours earlier is not 26 hours less: only then is the slow
-- function called. Neither strict nor with SET, so that PostgreSQL inlines it.
create or replace function app_hidden.local_to_instant(p_local timestamp, p_zone text)
returns timestamptz
language sql stable parallel safe
as $$
  select case
    when ((p_local at time zone p_zone) - interval '26 hours') at time zone p_zone
      = p_local - interval '26 hours'
    then p_local at time zone p_zone
    else app_hidden.earlier_instant(p_local, p_zone)
  end
$$;

grant execute on function app_hidden.local_to_instant(timestamp, text)
  to app_user, gw_readonly;
comment on function app_hidden.local_to_instant(timestamp, text) is
  'The instant of a local time in an IANA zone. In a gap it uses the offset before the '
  'gap; in an overlap it is the earlier instant (TC39 Temporal''s "compatible").';
--! EndIncluded functions/app_hidden/local_to_instant.sql
--! Included functions/app_hidden/occurrence_in_year.sql
-- Not strict, so that PostgreSQL inlines it.
create or replace function app_hidden.occurrence_in_year(
  p_date date, p_year integer, p_leap_day_policy text
) returns date
language sql immutable parallel safe
as $$
  select case
    when app_hidden.month_day(p_date) <> 229
      or pg_catalog.date_part('day', pg_catalog.make_date(p_year, 3, 1) - 1) = 29
    then pg_catalog.make_date(p_year, pg_catalog.date_part('month', p_date)::integer,
      pg_catalog.date_part('day', p_date)::integer)
    when p_leap_day_policy = 'feb28' then pg_catalog.make_date(p_year, 2, 28)
    when p_leap_day_policy = 'mar1' then pg_catalog.make_date(p_year, 3, 1)
  end
$$;

grant execute on function app_hidden.occurrence_in_year(date, integer, text)
  to app_user, gw_readonly;
comment on function app_hidden.occurrence_in_year(date, integer, text) is
  'The day on which a yearly date is celebrated in a year; null for February 29 when the '
  'policy is skip and the year has no February 29.';
--! EndIncluded functions/app_hidden/occurrence_in_year.sql
--! Included functions/app_hidden/quiet_until.sql
-- Quiet hours may span midnight, such as 22:00 to 07:00: before midnight they end on the
-- next day. When the clock is put back, the local end may occur twice. If the first
-- occurrence is in the past, the second is returned, because a message that is held until
-- a past instant would be due at once and held again.
create or replace function app_hidden.quiet_until(
  p_at timestamptz, p_zone text, p_from time, p_until time
) returns timestamptz
language sql stable strict parallel safe
as $$
  select case
    when app_hidden.local_to_instant(quiet.until, p_zone) > p_at
    then app_hidden.local_to_instant(quiet.until, p_zone)
    else quiet.until at time zone p_zone
  end
  from (select p_at at time zone p_zone) as here (now)
  cross join lateral (
    select case
      when here.now::time >= p_from and (here.now::time < p_until or p_until < p_from)
      then here.now::date + p_until
        + case when p_until < p_from then interval '1 day' else interval '0' end
      when here.now::time < p_until and p_until < p_from
      then here.now::date + p_until
    end
  ) as quiet (until)
$$;

grant execute on function app_hidden.quiet_until(timestamptz, text, time, time)
  to gw_readonly;
comment on function app_hidden.quiet_until(timestamptz, text, time, time) is
  'When the quiet hours around an instant end; null when the instant is outside quiet '
  'hours.';
--! EndIncluded functions/app_hidden/quiet_until.sql
