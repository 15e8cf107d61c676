--! Previous: sha1:13e191b8aec775d7660f6b25a8af57ec8571cad6
--! Hash: sha1:1761add124056d7b4ee7f5aa79237b322206adc1
--! Message: tasks
--! Baseline: topics/11-tasks.sql

/*
 * Tasks, the largest table of the planner: 16 hash partitions by user.
 *
 * A statement names its user, so it is planned and run on one partition. Vacuum and index
 * builds work on a sixteenth at a time.
 */

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

comment on function app_private.tg_tasks__completion() is
  'completed_at follows status.';
--! EndIncluded functions/app_private/tg_tasks__completion.sql

-- What a user means to do. A task outlives its list and its project.
create table app_public.tasks (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  title text not null,
  description text not null default '',
  status text not null default 'todo',
  priority text not null default 'medium',
  due_date date,
  project_id uuid,
  list_id uuid,
  position_in_list integer,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  search tsvector not null generated always as (
    to_tsvector('english', title || ' ' || description)) stored,
  constraint tasks_pkey primary key (user_id, id),
  constraint tasks_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint tasks_user_id_project_id_fkey
    foreign key (user_id, project_id) references app_public.projects (user_id, id),
  constraint tasks_user_id_list_id_fkey
    foreign key (user_id, list_id) references app_public.lists (user_id, id),
  constraint tasks_position_in_list_check check (position_in_list >= 0),
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

create index tasks_user_id_list_id_position_in_list_idx
  on app_public.tasks (user_id, list_id, position_in_list)
  where list_id is not null;

create index tasks_user_id_project_id_priority_created_at_idx
  on app_public.tasks (user_id, project_id, priority, created_at)
  where project_id is not null;

-- No GIN index on search: the operator @@ is not leakproof, so under row-level security it
-- is only asked of rows that an index on user_id has found. Within one user's rows that is
-- quick, and the index would cost every write.

alter table app_public.tasks enable row level security;

create policy own on app_public.tasks
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.tasks
  for select to gw_readonly
  using (true);

grant select, delete on app_public.tasks to app_user;

grant insert (id, title, description, status, priority, due_date, project_id, list_id,
    position_in_list),
  update (title, description, status, priority, due_date, project_id, list_id,
    position_in_list)
  on app_public.tasks to app_user;

grant select on app_public.tasks to gw_readonly;

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
comment on column app_public.tasks.project_id is 'The project that the task belongs to.';
comment on column app_public.tasks.list_id is 'The list that the task stands in.';
comment on column app_public.tasks.position_in_list is
  'Its place in the list, 0 first. Equal places are allowed.';
comment on column app_public.tasks.completed_at is
  'When status became done; null in any other status.';
comment on column app_public.tasks.created_at is 'When the task was made.';
comment on column app_public.tasks.updated_at is 'When the task last changed.';
comment on column app_public.tasks.search is
  E'@behavior -attribute:select -attribute:filterBy -attribute:orderBy -condition:attribute:filterBy\nWhat search_tasks() looks in.';

--! Included functions/app_private/tg__release_tasks.sql
-- Takes the column of tasks that refers to the row. Definer: whether the user still exists
-- is not theirs to see once the account is closed. It changes tasks of the row's own user
-- alone. When the user goes, the tasks go too: releasing them then would write rows of a
-- user who is gone, whichever of the tables is emptied first.
create or replace function app_private.tg__release_tasks() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from app_public.users where users.id = old.user_id) then
    return old;
  end if;
  if tg_argv[0] = 'list_id' then
    update app_public.tasks
    set list_id = null, position_in_list = null
    where user_id = old.user_id and list_id = old.id;
  else
    update app_public.tasks
    set project_id = null
    where user_id = old.user_id and project_id = old.id;
  end if;
  return old;
end
$$;

comment on function app_private.tg__release_tasks() is
  'Tasks outlive their list and project.';
--! EndIncluded functions/app_private/tg__release_tasks.sql
--! Included functions/app_public/search_tasks.sql
create or replace function app_public.search_tasks(query text)
returns setof app_public.tasks
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select tasks.*
  from app_public.tasks
  where tasks.user_id = app_hidden.current_app_user_id()
    and tasks.search @@ websearch_to_tsquery('english', search_tasks.query)
  order by ts_rank(tasks.search, websearch_to_tsquery('english', search_tasks.query)) desc,
    tasks.created_at desc, tasks.id
$$;

grant execute on function app_public.search_tasks(text) to app_user;
comment on function app_public.search_tasks(text) is
  'Your tasks that match words in title or description, best first. Understands quotes, or, and a minus sign, as web searches do.';
--! EndIncluded functions/app_public/search_tasks.sql

-- Not ON DELETE SET NULL, which would null user_id as well.
create trigger _200_release_tasks before delete on app_public.lists
  for each row execute function app_private.tg__release_tasks('list_id');

create trigger _200_release_tasks before delete on app_public.projects
  for each row execute function app_private.tg__release_tasks('project_id');
