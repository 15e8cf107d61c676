--! Previous: sha1:995668bb38204a207c389828a64492ad3bd9caa9
--! Hash: sha1:2c6241ef6aa29b85ac525e36a54d9ed92b2e8553
--! Message: last-login

--! split: 0001-last-login.sql
/*
 * When a user last signed in, which tells an account in use from one that was left. And
 * loaders, such as gw seed or a move from another system, may bring created_at and updated_at
 * along: a history that is all of today fills no chart. Users have no right to either column.
 *
 * A login is rare beside other requests (a session is refreshed, not begun anew), and no index
 * has the column: where the row's page has room, the update touches none.
 *
 * Locks: ACCESS EXCLUSIVE on app_public.users for a moment; nothing is rewritten.
 */
alter table app_public.users add column if not exists last_login_at timestamptz;

comment on column app_public.users.last_login_at is
  'When the user last signed in with e-mail and password; null before the first time.';

--! Included functions/app_public/login.sql
-- Definer: reads password hashes. It answers null for every kind of refusal, and always
-- computes one bcrypt of the same cost, so that neither answer nor time tells which it was.
create or replace function app_public.login(email text, password text)
returns app_public.session_tokens
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- The hash of a random string that was thrown away.
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
  -- Parallel guesses at one account take turns, so that each is counted.
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

  -- An account that was closed meanwhile stays closed.
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
--! EndIncluded functions/app_public/login.sql
--! Included functions/app_public/register.sql
-- Definer: nobody may insert users, secrets or sessions by themselves. There is no caller
-- to check: anyone may sign up, and only for a new account.
create or replace function app_public.register(
  email text, password text, first_name text,
  last_name text default '', timezone text default 'UTC'
) returns app_public.session_tokens
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Hashed first: an e-mail that is taken costs the same time as one that is free.
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
--! EndIncluded functions/app_public/register.sql
--! Included functions/app_private/tg__timestamps.sql
create or replace function app_private.tg__timestamps() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    -- A loader may bring both along; app_user has no right to write them.
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
--! EndIncluded functions/app_private/tg__timestamps.sql
comment on function app_private.tg__timestamps() is
  'Fills created_at and updated_at of a new row that brings none; later keeps created_at and sets updated_at, whatever the statement says.';
