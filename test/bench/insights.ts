import { createMigrated } from '../../src/migrations/scratch.ts';
import { type Sql, withSql } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';

/*
 * insights(): a hit against a miss, for a user with two years of data; and what emptying the
 * cache costs those who write, in one statement for many users and in many for one.
 */
const repetitions = 20;
const pairs = 12;

const median = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

/** Milliseconds. */
async function time(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** Two years of one user: 20,000 tasks, 14,600 habit days, 730 reflections. */
async function fill(sql: Sql, userId: string): Promise<void> {
  // Or each would have been made now.
  await sql`alter table app_public.tasks disable trigger _100_timestamps`;
  await sql`
    insert into app_public.tasks (user_id, title, status, created_at, completed_at)
    select ${userId}, 'Task', case when number % 3 = 0 then 'done' else 'todo' end,
      now() - number * interval '52 minutes',
      case when number % 3 = 0 then now() - number * interval '50 minutes' end
    from generate_series(1, 20000) as number`;
  await sql`alter table app_public.tasks enable trigger _100_timestamps`;
  await sql`
    with made as (
      insert into app_public.habits (user_id, name)
      select ${userId}, 'Habit ' || number from generate_series(1, 20) as number
      returning user_id, id
    )
    insert into app_public.habit_logs (user_id, habit_id, log_date)
    select user_id, id, current_date - number
    from made cross join generate_series(0, 729) as number`;
  await sql`
    insert into app_public.reflections (user_id, reflection_date, mood_score)
    select ${userId}, current_date - number, 1 + number % 5
    from generate_series(0, 729) as number`;
}

async function makeUsers(sql: Sql, count: number): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    insert into app_public.users (email, first_name)
    select 'bench' || number || '@example.com', 'Bench'
    from generate_series(1, ${count}) as number
    returning id`;
  return rows.map(({ id }) => id);
}

const insights = (sql: Sql, userId: string): Promise<unknown> =>
  sql.begin(async (tx) => {
    await tx`select app_private.set_app_user(${userId})`;
    await tx`set local role app_user`;
    await tx`select * from app_public.insights(100)`;
  });

async function compareReads(api: Sql, owner: Sql, userId: string): Promise<void> {
  const hits: number[] = [];
  const misses: number[] = [];
  for (let i = 0; i < repetitions; i += 1) {
    await owner`select app_private.invalidate_query_cache(array['insights'])`;
    misses.push(await time(() => insights(api, userId)));
    hits.push(await time(() => insights(api, userId)));
  }
  const [hit, miss] = [median(hits), median(misses)];
  process.stdout.write(
    `insights(100): a miss ${miss.toFixed(1)} ms / a hit ${hit.toFixed(1)} ms:` +
      ` ratio ${(miss / hit).toFixed(1)} (median of ${repetitions})\n`,
  );
}

const triggers = (owner: Sql, verb: 'enable' | 'disable'): Promise<unknown> =>
  owner.unsafe(`alter table app_public.tasks ${verb} trigger _900_changes_insert`);

async function compareWrites(title: string, owner: Sql, work: () => Promise<unknown>) {
  const ratios: number[] = [];
  for (let pair = 0; pair < pairs; pair += 1) {
    const took = { enable: 0, disable: 0 };
    for (const verb of pair % 2 === 0
      ? (['enable', 'disable'] as const)
      : (['disable', 'enable'] as const)) {
      await triggers(owner, verb);
      took[verb] = await time(work);
    }
    ratios.push(took.enable / took.disable);
  }
  await triggers(owner, 'enable');
  process.stdout.write(
    `${title}, with what follows / without: ratio ${median(ratios).toFixed(3)}` +
      ` (median of ${pairs} pairs)\n`,
  );
}

export async function run(): Promise<void> {
  const scratch = await startScratch('gw_bench');
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_bench');
    await withSql(urls.owner, (owner) =>
      withSql(urls.authenticator, async (api) => {
        const users = await makeUsers(owner, 500);
        const [first = ''] = users;
        await fill(owner, first);
        await owner`analyze`;
        await compareReads(api, owner, first);
        for (const user of users) await insights(api, user);
        await compareWrites(
          '20,000 tasks of 500 users in one statement',
          owner,
          () => owner`
            insert into app_public.tasks (user_id, title)
            select (${users}::uuid[])[1 + number % 500], 'Task'
            from generate_series(1, 20000) as number`,
        );
        await compareWrites('1,000 tasks of one user, one by one', owner, async () => {
          for (let i = 0; i < 1000; i += 1) {
            await owner`insert into app_public.tasks (user_id, title) values (${first}, 'Task')`;
          }
        });
      }),
    );
  } finally {
    await scratch.stop();
  }
}
