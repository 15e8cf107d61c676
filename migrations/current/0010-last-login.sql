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

--!include functions/app_public/login.sql
--!include functions/app_public/register.sql
--!include functions/app_private/tg__timestamps.sql
comment on function app_private.tg__timestamps() is
  'Fills created_at and updated_at of a new row that brings none; later keeps created_at and sets updated_at, whatever the statement says.';
