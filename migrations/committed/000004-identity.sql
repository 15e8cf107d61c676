--! Previous: sha1:74758f897cf43a3324ef546a8c14d2d2e2af563b
--! Hash: sha1:7043f02e055b6da413a52f6720bc14473414e96c
--! Message: identity

--! split: 0001-x.sql
/*
 * Who uses the system: time zones, users, their settings, their secrets, their sessions.
 *
 * Locks: none on existing tables.
 */

-- The zones that a user may live in. A pattern cannot tell: America/Argentina/Buenos_Aires
-- and UTC are zones, Mars/Olympus_Mons is not. Filled from the server's own tzdata.
create table app_hidden.timezones (
  name text not null,
  constraint timezones_pkey primary key (name)
);

grant select on app_hidden.timezones to app_user, app_anonymous, gw_readonly;

comment on table app_hidden.timezones is
  'IANA time zones that this server''s tzdata knows. Kept by app_hidden.sync_timezones().';

--! Included functions/app_hidden/sync_timezones.sql
create or replace function app_hidden.sync_timezones() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with added as (
    insert into app_hidden.timezones (name)
    select pg_timezone_names.name
    from pg_catalog.pg_timezone_names
    -- Copies and pseudo-zones that some systems ship beside the real ones.
    where pg_timezone_names.name !~ '^(posix|right)/'
      and pg_timezone_names.name not in ('Factory', 'localtime', 'posixrules')
    order by pg_timezone_names.name
    on conflict do nothing
    returning 1
  )
  select count(*)::integer from added
$$;
--! EndIncluded functions/app_hidden/sync_timezones.sql
comment on function app_hidden.sync_timezones() is
  'Adds zones that a tzdata update brought. Removes none: a user may live there.';

select app_hidden.sync_timezones();

insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('sync-timezones', '5 4 * * *', 'select app_hidden.sync_timezones()',
    'A tzdata update may bring zones.');

--! Included functions/app_hidden/month_day.sql
create or replace function app_hidden.month_day(p_date date) returns integer
language sql immutable strict parallel safe
as $$
  select (pg_catalog.date_part('month', p_date) * 100
    + pg_catalog.date_part('day', p_date))::integer
$$;
--! EndIncluded functions/app_hidden/month_day.sql
grant execute on function app_hidden.month_day(date) to app_user, gw_readonly;
comment on function app_hidden.month_day(date) is
  'Month and day as one number, 229 for February 29: what a yearly date is found by.';

-- People. A guest has no e-mail until upgrade_guest(). Deleting is soft, so that the
-- e-mail is free again and messages already sent can still be explained.
--
-- When a message goes out is the local rule (date, send_time, timezone), never a stored
-- instant, because zones' rules change and people move.
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
  deleted_at timestamptz,
  constraint users_pkey primary key (id),
  constraint users_timezone_fkey
    foreign key (timezone) references app_hidden.timezones (name),
  constraint users_email_check
    check (length(email) <= 254 and email ~ '^[^@\s[:cntrl:]]+@[^@\s[:cntrl:]]+\.[^@\s[:cntrl:]]+$'),
  constraint users_guest_email_check check (is_guest = (email is null)),
  constraint users_first_name_check
    check (length(first_name) between 1 and 100 and first_name !~ '[[:cntrl:]]'),
  constraint users_last_name_check
    check (length(last_name) <= 100 and last_name !~ '[[:cntrl:]]'),
  constraint users_birthday_date_check
    check (birthday_date between date '1604-01-01' and date '2200-01-01'),
  constraint users_anniversary_date_check
    check (anniversary_date between date '1604-01-01' and date '2200-01-01'),
  constraint users_send_time_check check (send_time < time '24:00'),
  constraint users_leap_day_policy_check
    check (leap_day_policy in ('feb28', 'mar1', 'skip')),
  constraint users_location_city_check check (length(location_city) <= 100),
  constraint users_location_country_check check (length(location_country) <= 100)
);

-- Unique among those who have not left, whatever the letters' case.
create unique index users_email_key on app_public.users (lower(email))
  where deleted_at is null;
-- The planner looks for the day of the year, not for the year of birth.
create index users_birthday_idx
  on app_public.users (app_hidden.month_day(birthday_date), timezone)
  where deleted_at is null and birthday_date is not null;
