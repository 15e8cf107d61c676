--! Previous: sha1:bf62a73fd0998fd07f7a087fd60e3885ffdae32f
--! Hash: sha1:c8bf1b6bd940b0429dc147452e8c6bdca32ee203
--! Message: projects-and-lists
--! Baseline: topics/10-projects-and-lists.sql

/*
 * Projects and lists.
 *
 * A project groups lists, tasks and slides. A list orders tasks. Tasks have a topic of
 * their own, because they outlive both.
 */

-- Projects. Archiving sets a timestamp, so that a project can come back; deleting is
-- final and takes lists and slides along, but no tasks.
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
  constraint projects_topics_check check (jsonb_typeof(topics) = 'array'),
  constraint projects_archived_at_check
    check (archived_at between timestamptz '1970-01-01Z' and timestamptz '9999-12-31Z')
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

-- No insert or update of user_id, created_at and updated_at: a default and a trigger fill
-- them in. The same holds for every table of the planner.
grant select, delete,
  insert (id, name, description, context_metadata, topics, archived_at),
  update (name, description, context_metadata, topics, archived_at)
  on app_public.projects to app_user;

grant select on app_public.projects to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.projects
  for each row execute function app_private.tg__timestamps();

comment on table app_public.projects is
  E'@defaultOrder created_at\n'
  'A project, which groups lists, tasks and visualizations.';
comment on column app_public.projects.user_id is 'The user who owns the project.';
comment on column app_public.projects.id is
  'Id of the project, unique among the user''s projects. A client may choose it when it '
  'creates the project, to make retries safe.';
comment on column app_public.projects.name is
  'Name of the project, 1 to 200 characters, not only white space.';
comment on column app_public.projects.description is
  'Description of the project, at most 20,000 characters; empty by default.';
comment on column app_public.projects.context_metadata is
  'Context of the project for the studio, a JSON object; empty by default.';
comment on column app_public.projects.topics is
  'Topics of the project, a JSON array; empty by default.';
comment on column app_public.projects.archived_at is
  'When the project was archived; null while it is in use.';
comment on column app_public.projects.created_at is 'When the project was created.';
comment on column app_public.projects.updated_at is 'When the project last changed.';
comment on constraint projects_pkey on app_public.projects is
  'you have a project with this id already';
comment on constraint projects_name_check on app_public.projects is
  'a name has 1 to 200 characters, not only white space';
comment on constraint projects_description_check on app_public.projects is
  'a description has at most 20,000 characters';
comment on constraint projects_context_metadata_check on app_public.projects is
  'the metadata are a JSON object';
comment on constraint projects_topics_check on app_public.projects is
  'topics are a JSON array';
comment on constraint projects_archived_at_check on app_public.projects is
  'a time lies between the years 1970 and 9999';

-- Lists, in a project or outside all projects. list_order is not unique: moving a list
-- would otherwise have to write its neighbors too.
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

grant select, delete,
  insert (id, project_id, name, list_order), update (project_id, name, list_order)
  on app_public.lists to app_user;

grant select on app_public.lists to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.lists
  for each row execute function app_private.tg__timestamps();

comment on table app_public.lists is
  E'@defaultOrder list_order\n'
  'An ordered list of tasks. Deleting a project deletes its lists; the tasks stay.';
comment on column app_public.lists.user_id is 'The user who owns the list.';
comment on column app_public.lists.id is
  'Id of the list, unique among the user''s lists. A client may choose it when it '
  'creates the list, to make retries safe.';
comment on column app_public.lists.project_id is
  'The project that contains the list; null for a list outside all projects.';
comment on column app_public.lists.name is
  'Name of the list, 1 to 200 characters, not only white space.';
comment on column app_public.lists.list_order is
  'Position of the list among the lists of its project; 0, the default, is first. Two '
  'lists may have the same position.';
comment on column app_public.lists.created_at is 'When the list was created.';
comment on column app_public.lists.updated_at is 'When the list last changed.';
comment on constraint lists_pkey on app_public.lists is
  'you have a list with this id already';
comment on constraint lists_name_check on app_public.lists is
  'a name has 1 to 200 characters, not only white space';
comment on constraint lists_list_order_check on app_public.lists is
  'a position is 0 or more';
