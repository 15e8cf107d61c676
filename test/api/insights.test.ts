import { beforeAll, expect, test } from 'vitest';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const api = useApi(db, 'silent', { poolSize: 20 });

interface Week {
  weekStart: string;
  tasksCreated: number;
  tasksCompleted: number;
  reflections: number;
  averageMood: number | null;
  habitDays: number;
  habitsKept: number;
  activity: number;
}

const document = `query ($weeks: Int) {
  insights(weeks: $weeks) {
    nodes {
      weekStart tasksCreated tasksCompleted reflections averageMood habitDays habitsKept activity
    }
  }
}`;

async function insights(session: Session, weeks = 4): Promise<Week[]> {
  const { data, errors } = await api.query<{ insights: { nodes: Week[] } }>(
    document,
    { weeks },
    session.accessToken,
  );
  expect(errors).toEqual([]);
  return data.insights.nodes;
}

const last = async (session: Session): Promise<Week> => (await insights(session)).at(-1) as Week;

let count = 0;
const newUser = (): Promise<Session> => api.register(`insights${count++}@example.com`);

const cached = async ({ userId }: Session) => {
  const rows = await db.as('superuser')`
    select hit_count, access_count - hit_count as puts, tags from app_private.query_cache
    where user_id = ${userId} and tags @> '{insights}'`;
  return rows.map((row) => ({ ...row }));
};

/** Every computation counts itself, and takes half a second. */
beforeAll(async () => {
  await db.as('superuser').unsafe(`
    create sequence public.computations;
    grant usage on sequence public.computations to gw_owner;
    alter function app_private.compute_insights(uuid, integer, text, date)
      rename to really_compute_insights;
    create function app_private.compute_insights(uuid, integer, text, date) returns jsonb
    language plpgsql as $$
    declare
      result jsonb := app_private.really_compute_insights($1, $2, $3, $4);
    begin
      perform nextval('public.computations');
      perform pg_sleep(0.5);
      return result;
    end $$;
  `);
});

const computations = async (): Promise<number> => {
  const [row] = await db.as('superuser')<{ n: number }[]>`
    select case when is_called then last_value else 0 end::integer as n from public.computations`;
  return row?.n ?? -1;
};

test('the weeks are those of the tables, the oldest first, zero where nothing was done', async () => {
  const user = await newUser();
  await db.as(
    'owner',
  )`update app_public.users set timezone = 'Asia/Tokyo' where id = ${user.userId}`;
  await db.as('owner')`
    with monday as (
      select date_trunc('week', now() at time zone 'Asia/Tokyo') as local
    ),
    tasks as (
      -- Monday 00:30 in Tokyo is still Sunday in UTC.
      insert into app_public.tasks (user_id, title, status, completed_at)
      select ${user.userId}, 'Task', 'done',
        (local - interval '7 days' + interval '30 minutes') at time zone 'Asia/Tokyo'
      from monday
    ),
    habits as (
      insert into app_public.habits (user_id, name)
      values (${user.userId}, 'One'), (${user.userId}, 'Two')
      returning user_id, id
    )
    insert into app_public.reflections (user_id, reflection_date, mood_score)
    select ${user.userId}, (local - interval '7 days')::date + day, mood
    from monday cross join (values (0, 2), (6, 5)) as entries (day, mood)`;
  await db.as('owner')`
    insert into app_public.habit_logs (user_id, habit_id, log_date)
    select user_id, id,
      date_trunc('week', now() at time zone 'Asia/Tokyo')::date - 7 + day
    from app_public.habits cross join generate_series(0, 2) as day
    where user_id = ${user.userId}`;
  const weeks = await insights(user, 3);
  const [row] = await db.as('owner')<{ week: string }[]>`
    select (date_trunc('week', now() at time zone 'Asia/Tokyo')::date - 7)::text as week`;
  expect(weeks).toHaveLength(3);
  expect(weeks[0]).toMatchObject({ tasksCreated: 0, averageMood: null, activity: 0 });
  expect(weeks[1]).toEqual({
    weekStart: row?.week,
    tasksCreated: 0,
    tasksCompleted: 1,
    reflections: 2,
    averageMood: 3.5,
    habitDays: 6,
    habitsKept: 2,
    activity: 0,
  });
  // What was written happened just now: 1 task, 2 habits, 2 reflections, 6 days.
  expect(weeks[2]).toMatchObject({ tasksCreated: 1, habitDays: 0, activity: 11 });
});

