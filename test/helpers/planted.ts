/** A table that follows every rule, to be spoilt in one way. */
const table = (
  name: string,
  more = '',
  grants = 'select, delete, insert (title), update (title)',
) => `
  create table app_public.${name} (
    user_id uuid not null default app_hidden.current_app_user_id()
      references app_public.users on delete cascade,
    id uuid not null default gen_random_uuid(), title text not null ${more},
    constraint ${name}_pkey primary key (user_id, id));
  alter table app_public.${name} enable row level security;
  create policy own on app_public.${name} to app_user
    using (user_id = app_hidden.current_app_user_id());
  grant ${grants} on app_public.${name} to app_user;`;

/** What one fault is, how it is made, and what must be reported for which object. */
export interface Fault {
  fault: string;
  plant: string;
  object: string;
  leaks: string[];
}

export const faults: Fault[] = [
  {
    fault: 'a table without row-level security',
    plant: `${table('bare')} alter table app_public.bare disable row level security;`,
    object: 'app_public.bare',
    leaks: ['B see', 'B change', 'B delete'],
  },
  {
    fault: 'a policy that shows everything',
    plant: `${table('shown')}
      create policy everyone on app_public.shown for select to app_user using (true);`,
    object: 'app_public.shown',
    leaks: ['B see'],
  },
  {
    fault: 'a policy that shows rows in one state',
    plant: `${table('half_shown', ', is_public boolean not null default false')}
      create policy everyone on app_public.half_shown for select to app_user using (is_public);`,
    object: 'app_public.half_shown',
    leaks: ['B see'],
  },
  {
    fault: 'a policy that shows old rows',
    plant: `${table('once', ', created_at timestamptz not null default now()')}
      create policy everyone on app_public.once for select to app_user
        using (created_at < now() - interval '1 year');`,
    object: 'app_public.once',
    leaks: ['B see'],
  },
  {
    fault: 'a policy that shows rows that are in no place',
    plant: `${table('loose', ', place text')}
      create policy everyone on app_public.loose for select to app_user using (place is null);`,
    object: 'app_public.loose',
    leaks: ['B see'],
  },
  {
    fault: 'a procedure that writes the row that is named',
    plant: `create procedure app_hidden.give_up(p_task_id uuid)
        language sql security definer set search_path = pg_catalog, pg_temp
        as 'update app_public.tasks set status = ''canceled'' where id = p_task_id';
      grant execute on procedure app_hidden.give_up to app_user;`,
    object: 'app_hidden.give_up(uuid)',
    leaks: ['B change'],
  },
  {
    fault: 'a procedure that tells the title of the row that is named',
    plant: `create procedure app_hidden.tell(p_task_id uuid, out title text, out nothing text)
        language plpgsql security definer set search_path = pg_catalog, pg_temp
        as 'begin select tasks.title into title from app_public.tasks
          where id = p_task_id; end';
      grant execute on procedure app_hidden.tell to app_user;`,
    object: 'app_hidden.tell(uuid)',
    leaks: ['B see'],
  },
  {
    fault: 'a table that nobody needs to sign in for',
    plant: `${table('open')} grant select on app_public.open to app_anonymous;
      create policy nobody on app_public.open to app_anonymous using (true);`,
    object: 'app_public.open',
    leaks: ['anonymous see'],
  },
  {
    fault: 'a partition with a grant',
    // It has rows already, which others refer to.
    plant: `grant usage on schema app_partitions to app_user;
      grant select on app_partitions.tasks_h00 to app_user;
      with person as (
        insert into app_public.users (id, email, first_name)
        select id, 'partition@example.com', 'In'
        from (select gen_random_uuid() as id from generate_series(1, 1000)) as ids
        where satisfies_hash_partition('app_public.tasks'::regclass, 16, 0, id)
        limit 1
        returning id
      ), task as (
        insert into app_public.tasks (user_id, title) select id, 'Task' from person
        returning user_id, id
      ), goal as (
        insert into app_public.goals (user_id, title) select id, 'Goal' from person
        returning id
      )
      insert into app_public.goals_tasks (user_id, goal_id, task_id)
      select task.user_id, goal.id, task.id from task cross join goal;`,
    object: 'app_partitions.tasks_h00',
    leaks: ['B see'],
  },
  {
    fault: "a view with its owner's rights",
    plant: `create view app_public.all_tasks as select title from app_public.tasks;
      grant select on app_public.all_tasks to app_user;`,
    object: 'app_public.all_tasks',
    leaks: ['B see', 'B infer'],
  },
  {
    fault: 'a view that counts the rows of all',
    plant: `create view app_public.task_count as select count(*) from app_public.tasks;
      grant select on app_public.task_count to app_user;`,
    object: 'app_public.task_count',
    leaks: ['B infer'],
  },
  {
    fault: 'a materialized view that app_user may read',
    plant: `create materialized view app_public.mv_tasks as
        select user_id, count(*) from app_public.tasks group by 1;
      grant select on app_public.mv_tasks to app_user;`,
    object: 'app_public.mv_tasks',
    leaks: ['B see', 'B infer'],
  },
  {
    fault: 'a definer function that returns the rows of whoever is named',
    plant: `create function app_public.titles_of(p_user_id uuid) returns setof text
        language sql stable security definer set search_path = pg_catalog, pg_temp
        as 'select title from app_public.tasks where user_id = p_user_id';
      grant execute on function app_public.titles_of to app_user;`,
    object: 'app_public.titles_of(uuid)',
    leaks: ['B see', 'B infer'],
  },
  {
    fault: 'a definer function that writes the row that is named',
    plant: `create function app_hidden.finish(p_task_id uuid) returns void
        language sql security definer set search_path = pg_catalog, pg_temp
        as 'update app_public.tasks set status = ''done'' where id = p_task_id';
      grant execute on function app_hidden.finish to app_user;`,
    object: 'app_hidden.finish(uuid)',
    leaks: ['B change'],
  },
  {
    fault: 'a definer function that says whether an id exists',
    plant: `create function app_hidden.has_task(p_task_id uuid) returns boolean
        language sql stable security definer set search_path = pg_catalog, pg_temp
        as 'select exists (select from app_public.tasks where id = p_task_id)';
      grant execute on function app_hidden.has_task to app_user;`,
    object: 'app_hidden.has_task(uuid)',
    leaks: ['B infer'],
  },
  {
    fault: "a foreign key of one column to another user's row",
    plant: `${table('pages', ', constraint pages_id_key unique (id)')}
      ${table(
        'links',
        ', page_id uuid not null references app_public.pages (id)',
        'select, insert (title, page_id)',
      )}`,
    object: 'app_public.links',
    leaks: ['B reference', 'B infer'],
  },
  {
    fault: 'a value that must be unique among all',
    plant: `${table('named', ', constraint named_title_key unique (title)')}`,
    object: 'app_public.named',
    leaks: ['B infer'],
  },
  {
    fault: 'a policy without WITH CHECK for inserted rows',
    plant: `${table('given', '', 'select, insert (user_id, title)')}
      create policy giving on app_public.given for insert to app_user with check (true);`,
    object: 'app_public.given',
    leaks: ['B change'],
  },
  {
    fault: 'an owner that may be changed',
    plant: `${table('moved')} grant update (user_id) on app_public.moved to app_user;`,
    object: 'app_public.moved',
    leaks: ['B change'],
  },
];

