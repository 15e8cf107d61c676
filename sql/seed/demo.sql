-- Demo data, set-based, for any number of users. Can be repeated: users that are there
-- (by e-mail) are left alone, so that a larger number adds the missing ones.
--
-- The session carries how many in the setting groundwork.seed_users. Everybody's password
-- is "groundwork-demo". One user in five has a birthday today, in a zone where it is
-- between 09:00 and 20:00 now, so that messages can be seen to arrive.
create temporary table seeded (
  user_id uuid primary key,
  -- Stands in for chance: the same user gets the same data on every machine.
  seed integer not null
) on commit drop;

with wanted as (
  select number
  from generate_series(1, current_setting('groundwork.seed_users')::integer) as number
),
-- Real places, in a fixed order; those where it is daytime now are numbered apart.
places as (
  select name,
    row_number() over (order by hashtext(name), name) - 1 as place,
    count(*) over () as places
  from app_hidden.timezones
  where name ~ '^(Africa|America|Asia|Atlantic|Australia|Europe|Indian|Pacific)/'
),
daytime as (
  select name,
    row_number() over (order by hashtext(name), name) - 1 as place,
    count(*) over () as places
  from places
  where (now() at time zone name)::time between time '09:05' and time '20:00'
),
first_names as (
  select array['Ada', 'Amara', 'Anton', 'Beatriz', 'Chen', 'Dimitri', 'Elif', 'Fatima',
    'Grace', 'Hugo', 'Ingrid', 'Jamal', 'Keiko', 'Lars', 'Mei', 'Nadia', 'Omar', 'Priya',
    'Quentin', 'Rosa', 'Sven', 'Tariq', 'Uma', 'Viktor', 'Wanjiru', 'Ximena', 'Yusuf',
    'Zofia'] as names
),
last_names as (
  select array['Abebe', 'Berg', 'Costa', 'Dubois', 'Eriksen', 'Fischer', 'Garcia', 'Haddad',
    'Ivanova', 'Jansen', 'Kim', 'Lopez', 'Mwangi', 'Nguyen', 'Okafor', 'Petrov', 'Rossi',
    'Sato', 'Tanaka', 'Weber', 'Yilmaz'] as names
),
people as (
  select wanted.number,
    'demo' || wanted.number || '@example.com' as email,
    first_names.names[1 + wanted.number % cardinality(first_names.names)] as first_name,
    last_names.names[1 + (wanted.number / 7) % cardinality(last_names.names)] as last_name,
    wanted.number % 5 = 0 as celebrates_today,
    coalesce(case when wanted.number % 5 = 0 then daytime.name end, places.name) as timezone,
    -- Back by a multiple of four years, so that February 29 stays what it is.
    make_interval(years => 20 + 4 * (wanted.number % 12)) as age,
    date '1960-01-01' + abs(hashtext('birthday' || wanted.number)) % 16000 as birthday,
    date '1995-01-01' + abs(hashtext('anniversary' || wanted.number)) % 10000 as anniversary
  from wanted
  cross join first_names
  cross join last_names
  inner join places on places.place = (wanted.number * 31) % places.places
  left join daytime on daytime.place = wanted.number % daytime.places
),
created as (
  insert into app_public.users (email, email_verified, first_name, last_name, timezone,
    birthday_date, anniversary_date, created_at, last_login_at)
  select email, true, first_name, last_name, timezone,
    case when celebrates_today then ((now() at time zone timezone)::date - age)::date
      else birthday end,
    case when number % 3 = 0 then anniversary end,
    now() - make_interval(days => 120 + number % 300), now() - make_interval(hours => number % 900)
  from people
  on conflict (lower(email)) where deleted_at is null do nothing
  returning id, email, last_login_at
),
settings as (
  insert into app_public.user_settings (user_id, theme)
  select id, case abs(hashtext(email)) % 3 when 0 then 'dark' when 1 then 'light'
    else 'system' end
  from created
),
-- One hash for all: bcrypt is slow on purpose.
password as materialized (
  select public.crypt('groundwork-demo', public.gen_salt('bf', 10)) as hash
),
secrets as (
  insert into app_private.user_secrets (user_id, password_hash)
  select created.id, password.hash
  from created
  cross join password
),
-- Sessions of those who signed in lately. Nobody has their refresh tokens.
sessions as (
  insert into app_private.sessions (user_id, refresh_token_hash, created_at, last_used_at,
    expires_at)
  select id, sha256(public.gen_random_bytes(32)), last_login_at, last_login_at,
    last_login_at + interval '30 days'
  from created
  where last_login_at > now() - interval '30 days'
)
insert into seeded (user_id, seed)
select id, abs(hashtext(email)) % 1000000
from created;

