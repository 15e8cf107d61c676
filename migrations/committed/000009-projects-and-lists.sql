--! Previous: sha1:42af5e457670bb3872ec872e609d19156b4533bd
--! Hash: sha1:1ed6deabfc5a100d03a220c0830613972f1d226d
--! Message: projects-and-lists

--! split: 0001-x.sql
/*
 * Where tasks belong: projects, and ordered lists in them. Projects are shared by the
 * planner and the studio.
 *
 * Locks: app_public.tasks is altered in this transaction (ACCESS EXCLUSIVE on it and its 16
 * partitions). The generated column rewrites the table: on a table with rows, minutes; this
 * release is the first, so it is empty.
 */

create table app_public.projects (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  name text not null,
  description text not null default '',
  context_metadata jsonb not null default '{}',
  topics jsonb not null default '[]',
  archived_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint projects_pkey primary key (user_id, id),
  constraint projects_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint projects_name_check
    check (length(name) between 1 and 200 and name !~ '^\s+$'),
  constraint projects_description_check check (length(description) <= 20000),
  constraint projects_context_metadata_check
    check (jsonb_typeof(context_metadata) = 'object'),
  constraint projects_topics_check check (jsonb_typeof(topics) = 'array')
);

create index projects_user_id_created_at_idx on app_public.projects (user_id, created_at);
create index projects_user_id_updated_at_idx on app_public.projects (user_id, updated_at);

alter table app_public.projects enable row level security;
create policy own on app_public.projects
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.projects
  for select to gw_readonly
  using (true);
grant select, delete on app_public.projects to app_user;
grant insert (id, name, description, context_metadata, topics, archived_at),
  update (name, description, context_metadata, topics, archived_at)
  on app_public.projects to app_user;
grant select on app_public.projects to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.projects
  for each row execute function app_private.tg__timestamps();

comment on table app_public.projects is
  'What lists, tasks and visualizations are gathered under.';
comment on column app_public.projects.user_id is 'Whose project it is.';
comment on column app_public.projects.id is
  'Unique among the user''s projects. A client may choose it, to make retries safe.';
comment on column app_public.projects.name is '1 to 200 characters.';
comment on column app_public.projects.description is 'At most 20,000 characters.';
comment on column app_public.projects.context_metadata is
  'A JSON object that the studio keeps for a project.';
comment on column app_public.projects.topics is 'A JSON array of topics.';
comment on column app_public.projects.archived_at is
  'When the project was put away; null while it is in use.';
comment on column app_public.projects.created_at is 'When the project was made.';
comment on column app_public.projects.updated_at is 'When the project last changed.';

-- A list may stand in a project or by itself. Its place among its siblings is list_order.
create table app_public.lists (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  project_id uuid,
  name text not null,
  list_order integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint lists_pkey primary key (user_id, id),
  constraint lists_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint lists_user_id_project_id_fkey
    foreign key (user_id, project_id) references app_public.projects (user_id, id)
    on delete cascade,
  constraint lists_name_check
    check (length(name) between 1 and 200 and name !~ '^\s+$'),
  constraint lists_list_order_check check (list_order >= 0)
);

create index lists_user_id_project_id_list_order_idx
  on app_public.lists (user_id, project_id, list_order);
create index lists_user_id_created_at_idx on app_public.lists (user_id, created_at);

alter table app_public.lists enable row level security;
create policy own on app_public.lists
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.lists
  for select to gw_readonly
  using (true);
grant select, delete on app_public.lists to app_user;
grant insert (id, project_id, name, list_order), update (project_id, name, list_order)
  on app_public.lists to app_user;
grant select on app_public.lists to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.lists
  for each row execute function app_private.tg__timestamps();

comment on table app_public.lists is
  'An ordered list of tasks. Deleting a project deletes its lists; their tasks stay.';
comment on column app_public.lists.user_id is 'Whose list it is.';
comment on column app_public.lists.id is 'Unique among the user''s lists.';
comment on column app_public.lists.project_id is
  'The project that it stands in; null when it stands by itself.';
comment on column app_public.lists.name is '1 to 200 characters.';
comment on column app_public.lists.list_order is
  'Its place among the lists of the project, 0 first. Equal places are allowed.';
comment on column app_public.lists.created_at is 'When the list was made.';
comment on column app_public.lists.updated_at is 'When the list last changed.';

alter table app_public.tasks
  add column project_id uuid,
  add column list_id uuid,
  add column position_in_list integer,
  add column search tsvector not null generated always as (
    to_tsvector('english', title || ' ' || description)) stored;
-- Named constraints by themselves: a distributing extension refuses them with the column.
alter table app_public.tasks
  add constraint tasks_user_id_project_id_fkey
    foreign key (user_id, project_id) references app_public.projects (user_id, id);
alter table app_public.tasks
  add constraint tasks_user_id_list_id_fkey
    foreign key (user_id, list_id) references app_public.lists (user_id, id);
alter table app_public.tasks
  add constraint tasks_position_in_list_check check (position_in_list >= 0);

create index tasks_user_id_list_id_position_in_list_idx
  on app_public.tasks (user_id, list_id, position_in_list)
  where list_id is not null;
create index tasks_user_id_project_id_priority_created_at_idx
  on app_public.tasks (user_id, project_id, priority, created_at)
  where project_id is not null;
-- No GIN index on search: the operator @@ is not leakproof, so under row-level security it
-- is only asked of rows that an index on user_id has found. Within one user's rows that is
-- quick, and the index would cost every write.

grant insert (project_id, list_id, position_in_list),
  update (project_id, list_id, position_in_list)
  on app_public.tasks to app_user;

--! Included functions/app_private/tg__release_tasks.sql
-- Takes the column of tasks that refers to the row. Runs with the rights of whoever deletes:
-- they may update their own tasks. A cascade from users needs nothing: the tasks go too.
create or replace function app_private.tg__release_tasks() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
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
--! EndIncluded functions/app_private/tg__release_tasks.sql
comment on function app_private.tg__release_tasks() is
  'Tasks outlive their list and project.';

-- Not ON DELETE SET NULL, which would null user_id as well.
create trigger _200_release_tasks before delete on app_public.lists
  for each row execute function app_private.tg__release_tasks('list_id');
create trigger _200_release_tasks before delete on app_public.projects
  for each row execute function app_private.tg__release_tasks('project_id');

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
--! EndIncluded functions/app_public/search_tasks.sql
grant execute on function app_public.search_tasks(text) to app_user;
comment on function app_public.search_tasks(text) is
  'Your tasks that match words in title or description, best first. Understands quotes, or, and a minus sign, as web searches do.';

comment on column app_public.tasks.project_id is 'The project that the task belongs to.';
comment on column app_public.tasks.list_id is 'The list that the task stands in.';
comment on column app_public.tasks.position_in_list is
  'Its place in the list, 0 first. Equal places are allowed.';
comment on column app_public.tasks.search is
  E'@behavior -attribute:select -attribute:filterBy -attribute:orderBy -condition:attribute:filterBy\nWhat search_tasks() looks in.';