/** A table that no row fits into. */
export const unfillable = `${table('unfillable')}
  alter table app_public.unfillable add constraint unfillable_title_check
    check (md5(title) = 'nothing');`;

/** What the API shows: functions, filters, aggregates and inputs that became part of it. */
export const fields = `
  create function app_public.tasks_of(user_id uuid) returns setof app_public.tasks
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as 'select * from app_public.tasks where tasks.user_id = tasks_of.user_id';
  grant execute on function app_public.tasks_of to app_user;
  create function app_public.rename(user_id uuid, title text) returns integer
    language sql security definer set search_path = pg_catalog, pg_temp
    as 'update app_public.tasks set title = rename.title
      where tasks.user_id = rename.user_id; select 1';
  create function app_public.claim(task_id uuid) returns integer
    language sql security definer set search_path = pg_catalog, pg_temp
    as 'select 1 / count(*)::integer from app_public.tasks where id = task_id';
  revoke execute on function app_public.rename, app_public.tasks_of, app_public.claim from public;
  grant execute on function app_public.rename, app_public.claim to app_user;

  -- Nobody can list the notes, and whoever filters the topics by them finds them.
  create table app_public.topics (id uuid default gen_random_uuid() primary key, title text);
  grant select on app_public.topics to app_user;
  ${table('notes', ', topic_id uuid not null references app_public.topics', 'select')}
  create index on app_public.notes (topic_id);
  create policy everyone on app_public.notes for select to app_user using (true);
  comment on table app_public.notes is
    E'@behavior -query:resource:connection -query:resource:single -single\\nNotes.';
  comment on constraint notes_topic_id_fkey on app_public.notes is
    E'@behavior -manyRelation:resource:connection -singleRelation:resource:single';
  comment on constraint notes_user_id_fkey on app_public.notes is
    E'@behavior -manyRelation:resource:connection -singleRelation:resource:single';

  create policy anyone on app_public.chat_messages for select to app_user using (true);

  ${table('pages', ', constraint pages_id_key unique (id)')}
  ${table(
    'links',
    ', page_id uuid not null references app_public.pages (id)',
    'select, insert (title, page_id), update (page_id)',
  )}`;
