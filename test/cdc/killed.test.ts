import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { slotNameOf } from '../../src/cdc/slot.ts';
import { connect, type Sql } from '../../src/database/connect.ts';
import { createMigrated, type Scratch, startScratch } from '../../src/database/scratch.ts';
import { projectRoot } from '../../src/database/state.ts';
import type { Database } from '../../src/database/urls.ts';
import { createUser } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * On a server of its own, because it is restarted and its settings change. The number of
 * changes can be set, for a look at more or a quicker one.
 */
const changes = Number(process.env.GW_TEST_CDC_CHANGES ?? 100_000);
const [kills, sessions] = [20, 8];

let server: Scratch;
let database: Database;
let sql: Sql;
const children = new Set<ChildProcess>();

function gw(...args: string[]): ChildProcess & { output: () => string } {
  const child = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), 'cdc', ...args], {
    cwd: projectRoot,
    env: {
      ...process.env,
      DATABASE_URL: database.urls.superuser,
      GW_CDC_PASSWORD: decodeURIComponent(new URL(database.urls.cdc).password),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return Object.assign(child, { output: () => output });
}

async function run(...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = gw(...args);
  await once(child, 'close');
  return { code: child.exitCode, output: child.output() };
}

/** Random changes of every kind that counts, from one session, in transactions of some. */
async function change(pool: Sql, users: string[], count: number): Promise<number> {
  const [row] = await pool<{ n: number }[]>`
    select ops.change_at_random(${users}::uuid[], ${count}) as n`;
  return row?.n ?? 0;
}

beforeAll(async () => {
  server = await startScratch('gw_killed_cron');
  database = await createMigrated(server.superuserUrl, 'gw_killed');
  sql = connect(database.urls.superuser ?? '', { max: sessions });
  await sql.unsafe(`
    create function ops.change_at_random(users uuid[], count integer) returns integer
    language plpgsql as $$
    declare
      one uuid;
      done integer := 0;
      n integer;
    begin
      while done < count loop
        one := users[1 + floor(random() * cardinality(users))];
        case floor(random() * 12)::integer
          when 0, 1, 2, 3 then
            insert into app_public.tasks (user_id, title, status)
            select one, 'Random', case when random() < 0.3 then 'done' else 'todo' end
            from generate_series(1, 1 + floor(random() * 5)::integer);
          when 4, 5, 6, 7 then
            update app_public.tasks
            set status = case status when 'done' then 'todo' else 'done' end
            where user_id = one and id in (
              select id from app_public.tasks
              where user_id = one and id > gen_random_uuid() order by id limit 4);
          when 8 then
            delete from app_public.tasks
            where user_id = one and id in (
              select id from app_public.tasks
              where user_id = one and id > gen_random_uuid() order by id limit 2);
          when 9 then
            insert into app_public.reflections (user_id, reflection_date, mood_score)
            values (one, date '2026-03-01' + floor(random() * 20)::integer,
              nullif(floor(random() * 6)::integer, 0));
          when 10 then
            update app_public.reflections set mood_score = 1 + floor(random() * 5)::integer
            where user_id = one and random() < 0.3;
          else
            if random() < 0.1 then
              update app_public.users
              set timezone = (array['UTC', 'Asia/Tokyo', 'America/New_York', 'Pacific/Apia'])
                [1 + floor(random() * 4)]
              where id = one;
            else
              delete from app_public.reflections where user_id = one and random() < 0.1;
            end if;
        end case;
        get diagnostics n = row_count;
        done := done + greatest(n, 0);
      end loop;
      return done;
    end
    $$`);
}, 120_000);

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await sql.end({ timeout: 1 });
  await server.stop();
}, 60_000);

const slot = () => slotNameOf('gw_killed');
const isReading = async (): Promise<boolean> => {
  const rows = await sql`
    select from pg_replication_slots where slot_name = ${slot()} and active`.catch(() => []);
  return rows.length > 0;
};

