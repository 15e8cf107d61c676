--! Previous: sha1:c8bf1b6bd940b0429dc147452e8c6bdca32ee203
--! Hash: sha1:b40871ede44ea64c38ae3ea523b0ec1cedcc1891
--! Message: tasks
--! Baseline: topics/11-tasks.sql

/*
 * Tasks, the largest table of the planner: 16 hash partitions by user.
 *
 * Every policy compares user_id, so a statement of the API runs on one partition. Vacuum
 * and index builds work on one sixteenth of the rows at a time.
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
    -- A bulk load may set the time; app_user has no right to write the column.
    else coalesce(new.completed_at, now())
  end;
  return new;
end
$$;

comment on function app_private.tg_tasks__completion() is
  'Sets completed_at when status becomes done, and clears it otherwise.';
--! EndIncluded functions/app_private/tg_tasks__completion.sql

-- Tasks. A task stays when its list or project is deleted, so its foreign keys to them do
-- not cascade: _200_release_tasks removes the references first.
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
  constraint tasks_done_check check ((completed_at is not null) = (status = 'done')),
  -- Their local days exist in every time zone.
  constraint tasks_created_at_check
    check (created_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z'),
  constraint tasks_completed_at_check
    check (completed_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z')
) partition by hash (user_id);

do $partitions$
begin
  for remainder in 0..15 loop
    execute pg_catalog.format('create table app_partitions.tasks_h%s'
      ' partition of app_public.tasks for values with (modulus 16, remainder %s)'
      -- A partitioned table cannot hold storage settings, so each partition has them.
      -- Tasks change often: vacuum at 5 % dead rows, not 20 %.
      ' with (autovacuum_vacuum_scale_factor = 0.05)',
      pg_catalog.lpad(remainder::text, 2, '0'), remainder);
  end loop;
end
$partitions$;

-- Also serves (user_id, status). Every index begins with user_id, which every statement
-- compares.
create index tasks_user_id_status_updated_at_idx
  on app_public.tasks (user_id, status, updated_at);

-- From low to urgent, as the API orders them.
create index tasks_user_id_priority_place_id_idx on app_public.tasks
  (user_id, array_position(array['low', 'medium', 'high', 'urgent'], priority), id);

create index tasks_user_id_due_date_idx on app_public.tasks (user_id, due_date);

create index tasks_user_id_created_at_idx on app_public.tasks (user_id, created_at);

create index tasks_user_id_list_id_position_in_list_idx_where_known
  on app_public.tasks (user_id, list_id, position_in_list)
  where list_id is not null;

create index tasks_user_id_project_id_priority_created_at_idx_where_known
  on app_public.tasks (user_id, project_id, priority, created_at)
  where project_id is not null;

-- The operator @@ is not leakproof, so under row-level security this index serves user_id
-- alone. matching_tasks() reaches all of it, for its caller's rows.
create index tasks_user_id_search_idx on app_public.tasks using gin (user_id, search);

-- For pages in the order of the title, or of when tasks were done.
create index tasks_user_id_title_id_idx on app_public.tasks (user_id, title, id);

create index tasks_user_id_completed_at_id_idx on app_public.tasks (user_id, completed_at, id);

alter table app_public.tasks enable row level security;

create policy own on app_public.tasks
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.tasks
  for select to gw_readonly
  using (true);

-- No insert or update of completed_at: _500_completion derives it from status.
grant select, delete,
  insert (id, title, description, status, priority, due_date, project_id, list_id,
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

comment on table app_public.tasks is
  E'@defaultOrder created_at\n'
  'A task of a user. Deleting its list or project does not delete the task.';
comment on column app_public.tasks.user_id is 'The user who owns the task.';
comment on column app_public.tasks.id is
  'Id of the task, unique among the user''s tasks. A client may choose it when it '
  'creates the task, to make retries safe.';
comment on column app_public.tasks.title is
  'Title of the task, 1 to 500 characters, not only white space.';
comment on column app_public.tasks.description is
  'Description of the task, at most 20,000 characters; empty by default.';
comment on column app_public.tasks.status is
  'Status of the task: todo (the default), in_progress, done or canceled.';
comment on column app_public.tasks.priority is
  'Priority of the task: low, medium (the default), high or urgent.';
comment on column app_public.tasks.due_date is
  'The day by which the task should be done, in the user''s time zone; null when there '
  'is none.';
comment on column app_public.tasks.project_id is
  'The project that the task belongs to; null for a task outside all projects.';
comment on column app_public.tasks.list_id is
  'The list that contains the task; null for a task outside all lists.';
comment on column app_public.tasks.position_in_list is
  'Position of the task in its list; 0 is first. Two tasks may have the same position.';
comment on column app_public.tasks.completed_at is
  'When the task became done; null while its status is another.';
comment on column app_public.tasks.created_at is 'When the task was created.';
comment on column app_public.tasks.updated_at is 'When the task last changed.';
comment on column app_public.tasks.search is
  E'@behavior -attribute:select -attribute:filterBy -attribute:orderBy -condition:attribute:filterBy\n'
  'The words of title and description, for search_tasks().';
comment on constraint tasks_pkey on app_public.tasks is
  'you have a task with this id already';
comment on constraint tasks_position_in_list_check on app_public.tasks is
  'a position is 0 or more';
comment on constraint tasks_title_check on app_public.tasks is
  'a title has 1 to 500 characters, not only white space';
comment on constraint tasks_description_check on app_public.tasks is
  'a description has at most 20,000 characters';
comment on constraint tasks_status_check on app_public.tasks is
  E'@enum TaskStatus\n'
  '@value todo Not begun.\n'
  '@value in_progress Begun and not done.\n'
  '@value done Done; completedAt says since when.\n'
  '@value canceled Will not be done.\n'
  'a status is todo, in_progress, done or canceled';
comment on constraint tasks_priority_check on app_public.tasks is
  E'@enum TaskPriority\n'
  '@value low Can wait.\n'
  '@value medium As most tasks are.\n'
  '@value high Before others.\n'
  '@value urgent Before all others.\n'
  'a priority is low, medium, high or urgent';
comment on constraint tasks_due_date_check on app_public.tasks is
  'a due date lies between the years 1970 and 9999';

--! Included functions/app_private/tg__release_tasks.sql
-- The argument is the column of tasks that refers to the deleted row. Definer: a policy
-- hides the row of a closed account, so the trigger could not see whether the user
-- exists. It changes only tasks of the user who owns the deleted row. When the user is
-- deleted, the tasks are deleted too, before or after; releasing them would write rows of
-- a user who does not exist.
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
  'Removes tasks from a list or project that is being deleted.';
--! EndIncluded functions/app_private/tg__release_tasks.sql
--! Included functions/app_hidden/to_search_query.sql
create or replace function app_hidden.to_search_query(words text, argument text)
returns tsquery
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted tsquery;
begin
  if length(words) > 1000 then
    raise exception 'a text to search for has at most 1000 characters'
      using errcode = 'GW002', column = argument;
  end if;
  wanted := websearch_to_tsquery('english', words);
  -- The last word may still be typed, so its beginning is enough. Not behind a minus sign:
  -- that would leave out more than was said.
  if words ~ '[[:alnum:]]$' and wanted::text ~ '(^|[^!])''[^'']+''$' then
    wanted := (wanted::text || ':*')::tsquery;
  end if;
  return wanted;
end
$$;

grant execute on function app_hidden.to_search_query(text, text) to app_user;
comment on function app_hidden.to_search_query(text, text) is
  'What to look for when somebody searches for these words, as in a web search: quotes, '
  '"or" and a minus sign; the last word matches words that begin with it. Raises GW002, '
  'naming the argument, above 1000 characters.';
--! EndIncluded functions/app_hidden/to_search_query.sql
--! Included functions/app_hidden/matching_tasks.sql
-- Definer: only so can the index on search be used, because @@ is not leakproof. It looks at
-- its caller's rows only. Where they lie, for the statement that asks: of 20,000 rows, ids
-- would be looked up one by one, which takes twice as long as reading the rows.
create or replace function app_hidden.matching_tasks(query tsquery) returns tid[]
language sql stable parallel safe strict security definer
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select tasks.ctid
    from app_public.tasks
    where tasks.user_id = app_hidden.current_app_user_id()
      and tasks.search @@ query)
$$;

grant execute on function app_hidden.matching_tasks(tsquery) to app_user;
comment on function app_hidden.matching_tasks(tsquery) is
  'Where the current user''s tasks that match lie in their partition: compare user_id as '
  'well as ctid, and in the same statement. The filter of the API by text calls it.';
--! EndIncluded functions/app_hidden/matching_tasks.sql
--! Included functions/app_public/search_tasks.sql
-- Definer, for the reason of matching_tasks(): it reads its caller's rows only.
create or replace function app_public.search_tasks(query text)
returns setof app_public.tasks
language sql stable strict security definer
set search_path = pg_catalog, pg_temp
as $$
  select tasks.*
  from app_public.tasks
  where tasks.user_id = app_hidden.current_app_user_id()
    -- In a query of its own, which runs once and not for each row.
    and tasks.search @@ (select app_hidden.to_search_query(search_tasks.query, 'query'))
  order by
    ts_rank(tasks.search, (select app_hidden.to_search_query(search_tasks.query, 'query'))) desc,
    tasks.created_at desc, tasks.id
$$;

grant execute on function app_public.search_tasks(text) to app_user;
comment on function app_public.search_tasks(text) is
  'Your tasks whose title or description matches the query, best match first. Quotes, '
  '"or" and a minus sign work as in a web search; the last word may be its beginning.';
--! EndIncluded functions/app_public/search_tasks.sql

-- A trigger, because ON DELETE SET NULL would set user_id to null as well.
create trigger _200_release_tasks before delete on app_public.lists
  for each row execute function app_private.tg__release_tasks('list_id');

create trigger _200_release_tasks before delete on app_public.projects
  for each row execute function app_private.tg__release_tasks('project_id');