analyze seeded;

insert into app_public.projects (user_id, name, description, topics, created_at)
select seeded.user_id,
  (array['House', 'Garden', 'Thesis', 'Holiday', 'Side project', 'Health']
  )[1 + (seeded.seed + number) % 6],
  'What belongs to it, in one place.',
  jsonb_build_array('plan', 'budget'),
  now() - make_interval(days => 90 + (seeded.seed + number) % 200)
from seeded
cross join lateral generate_series(1, 1 + seeded.seed % 3) as number;

insert into app_public.lists (user_id, project_id, name, list_order)
select projects.user_id, projects.id,
  (array['Soon', 'Later', 'Waiting'])[1 + number], number
from app_public.projects
inner join seeded on seeded.user_id = projects.user_id
cross join generate_series(0, 2) as number
order by projects.user_id;

with own_lists as (
  select lists.user_id, lists.id, lists.project_id,
    row_number() over (partition by lists.user_id order by lists.id) as place,
    count(*) over (partition by lists.user_id) as lists
  from app_public.lists
  inner join seeded on seeded.user_id = lists.user_id
)
insert into app_public.tasks (user_id, title, description, status, priority, due_date,
  project_id, list_id, position_in_list, completed_at, created_at, updated_at)
select seeded.user_id,
  (array['Call the dentist', 'Write the report', 'Buy groceries', 'Plan the trip',
    'Fix the bicycle', 'Read a chapter', 'Renew the passport', 'Water the plants',
    'Book a table', 'Clean the kitchen', 'Learn ten words', 'Send the invoice']
  )[1 + (seeded.seed + number) % 12],
  case when number % 5 = 0 then 'Not before the weekend.' else '' end,
  (array['todo', 'todo', 'in_progress', 'done', 'done', 'done', 'canceled']
  )[1 + (seeded.seed / 12 + number) % 7],
  (array['low', 'medium', 'medium', 'high', 'urgent'])[1 + (seeded.seed / 84 + number) % 5],
  case when number % 4 > 0 then current_date + (seeded.seed + number * 3) % 40 - 10 end,
  own_lists.project_id, own_lists.id, case when own_lists.id is not null then number end,
  moment.changed_at, moment.created_at, moment.changed_at
from seeded
cross join lateral generate_series(1, 5 + seeded.seed % 31) as number
-- Made in the last twelve weeks, and done, if at all, within five days.
cross join lateral (
  select now() - make_interval(hours => (seeded.seed + number * 53) % 2016)
) as made (created_at)
cross join lateral (
  select made.created_at,
    least(now(), made.created_at + make_interval(hours => (seeded.seed + number * 11) % 120))
) as moment (created_at, changed_at)
-- Three tasks in four stand in a list.
left join own_lists on own_lists.user_id = seeded.user_id
  and own_lists.place = 1 + number % own_lists.lists
  and number % 4 > 0
-- User by user, as of every long insert: neighbours in an index are then written together.
order by seeded.user_id;

-- What follows joins these; without statistics the joins would be planned for empty tables.
analyze app_public.users, app_public.projects, app_public.lists, app_public.tasks;

insert into app_public.goals (user_id, title, status, target_date)
select seeded.user_id,
  (array['Run a marathon', 'Learn Portuguese', 'Read twelve books', 'Save for a house',
    'Play the piano'])[1 + (seeded.seed + number) % 5],
  (array['active', 'active', 'achieved', 'paused'])[1 + (seeded.seed + number) % 4],
  current_date + 30 + (seeded.seed + number) % 300
from seeded
cross join lateral generate_series(1, 1 + seeded.seed % 2) as number;

insert into app_public.goals_tasks (user_id, goal_id, task_id)
select goals.user_id, goals.id, tasks.id
from app_public.goals
inner join seeded on seeded.user_id = goals.user_id
inner join app_public.tasks on tasks.user_id = goals.user_id
  and tasks.position_in_list < 4
