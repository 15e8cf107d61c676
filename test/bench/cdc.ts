import { availableParallelism } from 'node:os';
import { Consumer } from '../../src/cdc/consumer.ts';
import { openLink } from '../../src/cdc/link.ts';
import { parseLsn } from '../../src/cdc/lsn.ts';
import { PgoutputDecoder, pgoutputOptions } from '../../src/cdc/pgoutput.ts';
import { reconcile } from '../../src/cdc/reconcile.ts';
import { Relations } from '../../src/cdc/relations.ts';
import { type Plugin, plugins } from '../../src/cdc/slot.ts';
import { ReplicationStream } from '../../src/cdc/stream.ts';
import { Wal2jsonDecoder, wal2jsonOptions } from '../../src/cdc/wal2json.ts';
import { createLog } from '../../src/log.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import type { Database } from '../../src/postgres/urls.ts';
import { startScratch } from '../../src/server/scratch.ts';

const users = 500;
const changes = Number(process.env.GW_BENCH_CHANGES ?? 100_000);
const latencySeconds = 10;
const slot = 'gw_cdc_bench';
const log = createLog('cdc', 'error');
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const say = (text: string): boolean => process.stdout.write(`${text}\n`);

/** Transactions of ten changes each: five tasks made, four completed, one deleted. */
async function makeLoad(sql: Sql, rows: number): Promise<void> {
  await sql.unsafe(`do $$
    declare
      everybody uuid[] := array(select id from app_public.users);
      ids text[];
    begin
      for i in 1..${rows / 10} loop
        with made as (
          insert into app_public.tasks (user_id, title)
          select everybody[1 + floor(random() * ${users})], 'Write the report'
          from generate_series(1, 5)
          returning id, user_id
        )
        select array_agg(user_id::text || id::text) into ids from made;
        update app_public.tasks set status = 'done'
        from unnest(ids[1:4]) as made
        where tasks.user_id = left(made, 36)::uuid and tasks.id = right(made, 36)::uuid;
        delete from app_public.tasks
        where user_id = left(ids[5], 36)::uuid and id = right(ids[5], 36)::uuid;
        commit;
      end loop;
    end $$`);
}

/** Reads the same log and only decodes it. @returns seconds */
async function decodeOnly(database: Database, plugin: Plugin, name: string, end: bigint) {
  const control = await openLink(database.urls.cdc, { onLoss: () => {} });
  const relations = new Relations(control);
  await relations.load();
  const stream = await ReplicationStream.connect(database.urls.cdc);
  const started = performance.now();
  const options =
    plugin === 'wal2json' ? wal2jsonOptions(await relations.ignored()) : pgoutputOptions;
  const decoder = plugin === 'wal2json' ? new Wal2jsonDecoder() : new PgoutputDecoder();
  await stream.start(name, '0/0', options);
  for (let at = 0n; at < end; ) {
    for (const frame of await stream.read()) {
      const message = decoder.decode(frame);
      if (message?.kind === 'commit') at = message.endLsn;
    }
  }
  const seconds = (performance.now() - started) / 1000;
  await stream.close();
  await control.end();
  return seconds;
}

async function appliedLsn(sql: Sql): Promise<bigint> {
  const [row] = await sql`select applied_lsn::text as lsn from ops.change_capture`;
  return parseLsn(row?.lsn ?? '0/0');
}

function start(database: Database, plugin: Plugin): Consumer {
  const consumer = new Consumer({ url: database.urls.cdc, slot, plugin, log });
  void consumer.run();
  return consumer;
}

/** Drops a slot as soon as the server has noticed that its reader is gone. */
async function dropSlot(sql: Sql, name: string): Promise<void> {
  for (;;) {
    const dropped = await sql`select pg_drop_replication_slot(slot_name)
      from pg_replication_slots where slot_name = ${name} and not active`;
    if (dropped.length > 0) return;
    await pause(50);
  }
}

async function waitFor(sql: Sql, lsn: bigint): Promise<void> {
  while ((await appliedLsn(sql)) < lsn) await pause(5);
}

