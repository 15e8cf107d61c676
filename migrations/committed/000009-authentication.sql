--! Previous: sha1:a272c36db6ac8589a97a82a3f245dc7390c097a8
--! Hash: sha1:bf62a73fd0998fd07f7a087fd60e3885ffdae32f
--! Message: authentication
--! Baseline: topics/09-authentication.sql

/*
 * Passwords, sessions and tokens.
 *
 * Only the definer functions of this topic can read the hash of a password or of a
 * refresh token. The API signs access tokens and checks them without the database;
 * therefore the end of a session is announced to every API process.
 */

-- Password hashes, apart from users so that no grant on users can reach them. The count
-- of wrong passwords locks the account for a while. No policies and no grants: only
-- functions of the owner use the table.
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
  'Password hashes (bcrypt), and the number of recent wrong passwords.';

-- Sessions: one row for each sign-in. Each use of a refresh token replaces it. A token
-- that is used twice was copied, so the whole session ends. No policies and no grants:
-- only functions of the owner use the table.
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
  constraint sessions_revoked_check
    check ((revoked_at is null) = (revoked_reason is null)),
  constraint sessions_revoked_reason_check
    check (revoked_reason in ('logout', 'reuse', 'account'))
);

create unique index sessions_refresh_token_hash_key
  on app_private.sessions (refresh_token_hash);

create index sessions_revoked_at_idx_where_revoked on app_private.sessions (revoked_at)
  where revoked_at is not null;

create index sessions_expires_at_idx on app_private.sessions (expires_at);

alter table app_private.sessions enable row level security;

comment on table app_private.sessions is
  'Sessions of users. Holds the SHA-256 of the current refresh token, never the token.';

