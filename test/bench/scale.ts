import process from 'node:process';
import { Consumer } from '../../src/cdc/consumer.ts';
import { reconcile, resnapshot } from '../../src/cdc/reconcile.ts';
import { createLog } from '../../src/log.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { settingsFor, thisMachine } from '../../src/server/tuning.ts';
import { median } from './measure.ts';

/*
 * How work grows with the number of users, of ten tasks each. Work on a whole table may grow as
 * the table does; what comes each minute, and a request of one user, must hardly grow.
 *
 * npm run bench -- scale [--million]
 */
const sizes = [10_000, 100_000, ...(process.argv.includes('--million') ? [1_000_000] : [])];
const tasksOfUser = 10;
const chunk = 50_000;
const slot = 'gw_cdc_scale';

type Kind = 'whole table' | 'tick' | 'request';

/** The largest exponent: 1 is as the number of users. */
const limits: Record<Kind, number> = { 'whole table': 1.1, tick: 0.3, request: 0.3 };

/** What takes less is not told from noise. */
const floorMs = 20;

interface Figure {
  name: string;
  kind: Kind;
  ms: number;
  /** Bytes of log that the slot held, at most. */
  heldBytes?: number;
}

async function load(sql: Sql, from: number, to: number): Promise<void> {
  for (let first = from; first < to; first += chunk) {
    const last = Math.min(first + chunk, to) - 1;
    await sql`
      insert into app_public.users (email, first_name, timezone, birthday_date)
      select 'scale' || n || '@example.com', 'Scale',
        (array['UTC', 'Asia/Tokyo', 'Europe/Berlin', 'America/New_York'])[1 + n % 4],
        date '1988-01-01' + n % 366
      from generate_series(${first}::integer, ${last}::integer) as n`;
    process.stderr.write(`${last + 1} users\r`);
  }
  // What triggers would do is not what is measured.
  await sql.begin(async (inner) => {
    await inner`set local session_replication_role = replica`;
    await inner`
      insert into app_public.tasks (user_id, title, status, created_at, completed_at)
      select users.id, 'Write the report', case when n % 2 = 0 then 'done' else 'todo' end,
        now() - n * interval '3 days',
        case when n % 2 = 0 then now() - n * interval '2 days' end
      from app_public.users, generate_series(1, ${tasksOfUser}) as n
      where not exists (select from app_public.tasks where tasks.user_id = users.id)`;
  });
  await sql`vacuum analyze`;
  await sql`checkpoint`;
  process.stderr.write('\n');
}

async function time(work: () => Promise<unknown>, times = 1): Promise<number> {
  const taken: number[] = [];
  for (let n = 0; n < times; n += 1) {
    const began = performance.now();
    await work();
    taken.push(performance.now() - began);
  }
  return median(taken);
}

