--! Previous: sha1:90e3b0dcf8d012a69b551789c0578aab4053a941
--! Hash: sha1:272201f3b73bf4c73aebbbc408759b8841204081
--! Message: studio
--! Baseline: topics/20-studio.sql

/*
 * The studio: workspaces, and the visualizations of projects, which are shown as slides.
 */

-- Workspaces. A workspace holds the state of a visualization that is not yet part of a
-- project.
create table app_public.workspaces (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  name text not null,
  data jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint workspaces_pkey primary key (user_id, id),
  constraint workspaces_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint workspaces_name_check
    check (length(name) between 1 and 200 and name !~ '^\s+$'),
  constraint workspaces_data_check check (jsonb_typeof(data) = 'object')
);

create index workspaces_user_id_created_at_idx
  on app_public.workspaces (user_id, created_at);

create index workspaces_user_id_updated_at_idx
  on app_public.workspaces (user_id, updated_at);

alter table app_public.workspaces enable row level security;

create policy own on app_public.workspaces
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.workspaces
  for select to gw_readonly
  using (true);

grant select, delete, insert (id, name, data), update (name, data)
  on app_public.workspaces to app_user;

grant select on app_public.workspaces to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.workspaces
  for each row execute function app_private.tg__timestamps();

comment on table app_public.workspaces is
  E'@defaultOrder updated_at desc\n'
  'A place where a user works on a visualization outside any project.';
comment on column app_public.workspaces.user_id is 'The user who owns the workspace.';
comment on column app_public.workspaces.id is
  'Id of the workspace, unique among the user''s workspaces. A client may choose it when '
  'it creates the workspace, to make retries safe.';
comment on column app_public.workspaces.name is
  'Name of the workspace, 1 to 200 characters, not only white space.';
comment on column app_public.workspaces.data is
  'State of the visualization, a JSON object; empty by default.';
comment on column app_public.workspaces.created_at is 'When the workspace was created.';
comment on column app_public.workspaces.updated_at is 'When the workspace last changed.';
comment on constraint workspaces_pkey on app_public.workspaces is
  'you have a workspace with this id already';
comment on constraint workspaces_name_check on app_public.workspaces is
  'a name has 1 to 200 characters, not only white space';
comment on constraint workspaces_data_check on app_public.workspaces is
  'the data are a JSON object';

-- The slides of a project. The unique constraint on the slide number is checked at the
-- end of a statement, so that one update can exchange numbers. It is deferrable for that.
-- The price: "on conflict" cannot name this constraint, nor omit its target.
create table app_public.project_visualizations (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  project_id uuid not null,
  slide_number integer not null,
  title text not null default '',
  data jsonb not null default '{}',
  annotations jsonb not null default '[]',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint project_visualizations_pkey primary key (user_id, id),
  constraint project_visualizations_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint project_visualizations_user_id_project_id_fkey
    foreign key (user_id, project_id) references app_public.projects (user_id, id)
    on delete cascade,
  -- Its index also serves the foreign key to projects, and the slides in order.
  constraint project_visualizations_user_id_project_id_slide_number_key
    unique (user_id, project_id, slide_number) deferrable initially immediate,
  constraint project_visualizations_slide_number_check check (slide_number >= 1),
  constraint project_visualizations_title_check check (length(title) <= 200),
  constraint project_visualizations_data_check check (jsonb_typeof(data) = 'object'),
  constraint project_visualizations_annotations_check
    check (jsonb_typeof(annotations) = 'array')
);

alter table app_public.project_visualizations enable row level security;

create policy own on app_public.project_visualizations
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.project_visualizations
  for select to gw_readonly
  using (true);

-- No update of project_id: a slide stays in its project.
grant select, delete,
  insert (id, project_id, slide_number, title, data, annotations),
  update (slide_number, title, data, annotations)
  on app_public.project_visualizations to app_user;

grant select on app_public.project_visualizations to gw_readonly;

create trigger _100_timestamps before insert or update
  on app_public.project_visualizations
  for each row execute function app_private.tg__timestamps();

-- The API finds, updates and deletes a slide by its id only, not also by its number.
comment on constraint project_visualizations_user_id_project_id_slide_number_key
  on app_public.project_visualizations is
  E'@behavior -single -update -delete\nA slide number is used once in a project.';