test('the second time it comes from the cache, and the hit is counted', async () => {
  const user = await newUser();
  const first = await insights(user);
  const before = await computations();
  expect(await insights(user)).toEqual(first);
  expect(await computations()).toBe(before);
  expect(await cached(user)).toEqual([
    { hit_count: 1, puts: 1, tags: ['insights', `insights:${user.userId}`] },
  ]);
});

test("every change of the user's rows empties the cache, and of nobody else's", async () => {
  const [user, other] = [await newUser(), await newUser()];
  await insights(other);
  const statements = [
    `insert into app_public.tasks (user_id, title) values ('$', 'A')`,
    `update app_public.tasks set status = 'done' where user_id = '$'`,
    `delete from app_public.tasks where user_id = '$'`,
    `insert into app_public.goals (user_id, title) values ('$', 'A')`,
    `insert into app_public.habits (user_id, name) values ('$', 'A')`,
    `insert into app_public.habit_logs (user_id, habit_id, log_date)
      select user_id, id, current_date from app_public.habits where user_id = '$'`,
    `delete from app_public.habit_logs where user_id = '$'`,
    `insert into app_public.reflections (user_id, reflection_date, mood_score)
      values ('$', current_date, 3)`,
    `update app_public.reflections set mood_score = 4 where user_id = '$'`,
  ];
  for (const statement of statements) {
    await insights(user, 1);
    expect(await cached(user)).toHaveLength(1);
    await db.as('owner').unsafe(statement.replaceAll('$', user.userId));
    expect(await cached(user)).toEqual([]);
  }
  expect(await cached(other)).toHaveLength(1);
});

test('one statement for many users empties the cache of each', async () => {
  const users = [await newUser(), await newUser(), await newUser()];
  await Promise.all(users.map((user) => insights(user, 1)));
  await db.as('owner')`
    insert into app_public.tasks (user_id, title)
    select unnest(${users.map(({ userId }) => userId)}::uuid[]), 'Bulk'`;
  for (const user of users) expect((await last(user)).tasksCreated).toBe(1);
});

test("nobody sees another's weeks, cached or not", async () => {
  const [ann, bob] = [await newUser(), await newUser()];
  await db.as('owner')`
    insert into app_public.tasks (user_id, title) values (${ann.userId}, 'of Ann')`;
  for (let i = 0; i < 2; i += 1) {
    expect((await last(ann)).tasksCreated).toBe(1);
    expect((await last(bob)).tasksCreated).toBe(0);
  }
});

test('of many who ask at once, one computes and the others take its result', async () => {
  const user = await newUser();
  const before = await computations();
  const answers = await Promise.all(Array.from({ length: 15 }, () => insights(user)));
  expect((await computations()) - before).toBe(1);
  for (const answer of answers) expect(answer).toEqual(answers[0]);
  expect(await cached(user)).toMatchObject([{ puts: 1 }]);
});

test('while a change is not committed nothing is kept: afterwards everybody sees it', async () => {
  const user = await newUser();
  await db.as('owner', 2).begin(async (sql) => {
    await sql`insert into app_public.tasks (user_id, title) values (${user.userId}, 'Late')`;
    expect((await last(user)).tasksCreated).toBe(0);
    expect(await cached(user)).toEqual([]);
  });
  expect((await last(user)).tasksCreated).toBe(1);
  expect(await cached(user)).toHaveLength(1);
});

test('a change during a computation waits for it, and its result is not kept beyond', async () => {
  const user = await newUser();
  const computing = last(user);
  await eventually(async () => {
    const [row] = await db.as('superuser')`
      select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
        and database = (select oid from pg_database where datname = current_database())`;
    return row !== undefined;
  });
  await db.as('owner')`
    insert into app_public.tasks (user_id, title) values (${user.userId}, 'Meanwhile')`;
  expect((await computing).tasksCreated).toBe(0);
  expect((await last(user)).tasksCreated).toBe(1);
});

test('without a token, or with an impossible number of weeks, it is refused', async () => {
  expect(await api.codes(document, { weeks: 4 })).toEqual(['UNAUTHENTICATED']);
  const { accessToken } = await newUser();
  for (const weeks of [0, 101, -1]) {
    expect(await api.codes(document, { weeks }, accessToken)).toEqual(['VALIDATION_FAILED']);
  }
});
