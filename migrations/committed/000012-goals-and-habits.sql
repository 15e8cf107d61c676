--! Previous: sha1:b40871ede44ea64c38ae3ea523b0ec1cedcc1891
--! Hash: sha1:2361ad255d6dc1f2142b2defe932b9f6535c9bd4
--! Message: goals-and-habits
--! Baseline: topics/12-goals-and-habits.sql

/*
 * Goals, which tasks work towards, and habits, which are kept day by day.
 */

-- Goals. They are not a kind of project: a task belongs to one project, but may work
-- towards several goals.
create table app_public.goals (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  title text not null,
  description text not null default '',
  status text not null default 'active',
  target_date date,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint goals_pkey primary key (user_id, id),
  constraint goals_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint goals_title_check
    check (length(title) between 1 and 500 and title !~ '^\s+$'),
  constraint goals_description_check check (length(description) <= 20000),
  constraint goals_created_at_check
    check (created_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z'),
  constraint goals_status_check
    check (status in ('active', 'achieved', 'paused', 'abandoned')),
  constraint goals_target_date_check
    check (target_date between date '1970-01-01' and date '9999-12-31')
);

create index goals_user_id_status_target_date_idx
  on app_public.goals (user_id, status, target_date);

create index goals_user_id_created_at_idx on app_public.goals (user_id, created_at);

alter table app_public.goals enable row level security;

create policy own on app_public.goals
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.goals
  for select to gw_readonly
  using (true);

grant select, delete,
  insert (id, title, description, status, target_date),
  update (title, description, status, target_date)
  on app_public.goals to app_user;

grant select on app_public.goals to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.goals
  for each row execute function app_private.tg__timestamps();

comment on table app_public.goals is
  E'@defaultOrder created_at\n'
  'A long-term goal of a user.';
comment on column app_public.goals.user_id is 'The user who owns the goal.';
comment on column app_public.goals.id is
  'Id of the goal, unique among the user''s goals. A client may choose it when it '
  'creates the goal, to make retries safe.';
comment on column app_public.goals.title is
  'Title of the goal, 1 to 500 characters, not only white space.';
comment on column app_public.goals.description is
  'Description of the goal, at most 20,000 characters; empty by default.';
comment on column app_public.goals.status is
  'Status of the goal: active (the default), achieved, paused or abandoned.';
comment on column app_public.goals.target_date is
  'The day by which the goal should be achieved, in the user''s time zone; null when '
  'there is none.';
comment on column app_public.goals.created_at is 'When the goal was created.';
comment on column app_public.goals.updated_at is 'When the goal last changed.';
comment on constraint goals_pkey on app_public.goals is
  'you have a goal with this id already';
comment on constraint goals_title_check on app_public.goals is
  'a title has 1 to 500 characters, not only white space';
comment on constraint goals_description_check on app_public.goals is
  'a description has at most 20,000 characters';
comment on constraint goals_status_check on app_public.goals is
  E'@enum GoalStatus\n'
  '@value active Worked towards.\n'
  '@value achieved Reached.\n'
  '@value paused To be taken up again.\n'
  '@value abandoned Given up.\n'
  'a status is active, achieved, paused or abandoned';
comment on constraint goals_target_date_check on app_public.goals is
  'a target date lies between the years 1970 and 9999';

-- The tasks that work towards a goal. The key allows a link once.
create table app_public.goals_tasks (
  user_id uuid not null default app_hidden.current_app_user_id(),
  goal_id uuid not null,
  task_id uuid not null,
  created_at timestamptz not null default now(),
  constraint goals_tasks_pkey primary key (user_id, goal_id, task_id),
  constraint goals_tasks_user_id_goal_id_fkey
    foreign key (user_id, goal_id) references app_public.goals (user_id, id)
    on delete cascade,
  constraint goals_tasks_user_id_task_id_fkey
    foreign key (user_id, task_id) references app_public.tasks (user_id, id)
    on delete cascade
);

create index goals_tasks_user_id_task_id_idx on app_public.goals_tasks (user_id, task_id);

alter table app_public.goals_tasks enable row level security;

create policy own on app_public.goals_tasks
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.goals_tasks
  for select to gw_readonly
  using (true);

-- No update: a link is created or deleted.
grant select, delete, insert (goal_id, task_id) on app_public.goals_tasks to app_user;

grant select on app_public.goals_tasks to gw_readonly;

comment on table app_public.goals_tasks is
  'A link between a goal and a task that works towards it.';
comment on column app_public.goals_tasks.user_id is
  'The user who owns the goal and the task.';
comment on column app_public.goals_tasks.goal_id is 'The goal.';
comment on column app_public.goals_tasks.task_id is
  'The task that works towards the goal.';
comment on column app_public.goals_tasks.created_at is 'When the link was created.';
comment on constraint goals_tasks_pkey on app_public.goals_tasks is
  'this task works towards this goal already';

-- Habits. Archiving keeps the logs, so that a habit can be resumed with its history.
create table app_public.habits (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  name text not null,
  description text not null default '',
  archived_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint habits_pkey primary key (user_id, id),
  constraint habits_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint habits_name_check
    check (length(name) between 1 and 200 and name !~ '^\s+$'),
  constraint habits_description_check check (length(description) <= 20000),
  constraint habits_created_at_check
    check (created_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z'),
  constraint habits_archived_at_check
    check (archived_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z')
);

create index habits_user_id_created_at_idx on app_public.habits (user_id, created_at);

alter table app_public.habits enable row level security;

create policy own on app_public.habits
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.habits
  for select to gw_readonly
  using (true);

grant select, delete,
  insert (id, name, description, archived_at),
  update (name, description, archived_at)
  on app_public.habits to app_user;

grant select on app_public.habits to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.habits
  for each row execute function app_private.tg__timestamps();

comment on table app_public.habits is
  E'@defaultOrder created_at\n'
  'An activity that a user wants to do every day.';
comment on column app_public.habits.user_id is 'The user who owns the habit.';
comment on column app_public.habits.id is
  'Id of the habit, unique among the user''s habits. A client may choose it when it '
  'creates the habit, to make retries safe.';
comment on column app_public.habits.name is
  'Name of the habit, 1 to 200 characters, not only white space.';
comment on column app_public.habits.description is
  'Description of the habit, at most 20,000 characters; empty by default.';
comment on column app_public.habits.archived_at is
  'When the habit was archived; null while the user keeps it.';
comment on column app_public.habits.created_at is 'When the habit was created.';
comment on column app_public.habits.updated_at is 'When the habit last changed.';
comment on constraint habits_pkey on app_public.habits is
  'you have a habit with this id already';
comment on constraint habits_name_check on app_public.habits is
  'a name has 1 to 200 characters, not only white space';
comment on constraint habits_description_check on app_public.habits is
  'a description has at most 20,000 characters';
comment on constraint habits_archived_at_check on app_public.habits is
  'a time lies between the years 1970 and 9999';

-- The days on which a habit was kept. The key allows one log for each habit and day, so a
-- client that retries cannot count a day twice.
create table app_public.habit_logs (
  user_id uuid not null default app_hidden.current_app_user_id(),
  habit_id uuid not null,
  log_date date not null,
  note text not null default '',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint habit_logs_pkey primary key (user_id, habit_id, log_date),
  constraint habit_logs_user_id_habit_id_fkey
    foreign key (user_id, habit_id) references app_public.habits (user_id, id)
    on delete cascade,
  constraint habit_logs_log_date_check
    check (log_date between date '1970-01-01' and date '9999-12-31'),
  constraint habit_logs_note_check check (length(note) <= 2000)
);

create index habit_logs_user_id_log_date_idx on app_public.habit_logs (user_id, log_date);

alter table app_public.habit_logs enable row level security;

create policy own on app_public.habit_logs
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.habit_logs
  for select to gw_readonly
  using (true);

-- No update of habit_id and log_date: a log of the wrong day is deleted.
grant select, delete, insert (habit_id, log_date, note), update (note)
  on app_public.habit_logs to app_user;

grant select on app_public.habit_logs to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.habit_logs
  for each row execute function app_private.tg__timestamps();

comment on table app_public.habit_logs is
  E'@defaultOrder log_date desc\n'
  'A day on which a user kept a habit; at most one log for each habit and day.';
comment on column app_public.habit_logs.user_id is 'The user who owns the habit.';
comment on column app_public.habit_logs.habit_id is 'The habit that was kept.';
comment on column app_public.habit_logs.log_date is
  'The day on which the habit was kept, in the user''s time zone.';
comment on column app_public.habit_logs.note is
  'Note about the day, at most 2,000 characters; empty by default.';
comment on column app_public.habit_logs.created_at is 'When the log was created.';
comment on column app_public.habit_logs.updated_at is 'When the log last changed.';
comment on constraint habit_logs_pkey on app_public.habit_logs is
  'this habit is already logged for that day';
comment on constraint habit_logs_log_date_check on app_public.habit_logs is
  'a date lies between the years 1970 and 9999';
comment on constraint habit_logs_note_check on app_public.habit_logs is
  'a note has at most 2,000 characters';

--! Included functions/app_public/habits_streak.sql
-- In a run of days, the date plus the row number from the latest day is constant.
create or replace function app_public.habits_streak(habit app_public.habits)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with today as (
    select (now() at time zone coalesce(app_hidden.known_zone(users.timezone), 'UTC'))::date
      as day
    from app_public.users
    where users.id = habit.user_id
  ),
  days as (
    select habit_logs.log_date,
      habit_logs.log_date
        + row_number() over (order by habit_logs.log_date desc)::integer as run
    from app_public.habit_logs
    inner join today on habit_logs.log_date <= today.day
    where habit_logs.user_id = habit.user_id
      and habit_logs.habit_id = habit.id
  )
  select count(*)::integer
  from days
  cross join today
  where days.run = (select max(run) from days)
    and (select max(log_date) from days) >= today.day - 1
$$;

grant execute on function app_public.habits_streak(app_public.habits) to app_user;
comment on function app_public.habits_streak(app_public.habits) is
  'Current streak: the number of days in a row with a log, up to today or yesterday in '
  'the user''s time zone. 0 when neither day has a log.';
--! EndIncluded functions/app_public/habits_streak.sql
--! Included functions/app_public/habits_longest_streak.sql
-- In a run of days, the date minus the row number is constant.
create or replace function app_public.habits_longest_streak(habit app_public.habits)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(max(run.days), 0)::integer
  from (
    select count(*) as days
    from (
      select habit_logs.log_date
        - row_number() over (order by habit_logs.log_date)::integer as run
      from app_public.habit_logs
      where habit_logs.user_id = habit.user_id
        and habit_logs.habit_id = habit.id
    ) as numbered
    group by numbered.run
  ) as run
$$;

grant execute on function app_public.habits_longest_streak(app_public.habits) to app_user;
comment on function app_public.habits_longest_streak(app_public.habits) is
  'Longest streak: the largest number of days in a row with a log; 0 without logs.';
--! EndIncluded functions/app_public/habits_longest_streak.sql
