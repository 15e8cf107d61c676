import process from 'node:process';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { cpuOf, median } from './measure.ts';

/*
 * What planning costs: the tick that finds nothing, of which there is one a minute, and the
 * worst day there is, on which every user is due.
 *
 * The floor of that day is INSERT … SELECT of the very rows that the planner made into the
 * same tables, message_ledger and message_logs, and the UPDATE of message_schedule to what
 * it had become, from tables that hold them ready: same partitions, indexes, foreign keys
 * and triggers, and nothing computed, looked up or locked.
 */
const users = Number(process.env.GW_BENCH_USERS ?? process.argv[3] ?? 1_000_000);
const rounds = 3;
const ticks = 20;
const chunk = 100_000;

const zones = [
  'America/Los_Angeles',
  'America/New_York',
  'America/Sao_Paulo',
  'Asia/Kathmandu',
  'Asia/Tokyo',
  'Australia/Sydney',
  'Europe/Berlin',
  'UTC',
];

interface Cost {
  ms: number;
  /** Milliseconds of CPU of the server: a machine that is busy changes it less. */
  cpu: number;
}

async function timed(owner: Sql, work: () => Promise<unknown>): Promise<Cost> {
  const [{ pid = 0 } = {}] = await owner`
    select split_part(pg_read_file('postmaster.pid'), chr(10), 1)::integer as pid`;
  const start = { ms: performance.now(), cpu: cpuOf(pid) };
  await work();
  return { ms: performance.now() - start.ms, cpu: cpuOf(pid) - start.cpu };
}

/**
 * Users who are due one after the other in the 24 hours after a midnight, in UTC. They want
 * digests too, as users do who have said nothing; none is due on that day.
 */
async function createUsers(owner: Sql, midnight: Date): Promise<void> {
  for (let first = 0; first < users; first += chunk) {
    await owner`
      insert into app_public.users (email, first_name, last_name, timezone, birthday_date,
        send_time)
      select number || '@example.com', 'Name' || number, 'Bench', zone,
        ('1988' || to_char(local, '-MM-DD'))::date, date_trunc('minute', local)::time
      from generate_series(${first}::integer, ${Math.min(first + chunk, users) - 1}) as number
      cross join lateral (
        select (${zones}::text[])[number % ${zones.length} + 1]
      ) as place (zone)
      cross join lateral (
        select (${midnight}::timestamptz + interval '1 minute'
          + number::float8 / ${users} * interval '86000 seconds') at time zone zone
      ) as moment (local)`;
    process.stderr.write(`${Math.min(first + chunk, users)} users\r`);
  }
  // The schedule as it is the day before, not as it is now.
  await owner`truncate app_private.message_schedule`;
  await owner`
    select app_private.schedule_messages(array_agg(id), ${midnight}::timestamptz - interval '1 day')
    from (
      select id, row_number() over () / ${chunk} as part from app_public.users
    ) as users
    group by part`;
  process.stderr.write('\n');
}

async function clean(owner: Sql): Promise<void> {
  await owner`truncate app_public.message_logs, app_private.message_ledger, pgboss.job,
    app_private.message_schedule`;
  await owner`insert into app_private.message_schedule select * from public.bench_schedule`;
  for (const table of ['app_private.message_schedule', 'app_private.message_ledger']) {
    await owner.unsafe(`vacuum analyze ${table}`);
  }
  await owner`checkpoint`;
}

/** Plans until nothing is left; what the planner made is kept for the floor. */
async function plan(owner: Sql, midnight: Date): Promise<Cost> {
  let planned = 0;
  const cost = await timed(owner, async () => {
    for (;;) {
      const [row] = await owner`select app_private.plan_due_messages(${midnight}) as count`;
      if (row?.count === 0) break;
      planned += row?.count;
    }
  });
  if (planned !== users) throw new Error(`${planned} of ${users} were planned`);
  await owner.unsafe(`
    drop table if exists public.bench_ledger, public.bench_logs, public.bench_next;
    create table public.bench_ledger as select * from app_private.message_ledger;
    create table public.bench_logs as select * from app_public.message_logs;
    create table public.bench_next as select * from app_private.message_schedule;
    analyze public.bench_ledger, public.bench_logs, public.bench_next`);
  return cost;
}

const writeFloor = (owner: Sql): Promise<Cost> =>
  timed(owner, () =>
    owner.begin(async (sql) => {
      await sql`insert into app_private.message_ledger select * from public.bench_ledger`;
      await sql`insert into app_public.message_logs select * from public.bench_logs`;
      await sql`
        update app_private.message_schedule
        set delivery_date = bench_next.delivery_date,
          scheduled_send_time = bench_next.scheduled_send_time
        from public.bench_next
        where message_schedule.user_id = bench_next.user_id
          and message_schedule.message_type = bench_next.message_type`;
    }),
  );

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const costs = ({ ms, cpu }: Cost): string =>
  `${(ms / 1000).toFixed(1)} s (CPU ${(cpu / 1000).toFixed(1)} s)`;

/** Prints what each takes, and the ratio of planning to its floor. */
export async function run(): Promise<void> {
  if (!Number.isInteger(users) || users < 1_000) {
    throw new Error('GW_BENCH_USERS must be a number of users, 1000 or more');
  }
  const scratch = await startScratch('gw_cron');
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_bench');
    const owner = connect(urls.superuser ?? '', { max: 1, idle_timeout: 0 });
    // Of a Thursday, a month ahead: 1970 began with one.
    const midnight = new Date(Math.ceil(Date.now() / 604_800_000 + 4) * 604_800_000);
    await createUsers(owner, midnight);
    await owner`create table public.bench_schedule as
      select * from app_private.message_schedule`;
    await owner`vacuum analyze app_public.users`;
    await clean(owner);

    const idle: number[] = [];
    for (let tick = 0; tick < ticks; tick += 1) {
      const { ms } = await timed(owner, () => owner`select app_private.plan_due_messages()`);
      idle.push(ms);
    }
    print(`${users} users, nothing due: ${median(idle).toFixed(1)} ms a tick (median of ${ticks})`);

    const ratios: Cost[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      const planning = await plan(owner, midnight);
      const [hour] = await owner`select ${midnight}::timestamptz + interval '1 hour' as at`;
      let queued = 0;
      const queueing = await timed(owner, async () => {
        const [row] = await owner`select app_private.queue_due_messages(${hour?.at}) as count`;
        queued = row?.count;
      });
      await clean(owner);
      const floor = await writeFloor(owner);
      await clean(owner);
      ratios.push({ ms: planning.ms / floor.ms, cpu: planning.cpu / floor.cpu });
      print(`all due, round ${round}: planned in ${costs(planning)}, floor ${costs(floor)}`);
      print(`  of them ${queued}, an hour's, queued in ${costs(queueing)}`);
    }
    print(
      `ratio ${median(ratios.map(({ ms }) => ms)).toFixed(2)}, of CPU ` +
        `${median(ratios.map(({ cpu }) => cpu)).toFixed(2)} (median of ${rounds})`,
    );
    await owner.end();
  } finally {
    await scratch.stop();
  }
}