create index users_anniversary_idx
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
-- No insert: register() and continue_as_guest() do it. No delete: an account is closed by
-- setting deleted_at, which is not the user's to write.
-- No update of email, is_guest: those change with a password's knowledge.
grant select on app_public.users to app_user;
grant update (first_name, last_name, timezone, birthday_date, anniversary_date,
  send_time, leap_day_policy, location_city, location_country)
  on app_public.users to app_user;
grant select on app_public.users to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.users
  for each row execute function app_private.tg__timestamps();

comment on table app_public.users is
  E'@behavior -insert -delete\nA person who uses the system. You see yourself only.';
comment on column app_public.users.id is 'Never changes.';
comment on column app_public.users.email is
  'Address to sign in with, unique without regard to case. Null for guests.';
comment on column app_public.users.email_verified is
  'Whether the owner of the address has confirmed it.';
comment on column app_public.users.is_guest is
  'True until upgradeGuest gives the account an e-mail and a password.';
comment on column app_public.users.first_name is 'Given name, 1 to 100 characters.';
comment on column app_public.users.last_name is 'Family name, at most 100 characters.';
comment on column app_public.users.timezone is
  'IANA name of the time zone where the user lives, such as Asia/Kathmandu.';
comment on column app_public.users.birthday_date is
  'Date of birth. The year 1604 means that the year is not known.';
comment on column app_public.users.anniversary_date is
  'Date of the anniversary. The year 1604 means that the year is not known.';
comment on column app_public.users.send_time is
  'Local time of day at which messages are sent; 09:00 unless changed.';
comment on column app_public.users.leap_day_policy is
  'When February 29 is celebrated in other years: feb28, mar1, or skip.';
comment on column app_public.users.location_city is 'City, as the user writes it.';
comment on column app_public.users.location_country is 'Country, as the user writes it.';
comment on column app_public.users.created_at is 'When the account was made.';
comment on column app_public.users.updated_at is 'When the row last changed.';
comment on column app_public.users.deleted_at is 'When the account was closed; null while open.';

-- One row a user, made with the user. The time zone is a column of users, because every
-- message's instant hangs on it.
create table app_public.user_settings (
  user_id uuid not null default app_hidden.current_app_user_id(),
  theme text not null default 'system',
  week_starts_on smallint not null default 1,
  default_task_priority text not null default 'medium',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint user_settings_pkey primary key (user_id),
  constraint user_settings_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint user_settings_theme_check check (theme in ('system', 'light', 'dark')),
  constraint user_settings_week_starts_on_check check (week_starts_on between 1 and 7),
  constraint user_settings_default_task_priority_check
    check (default_task_priority in ('low', 'medium', 'high', 'urgent'))
);

alter table app_public.user_settings enable row level security;
create policy own on app_public.user_settings
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.user_settings
  for select to gw_readonly
  using (true);
-- No insert, no delete: the row lives as long as the user.
grant select on app_public.user_settings to app_user, gw_readonly;
grant update (theme, week_starts_on, default_task_priority)
  on app_public.user_settings to app_user;

create trigger _100_timestamps before insert or update on app_public.user_settings
  for each row execute function app_private.tg__timestamps();

comment on table app_public.user_settings is
  E'@behavior -insert -delete\nA user''s preferences.';
comment on column app_public.user_settings.user_id is 'Whose preferences these are.';
comment on column app_public.user_settings.theme is 'system, light or dark.';
comment on column app_public.user_settings.week_starts_on is
  'First day of the week, by ISO number: 1 Monday to 7 Sunday.';
comment on column app_public.user_settings.default_task_priority is
  'Priority that new tasks start with: low, medium, high or urgent.';
comment on column app_public.user_settings.created_at is 'When the row was made.';
comment on column app_public.user_settings.updated_at is 'When the row last changed.';

-- What nobody but the sign-in functions may read.
create table app_private.user_secrets (
  user_id uuid not null,
  password_hash text not null,
  failed_attempts smallint not null default 0,
  last_failed_at timestamptz,
  updated_at timestamptz not null default now(),
  constraint user_secrets_pkey primary key (user_id),
  constraint user_secrets_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint user_secrets_password_hash_check check (password_hash like '$2_$__$%')
);