comment on table app_public.project_visualizations is
  E'@defaultOrder slide_number\n'
  'A visualization of a project, shown as a slide. Deleting the project deletes its '
  'visualizations.';
comment on column app_public.project_visualizations.user_id is
  'The user who owns the project.';
comment on column app_public.project_visualizations.id is
  'Id of the visualization, unique among the user''s visualizations. A client may choose '
  'it when it creates the visualization, to make retries safe.';
comment on column app_public.project_visualizations.project_id is
  'The project that contains the visualization.';
comment on column app_public.project_visualizations.slide_number is
  'Position of the slide in its project, 1 or more; unique in the project. Gaps are '
  'allowed.';
comment on column app_public.project_visualizations.title is
  'Title of the slide, at most 200 characters; empty by default.';
comment on column app_public.project_visualizations.data is
  'Content of the visualization, a JSON object; empty by default.';
comment on column app_public.project_visualizations.annotations is
  'Annotations of the slide, a JSON array; empty by default.';
comment on column app_public.project_visualizations.created_at is
  'When the visualization was created.';
comment on column app_public.project_visualizations.updated_at is
  'When the visualization last changed.';
comment on constraint project_visualizations_pkey on app_public.project_visualizations is
  'you have a visualization with this id already';
comment on constraint project_visualizations_user_id_project_id_slide_number_key on app_public.project_visualizations is
  'the project has a slide with this number already';
comment on constraint project_visualizations_slide_number_check on app_public.project_visualizations is
  'a slide number is 1 or more';
comment on constraint project_visualizations_title_check on app_public.project_visualizations is
  'a title has at most 200 characters';
comment on constraint project_visualizations_data_check on app_public.project_visualizations is
  'the data are a JSON object';
comment on constraint project_visualizations_annotations_check on app_public.project_visualizations is
  'annotations are a JSON array';

--! Included functions/app_public/reorder_visualizations.sql
create or replace function app_public.reorder_visualizations(
  project_id uuid, visualization_ids uuid[]
) returns setof app_public.project_visualizations
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  caller uuid := app_hidden.current_app_user_id();
  present uuid[];
begin
  -- The lock waits for transactions that add slides, which hold a weaker lock on the
  -- project, and for other calls of this function. The slides are read after that.
  perform
  from app_public.projects
  where projects.user_id = caller
    and projects.id = reorder_visualizations.project_id
  for update;
  -- A project of another user gives the same error as one that does not exist.
  if not found then
    visualization_ids := null;
  end if;
  -- The slides are locked too, to wait for transactions that delete or renumber one.
  present := array(
    select locked.id
    from (
      select project_visualizations.id
      from app_public.project_visualizations
      where project_visualizations.user_id = caller
        and project_visualizations.project_id = reorder_visualizations.project_id
      order by project_visualizations.id
      for no key update
    ) as locked
    order by locked.id
  );
  if present is distinct from array(
      select given.id
      from unnest(reorder_visualizations.visualization_ids) as given (id)
      order by given.id
    )
    or reorder_visualizations.visualization_ids is null
  then
    raise exception 'name each visualization of the project exactly once'
      using errcode = 'GW021',
        column = 'visualization_ids',
        hint = 'Read the visualizations again: some were added or deleted.';
  end if;

  -- One statement, because the constraint on the numbers is checked at its end.
  update app_public.project_visualizations
  set slide_number = given.place
  from unnest(reorder_visualizations.visualization_ids)
    with ordinality as given (id, place)
  where project_visualizations.user_id = caller
    and project_visualizations.id = given.id
    and project_visualizations.slide_number <> given.place;

  return query
    select project_visualizations.*
    from app_public.project_visualizations
    where project_visualizations.user_id = caller
      and project_visualizations.project_id = reorder_visualizations.project_id
    order by project_visualizations.slide_number;
end
$$;

grant execute on function app_public.reorder_visualizations(uuid, uuid[]) to app_user;
comment on function app_public.reorder_visualizations(uuid, uuid[]) is
  'Numbers the slides of a project 1, 2, 3 in the given order: all of them or none. '
  'Error: VALIDATION_FAILED (visualizationIds) unless the list contains each slide of '
  'the project exactly once.';
--! EndIncluded functions/app_public/reorder_visualizations.sql
