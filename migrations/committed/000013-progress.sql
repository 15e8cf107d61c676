--! Previous: sha1:9f5b4217ebd731689ecfcd3fdec1db4cc2707ea3
--! Hash: sha1:42214821fe794ef961174e20b7083a00d17101de
--! Message: progress

--! split: 0001-x.sql
/*
 * How users see their progress: weekly digests, snapshots that can be compared, the weekly
 * summary; and integrations with other services.
 *
 * Locks: the new foreign keys take SHARE ROW EXCLUSIVE on app_public.users for a moment.
 * Filling the materialized view reads tasks and reflections once.
 */

-- One a week and user, composed by the worker.
create table app_public.digests (
  user_id uuid not null,
  id uuid not null default gen_random_uuid(),
  week_start date not null,
  content jsonb not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint digests_pkey primary key (user_id, id),
  constraint digests_user_id_week_start_key unique (user_id, week_start),
  constraint digests_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint digests_week_start_check check (extract(isodow from week_start) = 1),
  constraint digests_content_check check (jsonb_typeof(content) = 'object')
);

alter table app_public.digests enable row level security;
create policy own on app_public.digests
  for select to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.digests
  for select to gw_readonly
  using (true);
grant select on app_public.digests to app_user, gw_readonly;

create trigger _100_timestamps before insert or update on app_public.digests
  for each row execute function app_private.tg__timestamps();

comment on table app_public.digests is 'A summary of a week, made for the user.';
comment on column app_public.digests.user_id is 'Whose week it was.';
comment on column app_public.digests.id is 'Unique among the user''s digests.';
comment on column app_public.digests.week_start is 'The Monday on which the week began.';
comment on column app_public.digests.content is 'A JSON object with the week''s figures.';
comment on column app_public.digests.created_at is 'When the row was made.';
comment on column app_public.digests.updated_at is 'When the row last changed.';

-- How things stood at a moment, so that progress can be seen later.
create table app_public.snapshots (
  user_id uuid not null,
  id uuid not null default gen_random_uuid(),
  name text not null,
  content jsonb not null,
  taken_at timestamptz not null default now(),
  constraint snapshots_pkey primary key (user_id, id),
  constraint snapshots_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint snapshots_name_check check (length(name) between 1 and 200),
  constraint snapshots_content_check check (jsonb_typeof(content) = 'object')
);

create index snapshots_user_id_taken_at_idx on app_public.snapshots (user_id, taken_at);

alter table app_public.snapshots enable row level security;
create policy own on app_public.snapshots
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.snapshots
  for select to gw_readonly
  using (true);
-- No insert, no update: take_snapshot() makes them, and they stay as they were.
grant select, delete on app_public.snapshots to app_user;
grant select on app_public.snapshots to gw_readonly;

comment on table app_public.snapshots is 'How things stood at a moment.';
comment on column app_public.snapshots.user_id is 'Whose things.';
comment on column app_public.snapshots.id is 'Unique among the user''s snapshots.';
comment on column app_public.snapshots.name is '1 to 200 characters.';
comment on column app_public.snapshots.content is
  'A JSON object of counts, such as tasks_done.';
comment on column app_public.snapshots.taken_at is 'The moment.';

--! Included functions/app_public/take_snapshot.sql
-- Definer: nobody may write a snapshot that says what was not so. It counts and keeps what
-- belongs to the calling user only.
create or replace function app_public.take_snapshot(name text)
returns app_public.snapshots
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := app_hidden.current_app_user_id();
  taken app_public.snapshots;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  insert into app_public.snapshots (user_id, name, content)
  select caller, take_snapshot.name, jsonb_build_object(
    'tasks_total', tasks.total,
    'tasks_done', tasks.done,
    'tasks_open', tasks.open,
    'goals_total', goals.total,
    'goals_achieved', goals.achieved,
    'habits_total', habits.total,
    'habit_days', (select count(*) from app_public.habit_logs where user_id = caller),
    'reflections_total', (select count(*) from app_public.reflections where user_id = caller))
  from (
    select count(*) as total,
      count(*) filter (where status = 'done') as done,
      count(*) filter (where status in ('todo', 'in_progress')) as open
    from app_public.tasks
    where user_id = caller
  ) as tasks
  cross join (
    select count(*) as total, count(*) filter (where status = 'achieved') as achieved
    from app_public.goals
    where user_id = caller
  ) as goals
  cross join (
    select count(*) as total from app_public.habits where user_id = caller
  ) as habits
  returning * into taken;
  return taken;