alter table app_private.user_secrets enable row level security;

comment on table app_private.user_secrets is
  'bcrypt hashes, and how often a wrong password was given lately.';

-- A sign-in. Its refresh tokens form a family: each use replaces the token, and a token
-- used twice shows that it was stolen, so that the whole session ends.
create table app_private.sessions (
  id uuid not null default gen_random_uuid(),
  user_id uuid not null,
  refresh_token_hash bytea not null,
  created_at timestamptz not null default now(),
  last_used_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  revoked_reason text,
  constraint sessions_pkey primary key (user_id, id),
  constraint sessions_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint sessions_refresh_token_hash_check check (length(refresh_token_hash) = 32),
  constraint sessions_revoked_check check ((revoked_at is null) = (revoked_reason is null)),
  constraint sessions_revoked_reason_check
    check (revoked_reason in ('logout', 'reuse', 'account'))
);

create unique index sessions_refresh_token_hash_key
  on app_private.sessions (refresh_token_hash);
create index sessions_revoked_at_idx on app_private.sessions (revoked_at)
  where revoked_at is not null;
create index sessions_expires_at_idx on app_private.sessions (expires_at);

alter table app_private.sessions enable row level security;

comment on table app_private.sessions is
  'Sign-ins. Holds the SHA-256 of the current refresh token, never the token.';

-- Tokens that were replaced; one of them coming back is how theft is noticed.
create table app_private.spent_refresh_tokens (
  user_id uuid not null,
  session_id uuid not null,
  refresh_token_hash bytea not null,
  spent_at timestamptz not null default now(),
  constraint spent_refresh_tokens_pkey primary key (user_id, session_id, refresh_token_hash),
  constraint spent_refresh_tokens_session_fkey foreign key (user_id, session_id)
    references app_private.sessions (user_id, id) on delete cascade
);

create unique index spent_refresh_tokens_refresh_token_hash_key
  on app_private.spent_refresh_tokens (refresh_token_hash);

alter table app_private.spent_refresh_tokens enable row level security;

comment on table app_private.spent_refresh_tokens is
  'SHA-256 of refresh tokens that were exchanged for newer ones.';

--! Included functions/app_private/revoke_sessions.sql
create or replace function app_private.revoke_sessions(
  p_user_id uuid, p_session_id uuid, p_reason text
) returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with revoked as (
    update app_private.sessions
    set revoked_at = now(), revoked_reason = p_reason
    where user_id = p_user_id
      and (p_session_id is null or id = p_session_id)
      and revoked_at is null
    returning id
  ),
  -- An API process forgets nothing that was sent: on reconnecting it reads
  -- recently_revoked_sessions().
  told as (
    select pg_notify('gw_session_revoked', revoked.id::text) from revoked
  )
  select count(*)::integer from told
$$;
--! EndIncluded functions/app_private/revoke_sessions.sql
comment on function app_private.revoke_sessions(uuid, uuid, text) is
  'Ends one session of a user, or all when the session is null; tells every API process.';

--! Included functions/app_private/tg_users__close.sql
-- Definer: whoever may close an account has no right to its sessions.
create or replace function app_private.tg_users__close() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform app_private.revoke_sessions(new.id, null, 'account');
  return null;
end
$$;
--! EndIncluded functions/app_private/tg_users__close.sql
comment on function app_private.tg_users__close() is
  'Closing an account ends its sessions.';

create trigger _500_close after update of deleted_at on app_public.users
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function app_private.tg_users__close();

--! Included functions/app_private/delete_expired_sessions.sql
create or replace function app_private.delete_expired_sessions() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with deleted as (
    delete from app_private.sessions
    where expires_at < now() - interval '7 days'
    returning 1
  )
  select count(*)::integer from deleted
$$;
--! EndIncluded functions/app_private/delete_expired_sessions.sql
comment on function app_private.delete_expired_sessions() is
  'Deletes sessions that ended more than a week ago. Returns how many.';

insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('delete-expired-sessions', '29 3 * * *',
    'select app_private.delete_expired_sessions()',
    'Sessions are of no use a week after they ended.');
