import process from 'node:process';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { type Sql, type Transaction, withSql } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';

/*
 * Searches among 200,000 tasks of one user, as the API asks, against the same search without
 * row-level security: by the filter of a list, its count, and by rank.
 */
const repetitions = 15;
const tasks = 200_000;

const median = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

async function time(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** Titles of four words out of 5,000, as a dictionary has them: few are frequent. */
const fill = (sql: Sql, userId: string, count: number) => sql`
  insert into app_public.tasks (user_id, title)
  select ${userId}, (
    select string_agg('word' || floor(5000 * power(random(), 2))::integer, ' ')
    from generate_series(1, 4) where number is not null)
  from generate_series(1, ${count}) as number`;

const asUser = <Result>(sql: Sql, userId: string, work: (tx: Transaction) => Promise<Result>) =>
  sql.begin(async (tx) => {
    await tx`select app_private.set_app_user(${userId})`;
    await tx`set local role app_user`;
    return work(tx);
  });

const words = { rare: 'word4900', usual: 'word2500', frequent: 'word10', prefix: 'word490' };

async function measure(sql: Sql, api: Sql, userId: string): Promise<void> {
  const statements = {
    list: (tx: Transaction, word: string) => tx`
      select title from app_public.tasks
      where user_id = app_hidden.current_app_user_id()
        and ctid = any ((select app_hidden.matching_tasks(
          (select app_hidden.to_search_query(${word}, 'search'))))::tid[])
      order by created_at, id limit 20`,
    count: (tx: Transaction, word: string) => tx`
      select count(*) from app_public.tasks
      where user_id = app_hidden.current_app_user_id()
        and ctid = any ((select app_hidden.matching_tasks(
          (select app_hidden.to_search_query(${word}, 'search'))))::tid[])`,
    ranked: (tx: Transaction, word: string) => tx`
      select title from app_public.search_tasks(${word}) limit 20`,
  };
  for (const [kind, word] of Object.entries(words)) {
    for (const [name, statement] of Object.entries(statements)) {
      const [times, floors]: [number[], number[]] = [[], []];
      let rows = 0;
      for (let n = 0; n < repetitions; n += 1) {
        floors.push(
          await time(async () => {
            const found = await sql`
              select id from app_public.tasks where user_id = ${userId}
                and search @@ app_hidden.to_search_query(${word}, 'search')`;
            rows = found.length;
          }),
        );
        times.push(await asUser(api, userId, (tx) => time(() => statement(tx, word))));
      }
      const [ms, floor] = [median(times), median(floors)];
      process.stdout.write(
        `${kind.padEnd(9)} ${String(rows).padStart(6)} found  ${name.padEnd(7)} ${ms.toFixed(1).padStart(7)} ms  ` +
          `${(ms / floor).toFixed(2)} times the ids without row-level security\n`,
      );
    }
  }
}

export async function run(): Promise<void> {
  const scratch = await startScratch('gw_bench');
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_bench');
    await withSql(scratch.superuserUrl.replace(/\/[^/]*$/, '/gw_bench'), async (sql) => {
      const users = await sql<{ id: string }[]>`
        insert into app_public.users (email, first_name)
        select 'search' || number || '@example.com', 'Search' from generate_series(1, 3) as number
        returning id`;
      for (const { id } of users) await fill(sql, id, tasks);
      await sql`vacuum analyze app_public.tasks`;
      await withSql(urls.authenticator, (api) => measure(sql, api, users[0]?.id ?? ''));
    });
  } finally {
    await scratch.stop();
  }
}