order by goals.user_id;

insert into app_public.habits (user_id, name)
select seeded.user_id,
  (array['Run', 'Read', 'Stretch', 'Drink water', 'Practise'])[1 + (seeded.seed + number) % 5]
from seeded
cross join lateral generate_series(1, 1 + seeded.seed % 3) as number;

insert into app_public.habit_logs (user_id, habit_id, log_date)
select habits.user_id, habits.id, current_date - number
from app_public.habits
inner join seeded on seeded.user_id = habits.user_id
cross join generate_series(0, 20) as number
where (seeded.seed + number) % 5 > 0
order by habits.user_id;

insert into app_public.reflections (user_id, reflection_date, kind, mood_score, content,
  created_at)
select seeded.user_id, current_date - number * 3, 'daily', 1 + (seeded.seed + number) % 5,
  (array['A good day.', 'Slow, but it moves.', 'Too many meetings.', 'Long walk, clear head.']
  )[1 + (seeded.seed + number) % 4],
  least(now(), current_date - number * 3 + interval '20 hours')
from seeded
cross join generate_series(0, 12) as number
order by seeded.user_id;

analyze app_public.goals, app_public.habits, app_public.reflections;

insert into app_public.reflection_tasks (user_id, reflection_id, task_id)
select reflections.user_id, reflections.id, tasks.id
from app_public.reflections
inner join seeded on seeded.user_id = reflections.user_id
inner join app_public.tasks on tasks.user_id = reflections.user_id
  and tasks.position_in_list = 1
where reflections.reflection_date = current_date;

insert into app_public.reflection_goals (user_id, reflection_id, goal_id)
select reflections.user_id, reflections.id, goals.id
from app_public.reflections
inner join seeded on seeded.user_id = reflections.user_id
inner join app_public.goals on goals.user_id = reflections.user_id
where reflections.reflection_date = current_date;

insert into app_public.reflection_habits (user_id, reflection_id, habit_id)
select reflections.user_id, reflections.id, habits.id
from app_public.reflections
inner join seeded on seeded.user_id = reflections.user_id
inner join app_public.habits on habits.user_id = reflections.user_id
where reflections.reflection_date = current_date;

insert into app_public.integrations (user_id, provider, credential_reference, settings)
select user_id, 'calendar', 'vault://demo/calendar', '{"colour": "blue"}'
from seeded
where seed % 4 = 0;

insert into app_public.user_endpoints (user_id, kind, address, label, verified_at)
select user_id, 'sms', '+49 30 23125' || lpad(seed::text, 6, '0'), 'phone', now()
from seeded
where seed % 4 = 0;

insert into app_public.snapshots (user_id, name, content)
select seeded.user_id, 'Start', jsonb_build_object('tasks_total', count(tasks.id))
from seeded
left join app_public.tasks on tasks.user_id = seeded.user_id
group by seeded.user_id;

insert into app_public.digests (user_id, week_start, content)
select digest.user_id, digest.week_start, digest.content
from (
  select array_agg(user_id) as users,
    array_agg(date_trunc('week', now())::date - 7) as weeks
  from seeded
) as wanted
cross join lateral app_private.digest_contents(wanted.users, wanted.weeks) as digest;

-- One user in ten pays; the row itself came with the user.
update app_public.subscriptions
set tier = case when seeded.seed % 30 = 0 then 'team' else 'pro' end,
  stripe_customer_id = 'cus_demo' || seeded.seed || left(md5(seeded.user_id::text), 8),
  stripe_subscription_id = 'sub_demo' || seeded.seed || left(md5(seeded.user_id::text), 8),
  usage_count = seeded.seed % 50
from seeded
where subscriptions.user_id = seeded.user_id
  and seeded.seed % 10 = 0;

insert into app_private.stripe_events (event_id, type, stripe_subscription_id, occurred_at,
  received_at, payload, applied)
select 'evt_demo' || seeded.seed || left(md5(seeded.user_id::text), 8),
  'customer.subscription.created', subscriptions.stripe_subscription_id,
  date_trunc('second', subscriptions.current_period_start),
  subscriptions.current_period_start, '{}', true
from seeded
inner join app_public.subscriptions on subscriptions.user_id = seeded.user_id
where subscriptions.stripe_subscription_id is not null;

