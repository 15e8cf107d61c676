--! Previous: sha1:5cccb6a9bb0cacf28f4e851bd5cc090099e89c6a
--! Hash: sha1:b7d445bec4327110cf24a088fca64bad35f202b7
--! Message: snapshots
--! Baseline: topics/16-snapshots.sql

/*
 * Counts at a moment, kept, so that progress can be seen later.
 */

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

grant execute on function app_public.take_snapshot(text) to app_user;
comment on function app_public.take_snapshot(text) is
  'Counts your tasks, goals, habits and reflections as they are now, and keeps the counts.';
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

grant execute on function app_public.compare_snapshots(uuid, uuid) to app_user;
comment on function app_public.compare_snapshots(uuid, uuid) is
  'What became of each count between two of your snapshots. Empty when you have not both.';
--! EndIncluded functions/app_public/compare_snapshots.sql