// In this order: the last leaves a server that cannot be used.
describe('on a server of its own', { shuffle: false }, () => {
  test(`killed ${kills} times, the server restarted twice: nothing is lost or doubled`, {
    timeout: 600_000,
  }, async () => {
    const users: string[] = [];
    for (let n = 0; n < 60; n += 1) users.push((await createUser(sql)).id);
    let [done, isOver] = [0, false];
    // Each session has users of its own: they do not wait for each other.
    const writers = Array.from({ length: sessions }, async (_, session) => {
      const own = users.filter((_user, index) => index % sessions === session);
      while (done < changes) {
        // A restart of the server breaks one; it is not counted, and perhaps not there.
        done += await change(sql, own, 1 + Math.floor(Math.random() * 60)).catch(async () => {
          await new Promise((resolve) => setTimeout(resolve, 100));
          return 0;
        });
        if (Math.random() < 0.005) {
          const index = Math.floor(Math.random() * own.length);
          await sql`delete from app_public.users where id = ${own[index] as string}`.catch(
            () => {},
          );
          own[index] = (await createUser(sql).catch(() => ({ id: own[index] as string }))).id;
        }
      }
    });
    const writing = Promise.all(writers).then(() => {
      isOver = true;
    });

    let killed = 0;
    let consumer = gw();
    for (; killed < kills; killed += 1) {
      // Some while it starts, some while it counts, most while it applies.
      if (killed % 4 !== 3) await eventually(isReading, 60_000);
      const until = (changes * (killed + 1)) / (kills + 1);
      await eventually(async () => done >= until || isOver, 300_000);
      consumer.kill('SIGKILL');
      await once(consumer, 'exit');
      consumer = gw();
      if (killed % 10 === 5) {
        // One that cannot connect at first ends, and says so; its supervisor starts it again.
        await eventually(isReading, 60_000);
        await server.restart(killed < 10 ? 'cleanly' : 'at once');
      }
    }
    await writing;
    expect(done).toBeGreaterThanOrEqual(changes);

    const compared = await run('reconcile');
    expect(compared.output).toContain('no difference');
    expect(compared.code).toBe(0);
    const [counted] = await sql`
    select count(*)::integer as n from app_public.user_dashboard_aggregates`;
    expect(counted?.n).toBeGreaterThan(50);
    const [capture] = await sql`
    select snapshot_lsn is not null as once, (
      select count(*)::integer from ops.alerts where check_name like 'change-capture%'
    ) as alerts
    from ops.change_capture`;
    // It got there by going on, not by counting everything anew.
    expect(capture).toEqual({ once: true, alerts: 0 });
    consumer.kill('SIGTERM');
    await once(consumer, 'exit');
    expect(consumer.exitCode).toBe(0);
  });

  test('a server that restarts cleanly is not held up by the consumer, which goes on after', {
    timeout: 120_000,
  }, async () => {
    const consumer = gw();
    await eventually(isReading, 60_000);
    // Held up, it would not end before the test does.
    await server.restart('cleanly');
    await eventually(isReading, 60_000);
    expect(consumer.exitCode).toBeNull();
    expect(consumer.output()).toContain('connecting again');
    consumer.kill('SIGTERM');
    await once(consumer, 'exit');
  });

  test('a server that has thrown the log away is noticed, and everything counted anew', {
    timeout: 120_000,
  }, async () => {
    const { id } = await createUser(sql);
    await sql`alter system set max_slot_wal_keep_size = '1MB'`;
    await sql`alter system set min_wal_size = '32MB'`;
    await sql`alter system set max_wal_size = '32MB'`;
    await sql`select pg_reload_conf()`;
    await sql`insert into app_public.tasks (user_id, title) values (${id}, 'Lost')`;
    await eventually(async () => {
      await sql`select pg_switch_wal()`;
      await sql`select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))`;
      await sql`checkpoint`;
      const [row] = await sql`
        select wal_status from pg_replication_slots where slot_name = ${slot()}`;
      return row?.wal_status === 'lost';
    }, 60_000);
    const [status] = await sql`select wal_status from ops.change_capture_status`;
    expect(status).toEqual({ wal_status: 'lost' });
    await sql`alter system reset max_slot_wal_keep_size`;
    await sql`select pg_reload_conf()`;
    const consumer = gw();
    await eventually(isReading, 60_000);
    expect(consumer.output()).toContain('it has lost its log');
    const [alert] = await sql`
      select level, resolved_at is not null as resolved from ops.alerts
      where check_name = 'change-capture-slot' order by id desc limit 1`;
    expect(alert).toEqual({ level: 'warning', resolved: true });
    expect((await run('reconcile')).output).toContain('no difference');
    consumer.kill('SIGTERM');
    await once(consumer, 'exit');
  });

  test('a server without wal2json is read with pgoutput; without a limit for slots it is said', {
    timeout: 120_000,
  }, async ({ skip }) => {
    const [known] = await sql`
      select from pg_settings where name = 'output_plugin_libraries'`;
    if (known === undefined) skip('this server loads every plugin');
    await sql`alter system set output_plugin_libraries = 'pgoutput'`;
    await sql`alter system set max_slot_wal_keep_size = '-1'`;
    await sql`select pg_reload_conf()`;
    expect((await run('resnapshot', '--yes')).code).toBe(0);
    const [row] = await sql`select plugin from ops.change_capture_status`;
    expect(row).toEqual({ plugin: 'pgoutput' });
    const [alert] = await sql`
      select level, resolved_at is null as open from ops.alerts
      where check_name = 'change-capture-disk'`;
    expect(alert).toEqual({ level: 'warning', open: true });
    expect((await run('reconcile')).output).toContain('no difference');
  });

  test('a server that does not write the log for it refuses with what to do', {
    timeout: 120_000,
  }, async () => {
    await sql`select pg_drop_replication_slot(slot_name) from pg_replication_slots`;
    await sql`alter system set wal_level = 'replica'`;
    await server.restart('cleanly');
    const refused = await run();
    expect(refused.code).toBe(2);
    expect(refused.output).toContain('wal_level = logical');
  });
});
