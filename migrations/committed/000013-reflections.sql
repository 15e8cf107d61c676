--! Previous: sha1:2361ad255d6dc1f2142b2defe932b9f6535c9bd4
--! Hash: sha1:9d570355b31472a1e2403bfbf3624c423ee83f66
--! Message: reflections
--! Baseline: topics/13-reflections.sql

/*
 * The journal: reflections, and links to the tasks, goals and habits that they are about.
 */

-- Reflections. A day may have several, and at most one of each kind: a form for "my morning"
-- finds its entry by day and kind, from every device. reflection_date is the day that the
-- user chose, in the user's time zone; created_at may be days later.
create table app_public.reflections (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  reflection_date date not null,
  kind text,
  mood_score smallint,
  content text not null default '',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint reflections_pkey primary key (user_id, id),
  constraint reflections_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  -- Entries without a kind are not compared.
  constraint reflections_user_id_reflection_date_kind_key
    unique (user_id, reflection_date, kind),
  constraint reflections_reflection_date_check
    check (reflection_date between date '1970-01-01' and date '9999-12-31'),
  constraint reflections_kind_check check (kind in ('daily', 'morning', 'evening')),
  constraint reflections_mood_score_check check (mood_score between 1 and 5),
  constraint reflections_content_check check (length(content) <= 100000)
)
-- Users edit a reflection for days: vacuum at 10 % dead rows, not 20 %.
with (autovacuum_vacuum_scale_factor = 0.1);

alter table app_public.reflections enable row level security;

create policy own on app_public.reflections
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.reflections
  for select to gw_readonly
  using (true);

grant select, delete,
  insert (id, reflection_date, kind, mood_score, content),
  update (reflection_date, kind, mood_score, content)
  on app_public.reflections to app_user;

grant select on app_public.reflections to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.reflections
  for each row execute function app_private.tg__timestamps();

comment on table app_public.reflections is
  E'@defaultOrder reflection_date desc\n'
  'A journal entry of a user.';
comment on column app_public.reflections.user_id is 'The user who owns the reflection.';
comment on column app_public.reflections.id is
  'Id of the reflection, unique among the user''s reflections. A client may choose it '
  'when it creates the reflection, to make retries safe.';
comment on column app_public.reflections.reflection_date is
  'The day that the reflection is about, in the user''s time zone.';
comment on column app_public.reflections.kind is
  'Which entry of its day the reflection is: daily, morning or evening; null (the default) '
  'for one of any number besides.';
comment on column app_public.reflections.mood_score is
  'Mood from 1 (bad) to 5 (good); null when not given.';
comment on column app_public.reflections.content is
  'Text of the reflection, at most 100,000 characters; empty by default.';
comment on column app_public.reflections.created_at is 'When the reflection was created.';
comment on column app_public.reflections.updated_at is
  'When the reflection last changed.';
comment on constraint reflections_pkey on app_public.reflections is
  'you have a reflection with this id already';
comment on constraint reflections_user_id_reflection_date_kind_key
  on app_public.reflections is
  'you have a reflection of this kind for that day already';
comment on constraint reflections_kind_check on app_public.reflections is
  E'@enum ReflectionKind\n'
  '@value daily The one of the day.\n'
  '@value morning The one of the morning.\n'
  '@value evening The one of the evening.\n'
  'a kind is daily, morning or evening';
comment on constraint reflections_reflection_date_check on app_public.reflections is
  'a date lies between the years 1970 and 9999';
comment on constraint reflections_mood_score_check on app_public.reflections is
  'a mood is 1 (bad) to 5 (good)';
comment on constraint reflections_content_check on app_public.reflections is
  'a reflection has at most 100,000 characters';

-- The tasks that a reflection is about. The user adds the links; nothing derives them
-- from the text.
create table app_public.reflection_tasks (
  user_id uuid not null default app_hidden.current_app_user_id(),
  reflection_id uuid not null,
  task_id uuid not null,
  created_at timestamptz not null default now(),
  constraint reflection_tasks_pkey primary key (user_id, reflection_id, task_id),
  constraint reflection_tasks_user_id_reflection_id_fkey
    foreign key (user_id, reflection_id) references app_public.reflections (user_id, id)
    on delete cascade,
  constraint reflection_tasks_user_id_task_id_fkey
    foreign key (user_id, task_id) references app_public.tasks (user_id, id)
    on delete cascade
);