end
$$;
--! EndIncluded functions/app_public/take_snapshot.sql
grant execute on function app_public.take_snapshot(text) to app_user;
comment on function app_public.take_snapshot(text) is
  'Counts your tasks, goals, habits and reflections as they are now, and keeps the counts.';

create type app_public.snapshot_difference as (
  measure text,
  before bigint,
  after bigint,
  change bigint
);
comment on type app_public.snapshot_difference is 'What became of one count.';
comment on column app_public.snapshot_difference.measure is
  'What was counted, such as tasks_done.';
comment on column app_public.snapshot_difference.before is 'The count in the first snapshot.';
comment on column app_public.snapshot_difference.after is 'The count in the second.';
comment on column app_public.snapshot_difference.change is 'The second less the first.';

--! Included functions/app_public/compare_snapshots.sql
create or replace function app_public.compare_snapshots(before_id uuid, after_id uuid)
returns setof app_public.snapshot_difference
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(older.key, newer.key),
    coalesce(older.value, 0),
    coalesce(newer.value, 0),
    coalesce(newer.value, 0) - coalesce(older.value, 0)
  from (
    select pair.key, pair.value::bigint as value
    from app_public.snapshots
    cross join lateral jsonb_each_text(snapshots.content) as pair
    where snapshots.user_id = app_hidden.current_app_user_id()
      and snapshots.id = before_id
  ) as older
  full join (
    select pair.key, pair.value::bigint as value
    from app_public.snapshots
    cross join lateral jsonb_each_text(snapshots.content) as pair
    where snapshots.user_id = app_hidden.current_app_user_id()
      and snapshots.id = after_id
  ) as newer on newer.key = older.key
  where (
    select count(*) from app_public.snapshots
    where snapshots.user_id = app_hidden.current_app_user_id()
      and snapshots.id in (before_id, after_id)
  ) = 2
  order by 1
$$;
--! EndIncluded functions/app_public/compare_snapshots.sql
grant execute on function app_public.compare_snapshots(uuid, uuid) to app_user;
comment on function app_public.compare_snapshots(uuid, uuid) is
  'What became of each count between two of your snapshots. Empty when you have not both.';

-- Connections to other services. The credential itself is in a secret store; here is only
-- where. What looks like a credential is refused, in settings too.
create table app_public.integrations (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  provider text not null,
  credential_reference text not null,
  settings jsonb not null default '{}',
  is_enabled boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint integrations_pkey primary key (user_id, id),
  constraint integrations_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint integrations_user_id_provider_key unique (user_id, provider),
  constraint integrations_provider_check check (provider ~ '^[a-z][a-z0-9_-]{1,49}$'),
  constraint integrations_credential_reference_check check (
    credential_reference
      ~ '^(vault|env|aws-sm|gcp-sm|azure-kv)://[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$'
    -- Tokens are long runs without a separator, or begin as their issuers make them.
    and credential_reference !~ '[A-Za-z0-9]{24,}'
    and credential_reference
      !~* '(sk|pk|rk)_(live|test)_|gh[pousr]_|github_pat|xox[abprs]-|akia|eyj'),
  constraint integrations_settings_check check (
    jsonb_typeof(settings) = 'object'
    and settings::text !~* ('"[^"]*(password|passwd|secret|token|api_?key|private_?key'
      || '|access_?key|credential)[^"]*" *:'))
);

alter table app_public.integrations enable row level security;
create policy own on app_public.integrations
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.integrations
  for select to gw_readonly
  using (true);
grant select, delete on app_public.integrations to app_user;
grant insert (id, provider, credential_reference, settings, is_enabled),
  update (provider, credential_reference, settings, is_enabled)
  on app_public.integrations to app_user;
grant select on app_public.integrations to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.integrations
  for each row execute function app_private.tg__timestamps();

comment on table app_public.integrations is
  'A connection to another service; one for each provider.';
comment on column app_public.integrations.user_id is 'Whose connection it is.';
comment on column app_public.integrations.id is 'Unique among the user''s integrations.';
comment on column app_public.integrations.provider is
  'Lower-case name, such as google_calendar.';
comment on column app_public.integrations.credential_reference is
  'Where the credential is kept, such as vault://users/calendar. Never the credential.';
