--! Previous: sha1:cae111847175b12082beecfddeda3aa751e61269
--! Hash: sha1:94b83bb19c73560287c6cbe0eb1c2386b81dfe1b
--! Message: activity
--! Baseline: topics/14-activity.sql

/*
 * What users did: a log that triggers write.
 *
 * The triggers are statement-level, so a statement that changes a thousand rows writes
 * the log with one insert.
 */

-- The log of activity, for feeds and charts. Append-only: a row stays when the row that
-- it is about is deleted. Partitioned by activity_date, so that old months can be
-- dropped.
create table app_public.user_activity (
  user_id uuid not null,
  id uuid not null default gen_random_uuid(),
  activity_date date not null default (now() at time zone 'UTC')::date,
  occurred_at timestamptz not null default now(),
  action text not null,
  entity_type text not null,
  entity_id uuid not null,
  constraint user_activity_pkey primary key (user_id, activity_date, id),
  constraint user_activity_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint user_activity_action_check
    check (action in ('created', 'updated', 'completed', 'deleted')),
  constraint user_activity_entity_type_check
    check (entity_type in ('task', 'goal', 'habit', 'habit_log', 'reflection'))
) partition by range (activity_date);

create table app_partitions.user_activity_default
  partition of app_public.user_activity default;

create index user_activity_user_id_occurred_at_idx
  on app_public.user_activity (user_id, occurred_at);

alter table app_public.user_activity enable row level security;

create policy own on app_public.user_activity
  for select to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.user_activity
  for select to gw_readonly
  using (true);

-- No insert, update or delete: only triggers write the log, and nobody corrects it.
grant select on app_public.user_activity to app_user, gw_readonly;

comment on table app_public.user_activity is
  'An action of a user on a task, goal, habit, habit log or reflection. Recorded '
  'automatically.';
comment on column app_public.user_activity.user_id is 'The user who acted.';
comment on column app_public.user_activity.id is
  'Id of the entry, unique among the user''s entries of the day.';
comment on column app_public.user_activity.activity_date is
  'The day of the action, in UTC.';
comment on column app_public.user_activity.occurred_at is 'When the action happened.';
comment on column app_public.user_activity.action is
  'The action: created, updated, completed (tasks only) or deleted.';
comment on column app_public.user_activity.entity_type is
  'Type of the row that was acted on: task, goal, habit, habit_log or reflection.';
comment on column app_public.user_activity.entity_id is
  'Id of the row that was acted on; for a habit_log, the id of its habit.';

--! Included functions/app_private/tg__activity.sql
-- Definer: no role may insert into user_activity. The trigger writes only rows about the
-- statement, with the user_id of the changed rows. When a user is deleted, the deletes
-- cascade, and the join to users leaves them out.
create or replace function app_private.tg__activity() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'created', tg_argv[0], new_rows.id
    from new_rows;
  elsif tg_op = 'DELETE' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select old_rows.user_id, 'deleted', tg_argv[0], old_rows.id
    from old_rows
    inner join app_public.users on users.id = old_rows.user_id;
  else
    -- Compared as JSON, because not every table has a status.
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select changed.user_id,
      case when changed.new_row ->> 'status' = 'done'
          and changed.old_row ->> 'status' <> 'done'
        then 'completed' else 'updated' end,
      tg_argv[0], changed.id
    from (
      select new_rows.user_id, new_rows.id, to_jsonb(new_rows) as new_row,
        to_jsonb(old_rows) as old_row
      from new_rows
      inner join old_rows on old_rows.user_id = new_rows.user_id
        and old_rows.id = new_rows.id
    ) as changed
    where (changed.new_row - 'updated_at') is distinct from (changed.old_row - 'updated_at');
  end if;
  return null;
end
$$;

comment on function app_private.tg__activity() is
  'Records the rows of a statement in user_activity. For tables with an id; the argument '
  'is the entity_type.';
--! EndIncluded functions/app_private/tg__activity.sql
--! Included functions/app_private/tg_habit_logs__activity.sql
-- Definer, for the reasons of tg__activity(). A log has no id of its own, so entity_id is
-- the id of its habit.
create or replace function app_private.tg_habit_logs__activity() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'created', 'habit_log', new_rows.habit_id
    from new_rows;
  elsif tg_op = 'DELETE' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select old_rows.user_id, 'deleted', 'habit_log', old_rows.habit_id
    from old_rows
    inner join app_public.users on users.id = old_rows.user_id;
  else
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'updated', 'habit_log', new_rows.habit_id
    from new_rows
    inner join old_rows on old_rows.user_id = new_rows.user_id
      and old_rows.habit_id = new_rows.habit_id
      and old_rows.log_date = new_rows.log_date
    where old_rows.note <> new_rows.note;
  end if;
  return null;
end
$$;

comment on function app_private.tg_habit_logs__activity() is
  'Records the rows of a statement on habit_logs in user_activity.';
--! EndIncluded functions/app_private/tg_habit_logs__activity.sql

create trigger _900_activity_insert after insert on app_public.tasks
  referencing new table as new_rows
  for each statement execute function app_private.tg__activity('task');

create trigger _900_activity_update after update on app_public.tasks
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__activity('task');

create trigger _900_activity_delete after delete on app_public.tasks
  referencing old table as old_rows
  for each statement execute function app_private.tg__activity('task');

create trigger _900_activity_insert after insert on app_public.goals
  referencing new table as new_rows
  for each statement execute function app_private.tg__activity('goal');

create trigger _900_activity_update after update on app_public.goals
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__activity('goal');

create trigger _900_activity_delete after delete on app_public.goals
  referencing old table as old_rows
  for each statement execute function app_private.tg__activity('goal');

create trigger _900_activity_insert after insert on app_public.habits
  referencing new table as new_rows
  for each statement execute function app_private.tg__activity('habit');

create trigger _900_activity_update after update on app_public.habits
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__activity('habit');

create trigger _900_activity_delete after delete on app_public.habits
  referencing old table as old_rows
  for each statement execute function app_private.tg__activity('habit');

create trigger _900_activity_insert after insert on app_public.habit_logs
  referencing new table as new_rows
  for each statement execute function app_private.tg_habit_logs__activity();

create trigger _900_activity_update after update on app_public.habit_logs
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_habit_logs__activity();

create trigger _900_activity_delete after delete on app_public.habit_logs
  referencing old table as old_rows
  for each statement execute function app_private.tg_habit_logs__activity();

create trigger _900_activity_insert after insert on app_public.reflections
  referencing new table as new_rows
  for each statement execute function app_private.tg__activity('reflection');

create trigger _900_activity_update after update on app_public.reflections
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__activity('reflection');

create trigger _900_activity_delete after delete on app_public.reflections
  referencing old table as old_rows
  for each statement execute function app_private.tg__activity('reflection');
