import { randomUUID } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { afterAll, afterEach, expect } from 'vitest';
import { Consumer } from '../../src/cdc/consumer.ts';
import { type Difference, reconcile } from '../../src/cdc/reconcile.ts';
import { type Plugin, slotNameOf } from '../../src/cdc/slot.ts';
import type { Sql, Transaction } from '../../src/postgres/connect.ts';
import type { TestDatabase } from './database.ts';
import { eventually } from './wait.ts';

export interface Day {
  agg_date: string;
  tasks_created: number;
  tasks_completed: number;
  reflections_count: number;
  mood_sum: number;
  mood_count: number;
}

/** Consumers of a test's database. What still runs after a test is stopped. */
export class Capture {
  readonly #db: TestDatabase;
  readonly #plugin: Plugin | undefined;
  readonly #running = new Set<Consumer>();
  readonly #lines = new PassThrough();
  /** What the consumers have logged: JSON, one line each. */
  log = '';

  constructor(db: TestDatabase, plugin?: Plugin) {
    this.#db = db;
    this.#plugin = plugin;
    this.#lines.setEncoding('utf8').on('data', (text: string) => {
      this.log += text;
    });
  }

  get slot(): string {
    return slotNameOf(this.#db.database.description);
  }

  get options() {
    return {
      url: this.#db.url('cdc'),
      slot: this.slot,
      plugin: this.#plugin,
      log: pino({ level: 'debug' }, this.#lines),
      heartbeatMs: 100,
    };
  }

  /** Starts a consumer; `ended` resolves when it was stopped and rejects when it failed. */
  start(): { consumer: Consumer; ended: Promise<void>; stop: () => Promise<void> } {
    const consumer = new Consumer(this.options);
    this.#running.add(consumer);
    const ended = consumer.run();
    // Looked at by those who expect a failure; for the others reconcile shows it.
    ended.catch(() => {});
    const stop = async (): Promise<void> => {
      this.#running.delete(consumer);
      await consumer.stop();
      await ended.catch(() => {});
    };
    return { consumer, ended, stop };
  }

  /** Starts a consumer and waits until it reads. */
  async started() {
    const running = this.start();
    await Promise.race([
      running.ended,
      eventually(async () => (await this.status())?.state === 'running', 60_000),
    ]);
    return running;
  }

  async status() {
    const [row] = await this.#db.as('monitor')`
      select * from ops.change_capture_status where slot_name = ${this.slot}`;
    return row;
  }

  /** What differs between aggregates and tables. */
  async differences(): Promise<Difference[]> {
    return (await reconcile(this.options)).differences;
  }

  /** Asserts that the aggregates are what the tables give, and that there are some. */
  async expectRight(): Promise<void> {
    const { differences, rows } = await reconcile(this.options);
    expect(differences).toEqual([]);
    expect(rows).toBeGreaterThan(0);
  }

  async close(): Promise<void> {
    for (const consumer of this.#running) await consumer.stop();
    this.#running.clear();
  }

  /** Drops the slot: a database with one cannot be dropped. */
  async dropSlot(): Promise<void> {
    await eventually(async () => {
      await this.#db.as('superuser')`
        select pg_drop_replication_slot(slot_name) from pg_replication_slots
        where slot_name = ${this.slot} and not active`;
      const left = await this.#db.as('superuser')`
        select from pg_replication_slots where slot_name = ${this.slot}`;
      return left.length === 0;
    });
  }
}

/** Gives a file's tests consumers of its database; call it after useDatabase(). */
export function useCapture(db: TestDatabase, plugin?: Plugin): Capture {
  const capture = new Capture(db, plugin);
  afterEach(() => capture.close());
  afterAll(() => capture.dropSlot());
  return capture;
}

/** The days of a user, as gw_readonly sees them. */
export async function daysOf(sql: Sql, userId: string): Promise<Day[]> {
  const rows = await sql<Day[]>`
    select agg_date::text, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count
    from app_public.user_dashboard_aggregates
    where user_id = ${userId}
    order by agg_date`;
  return [...rows];
}

/** Asks for a user's days until they are these. */
export async function expectDays(sql: Sql, userId: string, days: Partial<Day>[]): Promise<void> {
  const wanted = days.map((day) => ({
    tasks_created: 0,
    tasks_completed: 0,
    reflections_count: 0,
    mood_sum: 0,
    mood_count: 0,
    ...day,
  }));
  let found: Day[] = [];
  await eventually(async () => {
    found = await daysOf(sql, userId);
    return JSON.stringify(found.map(sorted)) === JSON.stringify(wanted.map(sorted));
  }).catch(() => expect(found).toEqual(wanted));
}

const sorted = (day: object) => Object.entries(day).sort(([a], [b]) => a.localeCompare(b));

/**
 * Writes a task as of an instant, which triggers would not let one do.
 *
 * @param instants created_at, and completed_at when it is done
 */
export async function insertTask(
  sql: Sql,
  userId: string,
  created: string,
  completed: string | null = null,
): Promise<string> {
  const id = randomUUID();
  const status = completed === null ? 'todo' : 'done';
  await asReplica(
    sql,
    (inner) => inner`
      insert into app_public.tasks (user_id, id, title, status, created_at, completed_at)
      values (${userId}, ${id}, 'Write the report', ${status}, ${created}, ${completed})`,
  );
  return id;
}

/** Runs a superuser's statement without triggers. */
export async function asReplica(
  sql: Sql,
  statement: (sql: Transaction) => PromiseLike<unknown>,
): Promise<void> {
  await sql.begin(async (inner) => {
    await inner`set local session_replication_role = replica`;
    await statement(inner);
  });
}