create index reflection_tasks_user_id_task_id_idx
  on app_public.reflection_tasks (user_id, task_id);

alter table app_public.reflection_tasks enable row level security;

create policy own on app_public.reflection_tasks
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.reflection_tasks
  for select to gw_readonly
  using (true);

-- No update: a link is created or deleted.
grant select, delete, insert (reflection_id, task_id)
  on app_public.reflection_tasks to app_user;

grant select on app_public.reflection_tasks to gw_readonly;

comment on table app_public.reflection_tasks is
  'A link between a reflection and a task that it is about.';
comment on column app_public.reflection_tasks.user_id is
  'The user who owns the reflection and the task.';
comment on column app_public.reflection_tasks.reflection_id is 'The reflection.';
comment on column app_public.reflection_tasks.task_id is
  'The task that the reflection is about.';
comment on column app_public.reflection_tasks.created_at is 'When the link was created.';
comment on constraint reflection_tasks_pkey on app_public.reflection_tasks is
  'this reflection is about this task already';

-- The goals that a reflection is about. One table for each kind of link, so that foreign
-- keys hold.
create table app_public.reflection_goals (
  user_id uuid not null default app_hidden.current_app_user_id(),
  reflection_id uuid not null,
  goal_id uuid not null,
  created_at timestamptz not null default now(),
  constraint reflection_goals_pkey primary key (user_id, reflection_id, goal_id),
  constraint reflection_goals_user_id_reflection_id_fkey
    foreign key (user_id, reflection_id) references app_public.reflections (user_id, id)
    on delete cascade,
  constraint reflection_goals_user_id_goal_id_fkey
    foreign key (user_id, goal_id) references app_public.goals (user_id, id)
    on delete cascade
);

create index reflection_goals_user_id_goal_id_idx
  on app_public.reflection_goals (user_id, goal_id);

alter table app_public.reflection_goals enable row level security;

create policy own on app_public.reflection_goals
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.reflection_goals
  for select to gw_readonly
  using (true);

-- No update: a link is created or deleted.
grant select, delete, insert (reflection_id, goal_id)
  on app_public.reflection_goals to app_user;

grant select on app_public.reflection_goals to gw_readonly;

comment on table app_public.reflection_goals is
  'A link between a reflection and a goal that it is about.';
comment on column app_public.reflection_goals.user_id is
  'The user who owns the reflection and the goal.';
comment on column app_public.reflection_goals.reflection_id is 'The reflection.';
comment on column app_public.reflection_goals.goal_id is
  'The goal that the reflection is about.';
comment on column app_public.reflection_goals.created_at is 'When the link was created.';
comment on constraint reflection_goals_pkey on app_public.reflection_goals is
  'this reflection is about this goal already';

-- The habits that a reflection is about.
create table app_public.reflection_habits (
  user_id uuid not null default app_hidden.current_app_user_id(),
  reflection_id uuid not null,
  habit_id uuid not null,
  created_at timestamptz not null default now(),
  constraint reflection_habits_pkey primary key (user_id, reflection_id, habit_id),
  constraint reflection_habits_user_id_reflection_id_fkey
    foreign key (user_id, reflection_id) references app_public.reflections (user_id, id)
    on delete cascade,
  constraint reflection_habits_user_id_habit_id_fkey
    foreign key (user_id, habit_id) references app_public.habits (user_id, id)
    on delete cascade
);

create index reflection_habits_user_id_habit_id_idx
  on app_public.reflection_habits (user_id, habit_id);

alter table app_public.reflection_habits enable row level security;

create policy own on app_public.reflection_habits
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.reflection_habits
  for select to gw_readonly
  using (true);

-- No update: a link is created or deleted.
grant select, delete, insert (reflection_id, habit_id)
  on app_public.reflection_habits to app_user;

grant select on app_public.reflection_habits to gw_readonly;

comment on table app_public.reflection_habits is
  'A link between a reflection and a habit that it is about.';
comment on column app_public.reflection_habits.user_id is
  'The user who owns the reflection and the habit.';
comment on column app_public.reflection_habits.reflection_id is 'The reflection.';
comment on column app_public.reflection_habits.habit_id is
  'The habit that the reflection is about.';
comment on column app_public.reflection_habits.created_at is 'When the link was created.';
comment on constraint reflection_habits_pkey on app_public.reflection_habits is
  'this reflection is about this habit already';
