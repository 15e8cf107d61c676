-- Demo data, set-based, for any number of users. Can be repeated: users that are there
-- (by e-mail) are left alone, so that a larger number adds the missing ones.
--
-- The session carries how many in the setting groundwork.seed_users. Everybody's password
-- is "groundwork-demo". One user in five has a birthday today, in a zone where it is
-- between 09:00 and 20:00 now, so that messages can be seen to arrive.
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
    birthday_date, anniversary_date)
  select email, true, first_name, last_name, timezone,
    case when celebrates_today then ((now() at time zone timezone)::date - age)::date
      else birthday end,
    case when number % 3 = 0 then anniversary end
  from people
  on conflict (lower(email)) where deleted_at is null do nothing
  returning id, email
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
)
insert into app_public.tasks (user_id, title, status, priority, due_date, completed_at)
select created.id,
  (array['Call the dentist', 'Write the report', 'Buy groceries', 'Plan the trip',
    'Fix the bicycle', 'Read a chapter', 'Renew the passport', 'Water the plants',
    'Book a table', 'Clean the kitchen', 'Learn ten words', 'Send the invoice']
  )[1 + (random.seed + number) % 12],
  (array['todo', 'todo', 'in_progress', 'done', 'done', 'done', 'canceled']
  )[1 + (random.seed / 12 + number) % 7],
  (array['low', 'medium', 'medium', 'high', 'urgent'])[1 + (random.seed / 84 + number) % 5],
  case when number % 4 > 0 then current_date + (random.seed + number * 3) % 40 - 10 end,
  now() - make_interval(hours => (random.seed + number) % 2000)
from created
cross join lateral (select abs(hashtext(created.email)) % 1000000 as seed) as random
cross join lateral generate_series(1, 5 + random.seed % 31) as number;

analyze app_public.users, app_public.tasks;
