import { createMigrated } from '../../src/migrations/scratch.ts';
import { type Sql, withSql } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { cpuOf, median } from './measure.ts';

/*
 * What a write of tasks costs with its triggers: CPU of the server for single rows, against the
 * same table without its triggers; and how statements of many rows grow, in a session whose
 * first statement had one row, and whose plans are kept.
 */
const singles = 2_000;
const pairs = 6;
const sizes = [1_000, 10_000, 100_000];

async function makeUser(sql: Sql): Promise<string> {
  const [row] = await sql`
    insert into app_public.users (email, first_name)
    values ('bench@example.com', 'Bench') returning id`;
  return row?.id as string;
}

/** Milliseconds of the server's CPU that 1,000 calls take. */
async function cpuPerThousand(
  pid: number,
  work: (number: number) => Promise<unknown>,
): Promise<number> {
  const before = cpuOf(pid);
  for (let number = 1; number <= singles; number += 1) await work(number);
  return ((cpuOf(pid) - before) / singles) * 1_000;
}

async function compareSingles(sql: Sql, userId: string): Promise<void> {
  const [backend] = await sql`select pg_backend_pid() as pid`;
  const pid = backend?.pid as number;
  const [task] = await sql`
    insert into app_public.tasks (user_id, title) values (${userId}, 'Task') returning id`;
  const taskId = task?.id as string;
  const works: Record<string, (number: number) => Promise<unknown>> = {
    insert: () => sql`insert into app_public.tasks (user_id, title) values (${userId}, 'Task')`,
    update: (number) => sql`
      update app_public.tasks set title = ${`Task ${number}`}
      where user_id = ${userId} and id = ${taskId}`,
  };
  for (const [title, work] of Object.entries(works)) {
    const took: Record<'enable' | 'disable', number[]> = { enable: [], disable: [] };
    for (let pair = 0; pair < pairs; pair += 1) {
      for (const verb of ['enable', 'disable'] as const) {
        await sql.unsafe(`alter table app_public.tasks ${verb} trigger user`);
        took[verb].push(await cpuPerThousand(pid, work));
      }
    }
    await sql`alter table app_public.tasks enable trigger user`;
    const [withTriggers, without] = [median(took.enable), median(took.disable)];
    process.stdout.write(
      `1,000 single-row ${title}s of tasks: ${withTriggers.toFixed(0)} ms of CPU, ` +
        `${without.toFixed(0)} ms without triggers: ratio ${(withTriggers / without).toFixed(2)}` +
        ` (median of ${pairs} pairs)\n`,
    );
  }
}

/** Microseconds a row. */
async function perRow(rows: number, work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return ((performance.now() - began) * 1_000) / rows;
}

async function compareSizes(url: string, userId: string): Promise<void> {
  const works: Record<string, (sql: Sql, projectId: string) => Promise<unknown>> = {
    update: (sql, id) => sql`
      update app_public.tasks set title = title || '.'
      where user_id = ${userId} and project_id = ${id}`,
    'delete of a project': (sql, id) => sql`
      delete from app_public.projects where user_id = ${userId} and id = ${id}`,
    delete: (sql, id) => sql`
      delete from app_public.tasks where user_id = ${userId} and project_id = ${id}`,
  };
  const project = async (sql: Sql, rows: number): Promise<string> => {
    const [made] = await sql`
      insert into app_public.projects (user_id, name)
      values (${userId}, gen_random_uuid()::text) returning id`;
    const id = made?.id as string;
    await sql`
      insert into app_public.tasks (user_id, title, project_id)
      select ${userId}, 'Task', ${id} from generate_series(1, ${rows})`;
    return id;
  };
  for (const [title, work] of Object.entries(works)) {
    await withSql(url, async (sql) => {
      for (let once = 0; once < 6; once += 1) await work(sql, await project(sql, 1));
      const figures: number[] = [];
      for (const rows of sizes) {
        const id = await project(sql, rows);
        figures.push(await perRow(rows, () => work(sql, id)));
        await sql`delete from app_public.tasks where user_id = ${userId} and project_id = ${id}`;
      }
      const [first = Number.NaN, last = Number.NaN] = [figures[0], figures.at(-1)];
      process.stdout.write(
        `${title} of ${sizes.map((rows) => rows.toLocaleString('en')).join(', ')} tasks after` +
          ` one of 1: ${figures.map((figure) => figure.toFixed(0)).join(', ')} µs a row:` +
          ` ratio ${(last / first).toFixed(2)}\n`,
      );
    });
  }
}

export async function run(): Promise<void> {
  const scratch = await startScratch('gw_bench');
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_bench');
    await withSql(urls.owner, async (sql) => {
      const userId = await makeUser(sql);
      await compareSingles(sql, userId);
      await compareSizes(urls.owner, userId);
    });
  } finally {
    await scratch.stop();
  }
}