/** Commits at a steady rate; measures from each commit to its being in the aggregates. */
async function measureLatency(
  sql: Sql,
  perSecond: number,
): Promise<{ taken: number[]; asking: number[] }> {
  const waiting: { lsn: bigint; since: number }[] = [];
  const taken: number[] = [];
  const asking: number[] = [];
  const ids = (await sql<{ id: string }[]>`select id from app_public.users`).map(({ id }) => id);
  const total = perSecond * latencySeconds;
  let committed = 0;
  const watch = (async () => {
    while (taken.length < total) {
      const asked = performance.now();
      const applied = await appliedLsn(sql);
      const now = performance.now();
      asking.push(now - asked);
      while (waiting[0] !== undefined && waiting[0].lsn < applied) {
        taken.push(now - (waiting.shift()?.since ?? now));
      }
      await pause(2);
    }
  })();
  const begun = performance.now();
  while (committed < total) {
    const due = Math.min(total, Math.floor(((performance.now() - begun) * perSecond) / 1000));
    for (; committed < due; committed += 1) {
      // Nobody else commits such changes: the next to be applied after this position is ours.
      const [row] = await sql`insert into app_public.tasks (user_id, title)
        values (${ids[committed % users] as string}, 'Write the report')
        returning pg_current_wal_insert_lsn()::text as lsn`;
      waiting.push({ lsn: parseLsn(row?.lsn as string), since: performance.now() });
    }
    await pause(1);
  }
  await watch;
  return { taken: taken.sort((a, b) => a - b), asking: asking.sort((a, b) => a - b) };
}

async function runOne(database: Database, sql: Sql, plugin: Plugin): Promise<void> {
  let consumer = start(database, plugin);
  for (let reads = 0; reads === 0; await pause(20)) {
    reads = (
      await sql`select from ops.change_capture_status
        where plugin = ${plugin} and state = 'running' and active`
    ).length;
  }
  await consumer.stop();
  await sql`select pg_create_logical_replication_slot('gw_cdc_floor', ${plugin})`;
  await Promise.all([makeLoad(sql, changes / 2), makeLoad(sql, changes / 2)]);
  // A last change of ours, for both to end at.
  const [row] = await sql`
    select app_private.capture_heartbeat(${slot}), pg_current_wal_insert_lsn()::text as lsn`;
  const end = parseLsn(row?.lsn as string);

  const floor = await decodeOnly(database, plugin, 'gw_cdc_floor', end);
  await dropSlot(sql, 'gw_cdc_floor');
  const started = performance.now();
  consumer = start(database, plugin);
  await waitFor(sql, end);
  const seconds = (performance.now() - started) / 1000;
  const rate = (time: number): string => Math.round(changes / time).toLocaleString('en');
  say(`${plugin}: ${changes.toLocaleString('en')} row changes in transactions of 10`);
  say(`  applied       ${rate(seconds).padStart(8)} a second    goal: 10,000`);
  say(
    `  only decoded  ${rate(floor).padStart(8)} a second    ${(seconds / floor).toFixed(1)} times as fast`,
  );

  const { taken, asking } = await measureLatency(sql, 500);
  const at = (times: number[], share: number): string =>
    `${(times[Math.floor(times.length * share)] ?? 0).toFixed(1)} ms`;
  const both = (times: number[]): string =>
    `median ${at(times, 0.5)}, 99th percentile ${at(times, 0.99)}`;
  say('  at 500 changes a second');
  say(`    from commit to aggregate   ${both(taken)}    goal: 250 ms`);
  say(`    one query that reads a row ${both(asking)}`);
  await consumer.stop();
  const { differences } = await reconcile({ url: database.urls.cdc, slot, log });
  say(`  differences after all: ${differences.length}`);
  await dropSlot(sql, slot);
}

/** Prints how fast changes are applied, and how late, with both plugins. */
export async function run(): Promise<void> {
  say(`${availableParallelism()} cores`);
  const server = await startScratch('gw_bench_cron');
  try {
    const database = await createMigrated(server.superuserUrl, 'gw_bench');
    const sql = connect(database.urls.superuser ?? '', {
      max: 4,
      // The scratch server's commits reach the log only some time later.
      connection: { synchronous_commit: 'on' },
    });
    await sql`insert into app_public.users (email, first_name)
      select 'bench' || n || '@example.com', 'Bench' from generate_series(1, ${users}::integer) as n`;
    for (const plugin of plugins) await runOne(database, sql, plugin);
    await sql.end();
  } finally {
    await server.stop();
  }
}
