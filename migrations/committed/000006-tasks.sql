--! Previous: sha1:a5db09c0c1ef896ded488386bd60c6ed1edac5c2
--! Hash: sha1:6e9e48acca04f7b4099c0d3f8d415426b2b50e49
--! Message: tasks

--! split: 0001-x.sql
/*
 * Tasks: the table that is written most.
 *
 * HASH by user_id in 16 partitions: load spreads evenly, each index is a sixteenth, and a
 * statement of one user touches one partition. Old rows cannot be dropped by partition,
 * and changing the number of partitions means rewriting the table.
 *
 * Locks: none on existing tables.
 */

create table app_public.tasks (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  title text not null,
  description text not null default '',
  status text not null default 'todo',
  priority text not null default 'medium',
  due_date date,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint tasks_pkey primary key (user_id, id),
  constraint tasks_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint tasks_title_check
    check (length(title) between 1 and 500 and title !~ '^\s+$'),
  constraint tasks_description_check check (length(description) <= 20000),
  constraint tasks_status_check
    check (status in ('todo', 'in_progress', 'done', 'canceled')),
  constraint tasks_priority_check
    check (priority in ('low', 'medium', 'high', 'urgent')),
  constraint tasks_due_date_check
    check (due_date between date '1970-01-01' and date '9999-12-31'),
  constraint tasks_completed_at_check check ((completed_at is not null) = (status = 'done'))
) partition by hash (user_id);

do $partitions$
begin
  for remainder in 0..15 loop
    execute pg_catalog.format('create table app_partitions.tasks_h%s'
      ' partition of app_public.tasks for values with (modulus 16, remainder %s)'
      -- A parent cannot hold storage settings; each partition does. Tasks change often:
      -- vacuum at 5 % dead rows, not 20 %.
      ' with (autovacuum_vacuum_scale_factor = 0.05)',
      pg_catalog.lpad(remainder::text, 2, '0'), remainder);
  end loop;
end
$partitions$;

-- Serves (user_id, status) too. All begin with user_id, as every statement does.
create index tasks_user_id_status_updated_at_idx
  on app_public.tasks (user_id, status, updated_at);
create index tasks_user_id_due_date_idx on app_public.tasks (user_id, due_date);
create index tasks_user_id_created_at_idx on app_public.tasks (user_id, created_at);

alter table app_public.tasks enable row level security;
create policy own on app_public.tasks
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.tasks
  for select to gw_readonly
  using (true);
grant select, delete on app_public.tasks to app_user;
grant insert (id, title, description, status, priority, due_date),
  update (title, description, status, priority, due_date)
  on app_public.tasks to app_user;
grant select on app_public.tasks to gw_readonly;

--! Included functions/app_private/tg_tasks__completion.sql
create or replace function app_private.tg_tasks__completion() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  new.completed_at := case
    when new.status <> 'done' then null
    when tg_op = 'UPDATE' and old.status = 'done' then old.completed_at
    -- A loader may bring the moment along; app_user has no right to write the column.
    else coalesce(new.completed_at, now())
  end;
  return new;
end
$$;
--! EndIncluded functions/app_private/tg_tasks__completion.sql
comment on function app_private.tg_tasks__completion() is
  'completed_at follows status.';

create trigger _100_timestamps before insert or update on app_public.tasks
  for each row execute function app_private.tg__timestamps();
create trigger _500_completion before insert or update of status, completed_at
  on app_public.tasks
  for each row execute function app_private.tg_tasks__completion();

comment on table app_public.tasks is 'Something a user means to do.';
comment on column app_public.tasks.user_id is 'Whose task it is: the user who made it.';
comment on column app_public.tasks.id is
  'Unique among the user''s tasks. A client may choose it, to make retries safe.';
comment on column app_public.tasks.title is '1 to 500 characters.';
comment on column app_public.tasks.description is 'At most 20,000 characters.';
comment on column app_public.tasks.status is 'todo, in_progress, done or canceled.';
comment on column app_public.tasks.priority is 'low, medium, high or urgent.';
comment on column app_public.tasks.due_date is
  'The day by which it should be done, in the user''s time zone.';
comment on column app_public.tasks.completed_at is
  'When status became done; null in any other status.';
comment on column app_public.tasks.created_at is 'When the task was made.';
comment on column app_public.tasks.updated_at is 'When the task last changed.';
