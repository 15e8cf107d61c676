import { setTimeout as sleep } from 'node:timers/promises';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql, withSql } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';

/*
 * How long others wait while rows leave a DEFAULT partition: 1.3 million messages, of which
 * 300,000 belong to a month that has no partition, and the rest to no month at all. Beside it
 * 50 reads, 50 writes and 50 updates of users a second. The floor is the same load before.
 */
const users = 5_000;
const moved = 300_000;
const staying = 1_000_000;
const perSecond = 50;
const floorMs = 15_000;

async function fill(sql: Sql): Promise<void> {
  await sql`
    insert into app_public.users (email, first_name)
    select number || '@example.com', 'Bench' from generate_series(1, ${users}) as number`;
  await sql`
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      status, actual_send_time, message_content, scheduled_send_time, idempotency_key)
    select users.id, gen_random_uuid(), 'BIRTHDAY', '2001-02-03', 'SENT', '2001-02-03',
      repeat('x', 100),
      case when number <= ${moved} then timestamptz '2001-02-03' + number * interval '1 second'
        else 'infinity' end, number
    from generate_series(1, ${moved + staying}) as number
    inner join (select id, row_number() over () as place from app_public.users) as users
      on users.place = number % ${users} + 1`;
  await sql`vacuum analyze app_public.message_logs`;
}

type Work = (sql: Sql) => Promise<unknown>;

const works: Record<string, Work> = {
  readers: (sql) => sql`
    select count(*) from app_public.message_logs
    where user_id = (select id from app_public.users
      where email = ${`${1 + Math.floor(Math.random() * users)}@example.com`})`,
  writers: (sql) => sql`
    with changed as (
      update app_public.message_logs set retry_count = retry_count + 1
      where scheduled_send_time < '2001-02-04'
        and user_id = (select id from app_public.users
          where email = ${`${1 + Math.floor(Math.random() * users)}@example.com`})
    )
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      status, actual_send_time, message_content, scheduled_send_time, idempotency_key)
    select id, gen_random_uuid(), 'BIRTHDAY', '2001-02-03', 'SENT', '2001-02-03',
      'x', '2001-02-20', 'new'
    from app_public.users
    where email = ${`${1 + Math.floor(Math.random() * users)}@example.com`}`,
  "users' updates": (sql) => sql`
    update app_public.users set last_name = last_name || '.'
    where email = ${`${1 + Math.floor(Math.random() * users)}@example.com`}`,
};

/** Calls a piece of work at each tick, whether or not the one before has ended. */
class Load {
  readonly #pool: Sql;
  readonly #work: Work;
  readonly #timer: NodeJS.Timeout;
  #running = new Set<Promise<void>>();
  longest = 0;
  calls = 0;

  constructor(url: string, work: Work) {
    this.#pool = connect(url, { max: 40 });
    this.#work = work;
    this.#timer = setInterval(() => this.#call(), 1_000 / perSecond);
  }

  #call(): void {
    const began = performance.now();
    const call = this.#work(this.#pool).then(() => {
      this.longest = Math.max(this.longest, performance.now() - began);
      this.calls += 1;
    });
    this.#running.add(call);
    void call.finally(() => this.#running.delete(call));
  }

  /** The longest wait since the last reading, in milliseconds. */
  take(): { longest: number; calls: number } {
    const taken = { longest: this.longest, calls: this.calls };
    this.longest = 0;
    this.calls = 0;
    return taken;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#running);
    await this.#pool.end();
  }
}

export async function run(): Promise<void> {
  const scratch = await startScratch('gw_bench');
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_bench');
    await withSql(urls.owner, async (sql) => {
      await fill(sql);
      const loads = Object.entries(works).map(
        ([title, work]) => [title, new Load(urls.owner, work)] as const,
      );
      try {
        await sleep(2_000);
        for (const [, load] of loads) load.take();
        await sleep(floorMs);
        const floors = loads.map(([, load]) => load.take().longest);
        const began = performance.now();
        await sql`call ops.maintain_partitions()`;
        const seconds = (performance.now() - began) / 1_000;
        const [row] = await sql`
        select count(*)::int as rows from app_partitions.message_logs_p200102`;
        process.stdout.write(
          `${row?.rows.toLocaleString('en')} of ${(moved + staying).toLocaleString('en')} rows` +
            ` of DEFAULT have a partition after ${seconds.toFixed(0)} s\n`,
        );
        for (const [place, [title, load]] of loads.entries()) {
          const { longest, calls } = load.take();
          const floor = floors[place] ?? Number.NaN;
          process.stdout.write(
            `longest wait of ${title}: ${longest.toFixed(0)} ms of ${calls} calls,` +
              ` ${floor.toFixed(0)} ms before: ratio ${(longest / floor).toFixed(2)}\n`,
          );
        }
      } finally {
        await Promise.all(loads.map(([, load]) => load.stop()));
      }
    });
  } finally {
    await scratch.stop();
  }
}
