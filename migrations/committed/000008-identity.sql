--! Previous: sha1:efab6e973c896381d90f3a5aae62774108dddb88
--! Hash: sha1:a272c36db6ac8589a97a82a3f245dc7390c097a8
--! Message: identity
--! Baseline: topics/08-identity.sql

/*
 * Users and their preferences.
 *
 * Almost every table of app_public has a user_id that refers to users: a user is the
 * tenant that row-level security separates.
 */

--! Included functions/app_private/tg_users__timezone.sql
-- Browsers and people write names in any case. A name that is an old link, such as
-- Asia/Calcutta, stays what the user chose.
create or replace function app_private.tg_users__timezone() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  spelling text;
begin
  if tg_op = 'UPDATE' and new.timezone = old.timezone then
    return new;
  end if;
  select timezones.name
  into spelling
  from app_hidden.timezones
  where lower(timezones.name) = lower(new.timezone)
  order by timezones.name <> new.timezone
  limit 1;
  if spelling is not null and app_hidden.known_zone(spelling) is null then
    raise exception 'the server does not know the time zone % any more', spelling
      using errcode = 'foreign_key_violation', constraint = 'users_timezone_fkey',
        schema = tg_table_schema, table = tg_table_name,
        hint = 'Choose another name of the same zone.';
  end if;
  -- A name that is not in the list is refused by the foreign key.
  new.timezone := coalesce(spelling, new.timezone);
  return new;
end
$$;

comment on function app_private.tg_users__timezone() is
  'Stores a time zone in the server''s spelling.';
--! EndIncluded functions/app_private/tg_users__timezone.sql