comment on column app_public.integrations.settings is 'A JSON object without secrets.';
comment on column app_public.integrations.is_enabled is 'Whether it is used.';
comment on column app_public.integrations.created_at is 'When the row was made.';
comment on column app_public.integrations.updated_at is 'When the row last changed.';

-- The chart of the last twelve weeks. Counting tasks and reflections in one join would
-- multiply each by the other and lose the weeks that have reflections only: they are
-- counted apart and put together by week.
create materialized view app_private.mv_user_weekly_summary as
  with task_weeks as (
    select user_id,
      date_trunc('week', created_at at time zone 'UTC')::date as week_start,
      count(*) filter (where status = 'done') as tasks_completed,
      count(*) as tasks_total
    from app_public.tasks
    where created_at >= date_trunc('week', now() at time zone 'UTC') at time zone 'UTC'
      - interval '12 weeks'
    group by 1, 2
  ),
  reflection_weeks as (
    select user_id,
      date_trunc('week', reflection_date::timestamp)::date as week_start,
      round(avg(mood_score), 2) as avg_mood,
      count(*) as reflections_count
    from app_public.reflections
    where reflection_date >= date_trunc('week', now() at time zone 'UTC')::date - 84
    group by 1, 2
  )
  select user_id,
    week_start,
    coalesce(task_weeks.tasks_completed, 0) as tasks_completed,
    coalesce(task_weeks.tasks_total, 0) as tasks_total,
    reflection_weeks.avg_mood,
    coalesce(reflection_weeks.reflections_count, 0) as reflections_count
  from task_weeks
  full join reflection_weeks using (user_id, week_start);

-- REFRESH … CONCURRENTLY needs it, and readers are not stopped then.
create unique index mv_user_weekly_summary_user_id_week_start_key
  on app_private.mv_user_weekly_summary (user_id, week_start);

comment on materialized view app_private.mv_user_weekly_summary is
  'Tasks and reflections of each user and week (Monday, UTC), refreshed each hour.';

-- A materialized view has no row-level security: nobody may read it, and this view, which
-- runs with its owner's rights, shows each user their own rows only.
create view app_public.weekly_summaries with (security_barrier = true) as
  select user_id, week_start, tasks_completed, tasks_total, avg_mood, reflections_count
  from app_private.mv_user_weekly_summary
  where user_id = app_hidden.current_app_user_id();

grant select on app_public.weekly_summaries to app_user;

comment on view app_public.weekly_summaries is
  E'@primaryKey user_id,week_start\n@foreignKey (user_id) references app_public.users (id)\nYour weeks of the last twelve, up to an hour old.';
comment on column app_public.weekly_summaries.user_id is 'Whose week it is.';
comment on column app_public.weekly_summaries.week_start is
  'The Monday on which the week began, in UTC.';
comment on column app_public.weekly_summaries.tasks_completed is
  'Tasks made in that week that are done by now.';
comment on column app_public.weekly_summaries.tasks_total is 'Tasks made in that week.';
comment on column app_public.weekly_summaries.avg_mood is
  'Average mood of that week''s reflections, 1.00 to 5.00; null without one.';
comment on column app_public.weekly_summaries.reflections_count is
  'Reflections about that week.';

--! Included functions/app_private/refresh_weekly_summary.sql
create or replace function app_private.refresh_weekly_summary() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  refresh materialized view concurrently app_private.mv_user_weekly_summary;
end
$$;
--! EndIncluded functions/app_private/refresh_weekly_summary.sql
comment on function app_private.refresh_weekly_summary() is
  'Brings mv_user_weekly_summary up to date without stopping readers.';

--! Included functions/app_private/analyze_hot_tables.sql
create or replace function app_private.analyze_hot_tables() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  analyze app_public.tasks, app_public.user_activity, app_public.reflections;
end
$$;
--! EndIncluded functions/app_private/analyze_hot_tables.sql
comment on function app_private.analyze_hot_tables() is
  'Refreshes the planner''s statistics of the tables that change most.';

insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('refresh-weekly-summary', '0 * * * *', 'select app_private.refresh_weekly_summary()',
    'The chart of the last twelve weeks.'),
  ('daily-analyze', '0 2 * * *', 'select app_private.analyze_hot_tables()',
    'Statistics of partitioned parents, which autovacuum does not keep.');