insert into app_public.chats (user_id, title)
select seeded.user_id, (array['Trip ideas', 'Code review', 'Dinner'])[1 + seeded.seed % 3]
from seeded
where seeded.seed % 2 = 0;

insert into app_public.chat_messages (user_id, chat_id, role, content, created_at)
select chats.user_id, chats.id,
  (array['user', 'assistant'])[1 + number % 2],
  (array['What would you suggest?', 'Start with the simplest thing that works.',
    'And then?', 'Measure it, and change what the measurement shows.'])[1 + number],
  now() - make_interval(mins => 60 - number)
from app_public.chats
inner join seeded on seeded.user_id = chats.user_id
cross join generate_series(0, 3) as number;

-- Six kilobytes each, so few of them.
insert into app_public.chat_vectors (user_id, chat_id, message_id, content, embedding)
select chat_messages.user_id, chat_messages.chat_id, chat_messages.id, chat_messages.content,
  embedding.value
from app_public.chat_messages
inner join seeded on seeded.user_id = chat_messages.user_id
cross join lateral (
  select array_agg(sin(seeded.seed + number))::public.vector as value
  from generate_series(1, 1536) as number
) as embedding
where seeded.seed % 40 = 0
  and chat_messages.role = 'assistant';

insert into app_public.workspaces (user_id, name, data)
select user_id, 'Sketches', '{"zoom": 1, "shapes": []}'
from seeded
where seed % 3 = 0;

insert into app_public.project_visualizations (user_id, project_id, slide_number, title, data)
select projects.user_id, projects.id, number, 'Slide ' || number,
  jsonb_build_object('kind', 'bar', 'values', jsonb_build_array(number, number * 2))
from app_public.projects
inner join seeded on seeded.user_id = projects.user_id
cross join generate_series(1, 3) as number
where seeded.seed % 3 = 0;

-- The messages of birthdays and anniversaries since the account was made, as they would
-- have gone: in a hundred, 91 at once, six after being tried again, three never. No jobs:
-- theirs are done. What the planner still looks at, the last 12 hours, is left to it.
with occasions as (
  select users.*, 'BIRTHDAY' as message_type, users.birthday_date as date
  from app_public.users
  where users.birthday_date is not null
  union all
  select users.*, 'ANNIVERSARY', users.anniversary_date
  from app_public.users
  where users.anniversary_date is not null
),
past as (
  select occasions.*, day.delivery_date, moment.scheduled_send_time,
    -- Nothing failed lately, so that a fresh demo raises no alarm.
    least(abs(hashtext(occasions.email || occasions.message_type)) % 100,
      case when day.delivery_date > current_date - 7 then 96 else 99 end) as luck
  from occasions
  inner join seeded on seeded.user_id = occasions.id
  cross join generate_series(0, 2) as years_ago
  cross join lateral (
    -- A year's addition makes February 29 the 28th where there is none, as feb28 wants.
    select (occasions.date + make_interval(years =>
      (extract(year from now()) - years_ago - extract(year from occasions.date))::integer))::date
  ) as day (delivery_date)
  cross join lateral (
    select app_hidden.local_to_instant(
      day.delivery_date + occasions.send_time, occasions.timezone)
  ) as moment (scheduled_send_time)
  where day.delivery_date > occasions.created_at::date
    and moment.scheduled_send_time < now() - interval '13 hours'
),
planned as (
  insert into app_private.message_ledger (user_id, message_type, delivery_date, message_id,
    scheduled_send_time, planned_at)
  select id, message_type, delivery_date, gen_random_uuid(), scheduled_send_time,
    scheduled_send_time - interval '1 day'
  from past
  on conflict do nothing
  returning *
)
insert into app_public.message_logs (user_id, id, message_type, delivery_date,
  message_content, scheduled_send_time, actual_send_time, status, retry_count, last_retry_at,
  api_response_code, api_response_body, error_message, idempotency_key, created_at, updated_at)
