--! Previous: sha1:9d570355b31472a1e2403bfbf3624c423ee83f66
--! Hash: sha1:649bd15d30f1be78425b34480c4227b4f1d4af2f
--! Message: activity
--! Baseline: topics/14-activity.sql

/*
 * What users did: a log that the triggers of the topic "live" write.
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
  constraint user_activity_occurred_at_check
    check (occurred_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z'),
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
  E'@defaultOrder occurred_at desc\n'
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
comment on constraint user_activity_action_check on app_public.user_activity is
  E'@enum ActivityAction\n'
  '@value created Something was made.\n'
  '@value updated It was changed.\n'
  '@value completed It was done or reached.\n'
  '@value deleted It was deleted.\n'
  'an action is created, updated, completed or deleted';
comment on constraint user_activity_entity_type_check on app_public.user_activity is
  E'@enum ActivityEntity\n'
  '@value task A task.\n'
  '@value goal A goal.\n'
  '@value habit A habit.\n'
  '@value habit_log A day on which a habit was kept.\n'
  '@value reflection A journal entry.\n'
  'an entry is about a task, goal, habit, habit_log or reflection';