/** The most log that the slot holds while something is done. */
async function watchSlot(sql: Sql, work: () => Promise<number>): Promise<[number, number]> {
  let [held, isOver] = [0, false];
  const watch = (async () => {
    while (!isOver) {
      const [row] = await sql`
        select (pg_current_wal_lsn() - restart_lsn)::float as bytes
        from pg_replication_slots where slot_name = ${slot}`;
      held = Math.max(held, row?.bytes ?? 0);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  const ms = await work();
  isOver = true;
  await watch;
  return [ms, held];
}

async function measure(sql: Sql, cdcUrl: string): Promise<Figure[]> {
  const figures: Figure[] = [];
  const log = createLog('cdc', 'error');
  const options = { url: cdcUrl, slot, log, plugin: 'wal2json' as const };
  const consumer = new Consumer(options);
  await sql`
    select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = ${slot}`;
  await sql`truncate app_private.captured_users, app_private.captured_tasks,
    app_private.captured_reflections, app_public.user_dashboard_aggregates`;
  await sql`delete from ops.change_capture`;
  const [countMs, countHeld] = await watchSlot(sql, () =>
    time(async () => {
      void consumer.run();
      for (;;) {
        const [row] = await sql`
          select from ops.change_capture where snapshot_at is not null`;
        if (row !== undefined) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }),
  );
  const kind = 'whole table';
  figures.push({ name: 'first count', kind, ms: countMs, heldBytes: countHeld });
  await sql`vacuum analyze app_private.captured_tasks`;
  const [againMs, againHeld] = await watchSlot(sql, () => time(() => resnapshot(options)));
  figures.push({ name: 'count anew', kind, ms: againMs, heldBytes: againHeld });
  figures.push({
    name: 'reconcile',
    kind,
    ms: await time(async () => {
      const { differences } = await reconcile(options);
      if (differences.length > 0) throw new Error(`${differences.length} differences`);
    }),
  });
  await consumer.stop();
  figures.push({
    name: 'simulate_messages, a day',
    kind,
    ms: await time(
      () => sql`select from ops.simulate_messages(current_date + 1, current_date + 2)`,
    ),
  });
  for (const [name, call] of [
    ['plan_due_messages, nothing due', 'select app_private.plan_due_messages()'],
    ['requeue_lost_messages', 'select app_private.requeue_lost_messages()'],
    ['check_health', 'select ops.check_health()'],
  ] as const) {
    // The first finds something.
    while ((await sql.unsafe(call))[0]?.plan_due_messages > 0);
    figures.push({ name, kind: 'tick', ms: await time(() => sql.unsafe(call), 5) });
  }
  const [one] = await sql`select id from app_public.users order by id limit 1`;
  for (const [name, query] of [
    ['twenty tasks of a user', 'select * from app_public.tasks order by created_at desc limit 20'],
    ['weekly summaries of a user', 'select * from app_public.weekly_summaries'],
  ] as const) {
    const asUser = () =>
      sql.begin(async (inner) => {
        await inner`select app_private.set_app_user(${one?.id})`;
        await inner`set local role app_user`;
        await inner.unsafe(query);
      });
    figures.push({ name, kind: 'request', ms: await time(asUser, 50) });
  }
  return figures;
}

function print(size: number, before: number | undefined, figures: Figure[], old?: Figure[]) {
  const failed: string[] = [];
  process.stdout.write(`${size.toLocaleString('en')} users\n`);
  figures.forEach((figure, index) => {
    const { name, kind, ms, heldBytes } = figure;
    const earlier = old?.[index];
    let growth = '';
    if (earlier !== undefined && before !== undefined) {
      const exponent = Math.log(ms / earlier.ms) / Math.log(size / before);
      growth = `  exponent ${exponent.toFixed(2)}`;
      if (ms > floorMs && exponent > limits[kind]) {
        failed.push(`${name}: ${exponent.toFixed(2)} is above ${limits[kind]}`);
        growth += ` (above ${limits[kind]})`;
      }
    }
    const held = heldBytes === undefined ? '' : `  slot held ${(heldBytes / 1e6).toFixed(0)} MB`;
    process.stdout.write(
      `  ${name.padEnd(32)} ${kind.padEnd(12)} ${ms.toFixed(1).padStart(10)} ms${growth}${held}\n`,
    );
  });
  return failed;
}

/** Prints what each size takes, and how it grows. Fails when something grows too much. */
export async function run(): Promise<void> {
  // As a server of this machine would be set up for ten million tasks.
  const machine = { ...thisMachine(), database: 10 * 2 ** 30, connections: 100 };
  const settings = settingsFor(machine).map(({ name, value }) => `${name} = ${value}`);
  const scratch = await startScratch('gw_cron', { settings });
  try {
    const database = await createMigrated(scratch.superuserUrl, 'gw_bench');
    const sql = connect(database.urls.superuser ?? '', { max: 3 });
    const failed: string[] = [];
    let old: Figure[] | undefined;
    for (const [index, size] of sizes.entries()) {
      await load(sql, sizes[index - 1] ?? 0, size);
      const figures = await measure(sql, database.urls.cdc);
      failed.push(...print(size, sizes[index - 1], figures, old));
      old = figures;
    }
    await sql.end();
    if (failed.length > 0) throw new Error(failed.join('; '));
  } finally {
    await scratch.stop();
  }
}
