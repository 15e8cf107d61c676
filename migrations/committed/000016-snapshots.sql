--! Previous: sha1:330b254a8d84a28742bb0b3fcee98f5e34d55a76
--! Hash: sha1:731c3d0e2f3ba6276ee33611bc4aa0d875206adc
--! Message: snapshots
--! Baseline: topics/16-snapshots.sql

/*
 * Snapshots: counts at one time, stored so that a user can see progress later.
 */

-- Snapshots. content is JSON, so that a new count needs no migration and old snapshots
-- stay as they were taken.
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

-- No insert, no update: take_snapshot() creates a snapshot, and nothing changes it.
grant select, delete on app_public.snapshots to app_user;

grant select on app_public.snapshots to gw_readonly;

comment on table app_public.snapshots is
  E'@defaultOrder taken_at desc\n'
  'Counts of a user''s tasks, goals, habits and reflections at one time. Created by '
  'takeSnapshot.';
comment on column app_public.snapshots.user_id is 'The user whose rows were counted.';
comment on column app_public.snapshots.id is
  'Id of the snapshot, unique among the user''s snapshots.';
comment on column app_public.snapshots.name is
  'Name of the snapshot, 1 to 200 characters.';
comment on column app_public.snapshots.content is
  'The counts, a JSON object with tasks_total, tasks_done, tasks_open, goals_total, '
  'goals_achieved, habits_total, habit_days and reflections_total.';
comment on column app_public.snapshots.taken_at is 'When the snapshot was taken.';
comment on constraint snapshots_name_check on app_public.snapshots is
  'a name has 1 to 200 characters';

-- One row of compare_snapshots().
create type app_public.snapshot_difference as (
  measure text,
  before integer,
  after integer,
  change integer
);

comment on type app_public.snapshot_difference is
  'The change of one count between two snapshots.';
comment on column app_public.snapshot_difference.measure is
  E'@notNull\n'
  'Name of the count, such as tasks_done.';
comment on column app_public.snapshot_difference.before is
  E'@notNull\n'
  'The count in the earlier snapshot.';
comment on column app_public.snapshot_difference.after is
  E'@notNull\n'
  'The count in the later snapshot.';
comment on column app_public.snapshot_difference.change is
  E'@notNull\n'
  'The later count minus the earlier one.';

--! Included functions/app_public/take_snapshot.sql
-- Definer: no role may insert into snapshots, so that every snapshot holds true counts.
-- The function counts only rows of the calling user.
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

grant execute on function app_public.take_snapshot(text) to app_user;
comment on function app_public.take_snapshot(text) is
  E'@notNull\n'
  'Counts your tasks, goals, habits and reflections now, and stores the counts as a '
  'snapshot. Error: CHECK_VIOLATION (name).';
--! EndIncluded functions/app_public/take_snapshot.sql
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
    select pair.key, pair.value::integer as value
    from app_public.snapshots
    cross join lateral jsonb_each_text(snapshots.content) as pair
    where snapshots.user_id = app_hidden.current_app_user_id()
      and snapshots.id = before_id
  ) as older
  full join (
    select pair.key, pair.value::integer as value
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

grant execute on function app_public.compare_snapshots(uuid, uuid) to app_user;
comment on function app_public.compare_snapshots(uuid, uuid) is
  'The change of each count between two of your snapshots. Empty unless both exist.';
--! EndIncluded functions/app_public/compare_snapshots.sql