-- Users, registered or guests. A guest has no e-mail until upgrade_guest(). Closing an
-- account sets deleted_at and keeps the row: the e-mail can be used again, and messages
-- that were sent can still be explained.
--
-- The row stores the local rule of a message (date, send_time, timezone), not an instant,
-- because the rules of time zones change and people move.
create table app_public.users (
  id uuid not null default gen_random_uuid(),
  email text,
  email_verified boolean not null default false,
  is_guest boolean not null default false,
  first_name text not null,
  last_name text not null default '',
  timezone text not null default 'UTC',
  birthday_date date,
  anniversary_date date,
  send_time time not null default '09:00',
  leap_day_policy text not null default 'feb28',
  location_city text,
  location_country text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_login_at timestamptz,
  deleted_at timestamptz,
  constraint users_pkey primary key (id),
  constraint users_timezone_fkey
    foreign key (timezone) references app_hidden.timezones (name),
  constraint users_email_check
    check (length(email) <= 254 and email ~ '^[^@\s[:cntrl:]]+@[^@\s[:cntrl:]]+\.[^@\s[:cntrl:]]+$'),
  constraint users_guest_email_check check (is_guest = (email is null)),
  constraint users_first_name_check
    check (length(first_name) between 1 and 100
      and first_name !~ '[[:cntrl:]\u200e\u200f\u2028-\u202e\u2066-\u2069]'
      and first_name ~ '[^[:space:]]'),
  constraint users_last_name_check
    check (length(last_name) <= 100
      and last_name !~ '[[:cntrl:]\u200e\u200f\u2028-\u202e\u2066-\u2069]'),
  constraint users_birthday_date_check
    check (birthday_date between date '1604-01-01' and date '2200-01-01'
      and birthday_date not between date '1605-01-01' and date '1904-12-31'),
  constraint users_anniversary_date_check
    check (anniversary_date between date '1604-01-01' and date '2200-01-01'),
  constraint users_send_time_check check (send_time < time '24:00'),
  constraint users_leap_day_policy_check
    check (leap_day_policy in ('feb28', 'mar1', 'skip')),
  -- Its local day exists in every time zone.
  constraint users_created_at_check
    check (created_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z'),
  constraint users_location_city_check check (length(location_city) <= 100),
  constraint users_location_country_check check (length(location_country) <= 100)
);

-- Unique among open accounts, without regard to case.
create unique index users_email_key_where_open on app_public.users (lower(email))
  where deleted_at is null;

-- For people who ask whose birthday or anniversary a day of the year is, whatever the
-- year. Planning does not need them: it reads message_schedule.
create index users_birthday_idx_where_open
  on app_public.users (app_hidden.month_day(birthday_date), timezone)
  where deleted_at is null and birthday_date is not null;

create index users_anniversary_idx_where_open
  on app_public.users (app_hidden.month_day(anniversary_date), timezone)
  where deleted_at is null and anniversary_date is not null;

create index users_timezone_idx on app_public.users (timezone);

create index users_created_at_idx on app_public.users (created_at);

alter table app_public.users enable row level security;

create policy own on app_public.users
  for all to app_user
  using (id = app_hidden.current_app_user_id() and deleted_at is null)
  with check (id = app_hidden.current_app_user_id());

create policy everyone on app_public.users
  for select to gw_readonly
  using (true);

-- No insert: register() and continue_as_guest() do that. No delete: setting deleted_at
-- closes an account, and no user may set it. No update of email and is_guest:
-- upgrade_guest() sets them together with a password.
grant select,
  update (first_name, last_name, timezone, birthday_date, anniversary_date, send_time,
    leap_day_policy, location_city, location_country)
  on app_public.users to app_user;

grant select on app_public.users to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.users
  for each row execute function app_private.tg__timestamps();

create trigger _200_timezone before insert or update of timezone on app_public.users
  for each row execute function app_private.tg_users__timezone();

comment on table app_public.users is
  E'@behavior -insert -delete\n'
  'A person with an account, or a guest. You see only your own user.';
comment on column app_public.users.id is 'Id of the user; never changes.';
comment on column app_public.users.email is
  'E-mail address to sign in with, at most 254 characters, unique without regard to '
  'case. Null for a guest.';
comment on column app_public.users.email_verified is
  'Whether the owner of the e-mail address has confirmed it; false by default. No '
  'mutation changes it.';
comment on column app_public.users.is_guest is
  'Whether this is a guest: true until upgradeGuest gives the account an e-mail and a '
  'password.';
comment on column app_public.users.first_name is 'Given name, 1 to 100 characters.';
comment on column app_public.users.last_name is
  'Family name, at most 100 characters; empty by default.';
comment on column app_public.users.timezone is
  'IANA name of the user''s time zone, such as Asia/Kathmandu, in any case; UTC by '
  'default.';
comment on column app_public.users.birthday_date is
  'Date of birth, from 1604-01-01 to 2200-01-01; null when not given. The year 1604 '
  'means that the year is unknown.';
comment on column app_public.users.anniversary_date is
  'Date of the anniversary, from 1604-01-01 to 2200-01-01; null when not given. The year '
  '1604 means that the year is unknown.';
comment on column app_public.users.send_time is
  'Local time of day at which birthday and anniversary messages are sent; 09:00 by '
  'default.';
comment on column app_public.users.leap_day_policy is
  'How February 29 is celebrated in a year without it: feb28 (the day before, the '
  'default), mar1 (the day after) or skip (not at all).';
comment on column app_public.users.location_city is
  'City, as free text of at most 100 characters; null when not given.';
comment on column app_public.users.location_country is
  'Country, as free text of at most 100 characters; null when not given.';
comment on column app_public.users.created_at is 'When the account was created.';
comment on column app_public.users.updated_at is
  'When the account last changed. Signing in with e-mail and password changes it too.';
comment on column app_public.users.last_login_at is
  'When the user last signed in with e-mail and password, or registered; null before the '
  'first time.';
comment on column app_public.users.deleted_at is
  'When the account was closed; null while it is open.';
comment on constraint users_email_check on app_public.users is
  'an e-mail address looks like name@example.com and has at most 254 characters';
comment on constraint users_first_name_check on app_public.users is
  'a first name has 1 to 100 characters, in one line';
comment on constraint users_last_name_check on app_public.users is
  'a last name has at most 100 characters, in one line';
comment on constraint users_birthday_date_check on app_public.users is
  'a birthday is between 1905 and 2200, or in 1604 when the year is not known';
comment on constraint users_anniversary_date_check on app_public.users is
  'an anniversary lies between 1604-01-01 and 2200-01-01';
comment on constraint users_send_time_check on app_public.users is
  'a time of day is before 24:00';
comment on constraint users_leap_day_policy_check on app_public.users is
  E'@enum LeapDayPolicy\n'
  '@value feb28 On 28 February.\n'
  '@value mar1 On 1 March.\n'
  '@value skip Only in leap years.\n'
  'a leap day is kept on feb28 or mar1, or is skipped (skip)';
comment on constraint users_location_city_check on app_public.users is
  'a city has at most 100 characters';
comment on constraint users_location_country_check on app_public.users is
  'a country has at most 100 characters';
comment on index app_public.users_email_key_where_open is 'this e-mail address is taken';

-- Preferences, one row for each user, created with the user. The time zone is a column
-- of users instead, because the time of every message depends on it.
create table app_public.user_settings (
  user_id uuid not null default app_hidden.current_app_user_id(),
  theme text not null default 'system',
  week_starts_on smallint not null default 1,
  default_task_priority text not null default 'medium',
  birthday_messages boolean not null default true,
  anniversary_messages boolean not null default true,
  weekly_digest boolean not null default true,
  locale text not null default 'en',
  quiet_from time,
  quiet_until time,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint user_settings_pkey primary key (user_id),
  constraint user_settings_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint user_settings_theme_check check (theme in ('system', 'light', 'dark')),
  constraint user_settings_week_starts_on_check check (week_starts_on between 1 and 7),
  constraint user_settings_default_task_priority_check
    check (default_task_priority in ('low', 'medium', 'high', 'urgent')),
  constraint user_settings_locale_check
    check (locale ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?$'),
  constraint user_settings_quiet_check check (
    (quiet_from is null) = (quiet_until is null) and quiet_from <> quiet_until
    and quiet_from < time '24:00' and quiet_until < time '24:00')
);

-- The languages that people have, one after the other.
create index user_settings_locale_idx_where_foreign
  on app_public.user_settings (locale) where locale <> 'en';

alter table app_public.user_settings enable row level security;

create policy own on app_public.user_settings
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.user_settings
  for select to gw_readonly
  using (true);

-- No insert, no delete: the row is created and deleted with the user.
grant select,
  update (theme, week_starts_on, default_task_priority, birthday_messages,
    anniversary_messages, weekly_digest, locale, quiet_from, quiet_until)
  on app_public.user_settings to app_user;

grant select on app_public.user_settings to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.user_settings
  for each row execute function app_private.tg__timestamps();

comment on table app_public.user_settings is
  E'@behavior -insert -delete\nThe preferences of a user; each account has one row.';
comment on column app_public.user_settings.user_id is
  'The user who has these preferences.';
comment on column app_public.user_settings.theme is
  'Color theme: system (the default), light or dark.';
comment on column app_public.user_settings.week_starts_on is
  'First day of the week as an ISO number, from 1 (Monday, the default) to 7 (Sunday).';
comment on column app_public.user_settings.default_task_priority is
  'Priority that a client suggests for a new task: low, medium (the default), high or '
  'urgent. createTask does not read it.';
comment on column app_public.user_settings.birthday_messages is
  'Whether a message is sent on the birthday; true by default.';
comment on column app_public.user_settings.anniversary_messages is
  'Whether a message is sent on the anniversary; true by default.';
comment on column app_public.user_settings.weekly_digest is
  'Whether a digest of the previous week is sent on Monday at 08:00 local time; true by '
  'default.';
comment on column app_public.user_settings.locale is
  'Language of messages, such as en (the default) or pt-BR. A message that has no text '
  'in this language is sent in English.';
comment on column app_public.user_settings.quiet_from is
  'Local time at which the quiet hours begin; no message is sent until they end. Null, '
  'like quietUntil, when there are no quiet hours.';
comment on column app_public.user_settings.quiet_until is
  'Local time at which the quiet hours end and held messages are sent. When it is '
  'earlier than quietFrom, it is on the next day.';
comment on column app_public.user_settings.created_at is
  'When the preferences were created.';
comment on column app_public.user_settings.updated_at is
  'When the preferences last changed.';
comment on constraint user_settings_theme_check on app_public.user_settings is
  E'@enum Theme\n'
  '@value system As the device has it.\n'
  '@value light Dark on light.\n'
  '@value dark Light on dark.\n'
  'a theme is system, light or dark';
comment on constraint user_settings_week_starts_on_check on app_public.user_settings is
  'a week starts on a day from 1 (Monday) to 7 (Sunday)';
comment on constraint user_settings_default_task_priority_check on app_public.user_settings is
  E'@enum TaskPriority\n'
  'a priority is low, medium, high or urgent';
comment on constraint user_settings_locale_check on app_public.user_settings is
  'a locale looks like en, en-GB or zh-Hant';
comment on constraint user_settings_quiet_check on app_public.user_settings is
  'quiet hours have a beginning and an end, which differ and are before 24:00';