select past.id, planned.message_id, past.message_type, past.delivery_date,
  app_hidden.render_template(message_templates.body, jsonb_build_object(
    'first_name', past.first_name,
    'last_name', past.last_name,
    'full_name', btrim(past.first_name || ' ' || past.last_name))),
  past.scheduled_send_time, case when outcome.status = 'SENT' then outcome.at end,
  outcome.status, outcome.retries, case when outcome.retries > 0 then outcome.at end,
  outcome.code, case outcome.code when 200 then '{"accepted":true}' else '' end,
  case when outcome.code <> 200 then 'the receiver answered ' || outcome.code end,
  concat_ws(':', past.id, past.message_type, past.delivery_date),
  planned.planned_at, outcome.at
from planned
inner join past on past.id = planned.user_id
  and past.message_type = planned.message_type
  and past.delivery_date = planned.delivery_date
inner join app_private.message_templates
  on message_templates.message_type = planned.message_type
  and message_templates.locale = 'en'
cross join lateral (
  select case when past.luck < 97 then 'SENT' else 'FAILED' end,
    case when past.luck < 91 then 0 when past.luck < 97 then past.luck - 90
      when past.luck < 99 then 0 else 10 end,
    case when past.luck < 97 then 200 when past.luck < 99 then 422 else 503 end,
    past.scheduled_send_time + make_interval(secs => 1 + past.luck % 20)
      + make_interval(mins => case when past.luck < 91 then 0 when past.luck < 97 then 5
        when past.luck < 99 then 0 else 180 end)
) as outcome (status, retries, code, at);

-- The days of the dashboard, until change capture takes over: its first start counts anew.
-- Where it has begun, it sees the rows above in the write-ahead log and counts them itself.
with counted as (
  select tasks.user_id, (tasks.created_at at time zone users.timezone)::date as agg_date,
    1 as created, 0 as completed, 0 as reflections, null::integer as mood
  from app_public.tasks
  inner join app_public.users on users.id = tasks.user_id
  union all
  select tasks.user_id, (tasks.completed_at at time zone users.timezone)::date, 0, 1, 0, null
  from app_public.tasks
  inner join app_public.users on users.id = tasks.user_id
  where tasks.completed_at is not null
  union all
  select reflections.user_id, reflections.reflection_date, 0, 0, 1, reflections.mood_score
  from app_public.reflections
)
insert into app_public.user_dashboard_aggregates (user_id, agg_date, tasks_created,
  tasks_completed, reflections_count, mood_sum, mood_count)
select counted.user_id, counted.agg_date, sum(counted.created), sum(counted.completed),
  sum(counted.reflections), coalesce(sum(counted.mood), 0), count(counted.mood)
from counted
inner join seeded on seeded.user_id = counted.user_id
where not exists (
  select from pg_catalog.pg_replication_slots
  where slot_type = 'logical' and database = current_database()
)
group by counted.user_id, counted.agg_date
order by counted.user_id, counted.agg_date
on conflict (user_id, agg_date) do nothing;

insert into app_private.query_cache (user_id, cache_key, cached_data, expires_at,
  generation_time_ms, tags, query_hash)
select user_id, 'dashboard', '{"tasks": 3}', now() + interval '1 hour', 20 + seed % 50,
  '{tasks}', md5('query' || seed % 5)
from seeded
where seed % 10 = 0;

-- What the API and its pools would have measured.
insert into app_private.performance_metrics (metric_type, metric_name, duration_ms, user_id,
  endpoint, query_hash, "timestamp")
select kind.metric_type, kind.metric_name, 1 + (seeded.seed * number) % 120, seeded.user_id,
  '/graphql', case when kind.metric_type = 'query' then md5('query' || number % 5) end,
  now() - make_interval(mins => (seeded.seed + number * 97) % 9000)
from seeded
cross join (values ('api', 'graphql'), ('query', 'select')) as kind (metric_type, metric_name)
cross join generate_series(1, 10) as number
where seeded.seed % 10 = 0;

insert into app_private.connection_pool_stats (pool_name, total_connections,
  active_connections, idle_connections, waiting_connections, recorded_at)
select 'api', 20, number % 7, 20 - number % 7, 0, now() - make_interval(hours => number)
from generate_series(0, 23) as number
where exists (select from seeded);

analyze app_public.users, app_public.tasks, app_public.reflections, app_public.habit_logs,
  app_public.user_activity, app_public.message_logs, app_public.user_dashboard_aggregates;

-- What a person may look at: nothing refreshes these unasked.
select app_private.refresh_weekly_summary();
select app_private.refresh_performance_views();
