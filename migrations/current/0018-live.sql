/*
 * Live: tells API processes of what changed, for the users who are watching.
 *
 * A statement-level trigger sends one notification a statement, in parts below 8,000 bytes,
 * and none at all unless somebody watches one of the users: NOTIFY makes commits wait for
 * one another. Who watches is a lease of two minutes in app_private.live_users. A
 * notification says which rows changed, never what is in them: the API reads them again as
 * the user.
 *
 * On Citus the triggers run on workers, where live_users is not and from where no
 * notification reaches the coordinator: there they are left out, and frontends ask again.
 *
 * Locks: the triggers take SHARE ROW EXCLUSIVE on app_public.tasks,
 * user_dashboard_aggregates and message_logs for a moment.
 */

-- squawk-ignore-file ban-drop-table

drop trigger if exists _900_notify_insert on app_public.tasks;
drop trigger if exists _900_notify_update on app_public.tasks;
drop trigger if exists _900_notify_delete on app_public.tasks;
drop trigger if exists _900_notify_insert on app_public.user_dashboard_aggregates;
drop trigger if exists _900_notify_update on app_public.user_dashboard_aggregates;
drop trigger if exists _900_notify_delete on app_public.user_dashboard_aggregates;
drop trigger if exists _900_notify_update on app_public.message_logs;
drop table if exists app_private.live_users;

-- Whose changes an API process wants to hear of. Unlogged: a crash empties it, and ends the
-- connections that listened. No foreign key: a lease outlives its user by two minutes at
-- most.
create unlogged table app_private.live_users (
  user_id uuid not null,
  expires_at timestamptz not null,
  constraint live_users_pkey primary key (user_id)
);

alter table app_private.live_users enable row level security;

comment on table app_private.live_users is
  'Users with a live subscription in some API process, until expires_at.';

--!include functions/app_private/watch_live.sql
grant execute on function app_private.watch_live(uuid[]) to gw_authenticator;
comment on function app_private.watch_live(uuid[]) is
  'Keeps these users watched for two minutes; returns those that were not watched before.';

--!include functions/app_private/live_writers.sql
grant execute on function app_private.live_writers() to gw_authenticator;
comment on function app_private.live_writers() is
  'Transactions in flight that wrote a watched table, perhaps before somebody watched.';

--!include functions/app_private/notify_live.sql
comment on function app_private.notify_live(text, text, uuid[], text[]) is
  'Tells API processes that rows of these users changed: user and key, pair by pair.';

--!include functions/app_private/tg_tasks__notify.sql
comment on function app_private.tg_tasks__notify() is
  'Tells of tasks that were made, changed or deleted.';
--!include functions/app_private/tg_user_dashboard_aggregates__notify.sql
comment on function app_private.tg_user_dashboard_aggregates__notify() is
  'Tells of days whose counts changed.';
--!include functions/app_private/tg_message_logs__notify.sql
comment on function app_private.tg_message_logs__notify() is
  'Tells of messages whose status changed.';

create trigger _900_notify_insert after insert on app_public.tasks
  referencing new table as new_rows
  for each statement execute function app_private.tg_tasks__notify();
create trigger _900_notify_update after update on app_public.tasks
  referencing new table as new_rows
  for each statement execute function app_private.tg_tasks__notify();
create trigger _900_notify_delete after delete on app_public.tasks
  referencing old table as old_rows
  for each statement execute function app_private.tg_tasks__notify();

create trigger _900_notify_insert after insert on app_public.user_dashboard_aggregates
  referencing new table as new_rows
  for each statement
  execute function app_private.tg_user_dashboard_aggregates__notify();
create trigger _900_notify_update after update on app_public.user_dashboard_aggregates
  referencing new table as new_rows
  for each statement
  execute function app_private.tg_user_dashboard_aggregates__notify();
create trigger _900_notify_delete after delete on app_public.user_dashboard_aggregates
  referencing old table as old_rows
  for each statement
  execute function app_private.tg_user_dashboard_aggregates__notify();

-- A planned message is not news; what becomes of it is.
create trigger _900_notify_update after update on app_public.message_logs
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_message_logs__notify();