-- Refresh tokens that were replaced. When one of them is used again, somebody has a copy.
-- No policies and no grants: only functions of the owner use the table.
create table app_private.spent_refresh_tokens (
  user_id uuid not null,
  session_id uuid not null,
  refresh_token_hash bytea not null,
  spent_at timestamptz not null default now(),
  constraint spent_refresh_tokens_pkey
    primary key (user_id, session_id, refresh_token_hash),
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
  -- An API process that was disconnected reads recently_revoked_sessions() when it
  -- connects again, so no notification is lost.
  told as (
    select pg_notify('gw_session_revoked', revoked.id::text) from revoked
  )
  select count(*)::integer from told
$$;

comment on function app_private.revoke_sessions(uuid, uuid, text) is
  'Ends one session of a user, or all when the session is null, and notifies every API '
  'process. Returns how many ended.';
--! EndIncluded functions/app_private/revoke_sessions.sql
--! Included functions/app_private/tg_users__close.sql
-- Definer: the role that closes an account has no rights on sessions.
create or replace function app_private.tg_users__close() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform app_private.revoke_sessions(new.id, null, 'account');
  return null;
end
$$;

comment on function app_private.tg_users__close() is
  'Ends the sessions of a user whose account is closed.';
--! EndIncluded functions/app_private/tg_users__close.sql

-- The API turns a value of this type into a signed JWT, so it is a scalar in GraphQL.
create type app_public.access_token as (
  sub uuid,
  sid uuid,
  exp bigint
);

comment on type app_public.access_token is
  'A signed JWT, valid for 15 minutes. Send it in the header "Authorization: Bearer …".';
comment on column app_public.access_token.sub is 'Id of the user.';
comment on column app_public.access_token.sid is 'Id of the session.';
comment on column app_public.access_token.exp is
  'When the token expires, in seconds since 1970-01-01 UTC.';

-- The result of every function that signs in.
create type app_public.session_tokens as (
  user_id uuid,
  access_token app_public.access_token,
  refresh_token text,
  expires_at timestamptz
);

comment on type app_public.session_tokens is
  'The tokens with which a client acts as a user.';
comment on column app_public.session_tokens.user_id is
  E'@notNull\n'
  'The user who signed in.';
comment on column app_public.session_tokens.access_token is
  E'@notNull\n'
  'A signed JWT for the Authorization header, valid for 15 minutes.';
comment on column app_public.session_tokens.refresh_token is
  E'@notNull\n'
  'Token for refreshSession, which exchanges it once for new tokens. It expires at '
  'expiresAt.';
comment on column app_public.session_tokens.expires_at is
  E'@notNull\n'
  'When the refresh token expires: 30 days after it was issued.';

--! Included functions/app_private/hash_password.sql
create or replace function app_private.hash_password(p_password text) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_password is null or length(p_password) < 8 or octet_length(p_password) > 72 then
    raise exception 'a password has at least 8 characters and at most 72 bytes'
      using errcode = 'GW002', column = 'password';
  end if;
  return public.crypt(p_password, public.gen_salt('bf', 10));
end
$$;

comment on function app_private.hash_password(text) is
  'bcrypt hash of a password of 8 characters to 72 bytes; bcrypt ignores further bytes. '
  'Raises GW002 for other lengths.';
--! EndIncluded functions/app_private/hash_password.sql
--! Included functions/app_private/start_session.sql
create or replace function app_private.start_session(p_user_id uuid)
returns app_public.session_tokens
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  token text := encode(public.gen_random_bytes(32), 'hex');
  session app_private.sessions;
begin
  insert into app_private.sessions (user_id, refresh_token_hash, expires_at)
  values (p_user_id, sha256(convert_to(token, 'UTF8')), now() + interval '30 days')
  returning * into session;

  return row(
    p_user_id,
    row(p_user_id, session.id,
      extract(epoch from now() + interval '15 minutes')::bigint)::app_public.access_token,
    token,
    session.expires_at
  )::app_public.session_tokens;
end
$$;

comment on function app_private.start_session(uuid) is
  'Creates a session and its first tokens.';
--! EndIncluded functions/app_private/start_session.sql
--! Included functions/app_private/recently_revoked_sessions.sql
-- Definer: the API's login role cannot read sessions. No caller check: it returns only
-- ids.
create or replace function app_private.recently_revoked_sessions(p_ids uuid[] default null)
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select id
  from app_private.sessions
  where revoked_at > now() - interval '20 minutes'
    and (p_ids is null or id = any (p_ids))
$$;

grant execute on function app_private.recently_revoked_sessions(uuid[]) to gw_authenticator;
comment on function app_private.recently_revoked_sessions(uuid[]) is
  'Sessions, of these or of all, that were revoked while one of their access tokens may still be valid.';
--! EndIncluded functions/app_private/recently_revoked_sessions.sql
--! Included functions/app_public/continue_as_guest.sql
-- Definer, without a caller check, for the reasons of register().
create or replace function app_public.continue_as_guest(timezone text default 'UTC')
returns app_public.session_tokens
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  new_user_id uuid;
begin
  insert into app_public.users (is_guest, first_name, timezone)
  values (true, 'Guest', continue_as_guest.timezone)
  returning id into new_user_id;
  insert into app_public.user_settings (user_id) values (new_user_id);
  return app_private.start_session(new_user_id);
end
$$;

grant execute on function app_public.continue_as_guest(text) to app_anonymous;
comment on function app_public.continue_as_guest(text) is
  E'@notNull\n'
  'Creates an account without an e-mail and signs in. Keep the refresh token: no other '
  'way leads back to the account. Error: FOREIGN_KEY_VIOLATION (timezone).';
--! EndIncluded functions/app_public/continue_as_guest.sql
--! Included functions/app_public/upgrade_guest.sql
-- Definer: writes email, is_guest and the password hash, of the calling user only.
create or replace function app_public.upgrade_guest(
  email text, password text, first_name text, last_name text default ''
) returns app_public.users
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := app_hidden.current_app_user_id();
  hash text;
  upgraded app_public.users;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  hash := app_private.hash_password(password);

  update app_public.users
  set is_guest = false,
    email = trim(upgrade_guest.email),
    first_name = trim(upgrade_guest.first_name),
    last_name = trim(upgrade_guest.last_name)
  where users.id = caller
    and users.is_guest
    and users.deleted_at is null
  returning * into upgraded;
  if not found then
    raise exception 'this account already has an e-mail and a password'
      using errcode = 'GW003';
  end if;
  insert into app_private.user_secrets (user_id, password_hash) values (caller, hash);
  return upgraded;
end
$$;

grant execute on function app_public.upgrade_guest(text, text, text, text) to app_user;
comment on function app_public.upgrade_guest(text, text, text, text) is
  E'@notNull\n'
  'Gives a guest''s account an e-mail and a password, and keeps everything in the '
  'account. Errors: UNIQUE_VIOLATION (email), CHECK_VIOLATION (email, firstName, '
  'lastName), VALIDATION_FAILED (password), NOT_A_GUEST.';
--! EndIncluded functions/app_public/upgrade_guest.sql
--! Included functions/app_public/refresh_session.sql
-- Definer: reads sessions. No caller check: the token itself identifies the caller.
create or replace function app_public.refresh_session(refresh_token text)
returns app_public.session_tokens
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  given bytea := sha256(convert_to(refresh_token, 'UTF8'));
  next_token text := encode(public.gen_random_bytes(32), 'hex');
  session app_private.sessions;
begin
  -- Of two calls with one token, the second waits here, then finds the token spent.
  update app_private.sessions
  set refresh_token_hash = sha256(convert_to(next_token, 'UTF8')),
    last_used_at = now(),
    expires_at = now() + interval '30 days'
  where refresh_token_hash = given
    and revoked_at is null
    and expires_at > now()
    and exists (
      select from app_public.users
      where users.id = sessions.user_id
        and users.deleted_at is null
    )
  returning * into session;

  if found then
    insert into app_private.spent_refresh_tokens (user_id, session_id, refresh_token_hash)
    values (session.user_id, session.id, given);
    return row(
      session.user_id,
      row(session.user_id, session.id,
        extract(epoch from now() + interval '15 minutes')::bigint)::app_public.access_token,
      next_token,
      session.expires_at
    )::app_public.session_tokens;
  end if;

  -- The token was used before, so somebody has a copy. The owner and the thief cannot be
  -- told apart, so the session ends.
  perform app_private.revoke_sessions(spent.user_id, spent.session_id, 'reuse')
  from app_private.spent_refresh_tokens as spent
  where spent.refresh_token_hash = given;
  return null;
end
$$;

grant execute on function app_public.refresh_session(text) to app_anonymous, app_user;
comment on function app_public.refresh_session(text) is
  E'@notNull\n'
  'Exchanges a refresh token for new tokens. Each refresh token works once; using it '
  'again ends the session. Error: INVALID_REFRESH_TOKEN.';
--! EndIncluded functions/app_public/refresh_session.sql
--! Included functions/app_public/logout.sql
-- Definer: writes sessions, of the calling user only.
create or replace function app_public.logout(everywhere boolean default false)
returns integer
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := app_hidden.current_app_user_id();
  session_id uuid := nullif(current_setting('app.current_session_id', true), '')::uuid;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  if session_id is null and not everywhere then
    return 0;
  end if;
  return app_private.revoke_sessions(
    caller, case when not everywhere then session_id end, 'logout');
end
$$;

grant execute on function app_public.logout(boolean) to app_user;
comment on function app_public.logout(boolean) is
  'Ends the current session, or all sessions of the user when everywhere is true. '
  'Returns the number of sessions that ended. Their access tokens stop working too.';
--! EndIncluded functions/app_public/logout.sql
--! Included functions/app_public/viewer.sql
-- plpgsql, so that app_anonymous, which may not read users, gets null and no error.
create or replace function app_public.viewer() returns app_public.users
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  result app_public.users;
begin
  if app_hidden.current_app_user_id() is null then
    return null;
  end if;
  select users.* into result
  from app_public.users
  where users.id = app_hidden.current_app_user_id();
  if not found then
    return null;
  end if;
  return result;
end
$$;

grant execute on function app_public.viewer() to app_user, app_anonymous;
comment on function app_public.viewer() is
  'The signed-in user; null when nobody is signed in.';
--! EndIncluded functions/app_public/viewer.sql
--! Included functions/app_public/login.sql
-- Definer: reads password hashes. Every refusal returns null, after one bcrypt of the
-- same cost, so that neither the result nor the time shows the reason.
create or replace function app_public.login(email text, password text)
returns app_public.session_tokens
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- The hash of a random string that nobody knows.
  nobody constant text := '$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5B0x8A8Qv7lQ0i0m6G3nS3nq2mYyS';
  secret app_private.user_secrets;
  is_locked boolean;
  is_right boolean;
begin
  select user_secrets.* into secret
  from app_public.users
  inner join app_private.user_secrets on user_secrets.user_id = users.id
  where lower(users.email) = lower(trim(login.email))
    and users.deleted_at is null
  -- Parallel attempts on one account wait for each other, so that each is counted.
  for no key update of user_secrets;

  is_right := public.crypt(password, coalesce(secret.password_hash, nobody))
      = coalesce(secret.password_hash, '')
    and octet_length(password) <= 72;
  is_locked := secret.failed_attempts >= 20
    and secret.last_failed_at > now() - interval '15 minutes';

  if secret.user_id is null then
    return null;
  end if;
  if is_locked then
    return null;
  end if;
  if not is_right then
    update app_private.user_secrets
    set failed_attempts = case
        when last_failed_at > now() - interval '15 minutes' then failed_attempts + 1
        else 1
      end,
      last_failed_at = now()
    where user_id = secret.user_id;
    return null;
  end if;

  if secret.failed_attempts > 0 then
    update app_private.user_secrets
    set failed_attempts = 0, last_failed_at = null
    where user_id = secret.user_id;
  end if;

  -- The account may have been closed since the first statement.
  update app_public.users
  set last_login_at = now()
  where users.id = secret.user_id
    and users.deleted_at is null;
  if not found then
    return null;
  end if;
  return app_private.start_session(secret.user_id);
end
$$;

grant execute on function app_public.login(text, text) to app_anonymous, app_user;
comment on function app_public.login(text, text) is
  E'@notNull\n'
  'Signs in with e-mail and password. Error: INVALID_CREDENTIALS, also for 15 minutes '
  'after 20 wrong passwords. An unknown e-mail gets the same error after the same time.';
--! EndIncluded functions/app_public/login.sql
--! Included functions/app_public/register.sql
-- Definer: no role of the API may insert users, secrets or sessions. No caller check:
-- anyone may register, and only a new account is written.
create or replace function app_public.register(
  email text, password text, first_name text,
  last_name text default '', timezone text default 'UTC'
) returns app_public.session_tokens
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Hashed first, so that a taken e-mail and a free one cost the same time.
  hash text := app_private.hash_password(password);
  new_user_id uuid;
begin
  insert into app_public.users (email, first_name, last_name, timezone, last_login_at)
  values (trim(register.email), trim(register.first_name), trim(register.last_name),
    register.timezone, now())
  returning id into new_user_id;
  insert into app_private.user_secrets (user_id, password_hash) values (new_user_id, hash);
  insert into app_public.user_settings (user_id) values (new_user_id);
  return app_private.start_session(new_user_id);
end
$$;

grant execute on function app_public.register(text, text, text, text, text)
  to app_anonymous, app_user;
comment on function app_public.register(text, text, text, text, text) is
  E'@notNull\n'
  'Creates an account and signs in. Errors: UNIQUE_VIOLATION (email), CHECK_VIOLATION '
  '(email, firstName, lastName), FOREIGN_KEY_VIOLATION (timezone), VALIDATION_FAILED '
  '(password).';
--! EndIncluded functions/app_public/register.sql

create trigger _500_close after update of deleted_at on app_public.users
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function app_private.tg_users__close();
