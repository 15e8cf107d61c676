import { once } from 'node:events';
import process from 'node:process';
import { beforeAll, describe, expect, test } from 'vitest';
import { plugins } from '../../src/cdc/slot.ts';
import type { Sql } from '../../src/postgres/connect.ts';
import { useCaptureServer } from '../helpers/capture-server.ts';
import { createUser } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

// How many can be set, for a look at more or a quicker one.
const changes = Number(process.env.GW_TEST_CDC_CHANGES ?? 30_000);
const [kills, sessions] = [12, 6];

const changeAtRandom = `
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
$$`;

/** Random changes of every kind that counts, from one session. Resolves with their number. */
async function change(sql: Sql, users: string[], count: number): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select ops.change_at_random(${users}::uuid[], ${count}) as n`;
  return row?.n ?? 0;
}

/** The loss was said, and is mended. */
const recounted = (sql: Sql): Promise<unknown> =>
  eventually(async () => {
    const [alert] = await sql`
      select level, resolved_at is not null as resolved from ops.alerts
      where check_name = 'change-capture-slot' order by id desc limit 1`;
    return alert?.level === 'warning' && alert.resolved;
  }, 60_000);

for (const plugin of plugins) {
  // In this order: the last leaves a server with little room.
  describe(`with ${plugin}`, { shuffle: false }, () => {
    const server = useCaptureServer(plugin.replace(/[^a-z]/g, ''), { GW_CDC_PLUGIN: plugin });
    beforeAll(async () => {
      await server.sql.unsafe(changeAtRandom);
    });

    test(`killed ${kills} times, the server restarted twice: nothing is lost or doubled`, {
      timeout: patience(600_000),
    }, async () => {
      const { sql } = server;
      const users: string[] = [];
      for (let n = 0; n < 60; n += 1) users.push((await createUser(sql)).id);
      let [done, isOver] = [0, false];
      // Each session has users of its own: they do not wait for each other.
      const writers = Array.from({ length: sessions }, async (_, session) => {
        const own = users.filter((_user, index) => index % sessions === session);
        while (done < changes) {
          // A restart of the server breaks one; it is not counted, and perhaps not there.
          const count = await change(sql, own, 1 + Math.floor(Math.random() * 60)).catch(
            async () => {
              await new Promise((resolve) => setTimeout(resolve, 100));
              return 0;
            },
          );
          done += count;
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
      let consumer = server.gw();
      for (; killed < kills; killed += 1) {
        // Some while it starts, some while it counts, most while it applies.
        if (killed % 4 !== 3) await server.reading(consumer);
        const until = (changes * (killed + 1)) / (kills + 1);
        await eventually(async () => done >= until || isOver, 300_000);
        consumer.kill('SIGKILL');
        await once(consumer, 'exit');
        consumer = server.gw();
        if (killed % 6 === 3) {
          // One that cannot connect at first ends, and says so; its supervisor starts it again.
          await server.reading(consumer);
          await server.restart(killed < kills / 2 ? 'cleanly' : 'at once');
        }
      }
      await writing;
      expect(done).toBeGreaterThanOrEqual(changes);

      const compared = await server.run('reconcile');
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
      timeout: patience(120_000),
    }, async () => {
      const consumer = server.gw();
      await server.reading(consumer);
      // Held up, it would not end before the test does.
      await server.restart('cleanly');
      await server.reading(consumer);
      expect(consumer.exitCode).toBeNull();
      expect(consumer.output()).toContain('connecting again');
      consumer.kill('SIGTERM');
      await once(consumer, 'exit');
    });

    test('a server that has thrown the log away is noticed, and everything counted anew', {
      timeout: patience(120_000),
    }, async () => {
      const { sql } = server;
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
        select wal_status from pg_replication_slots where slot_name = ${server.slot}`;
        return row?.wal_status === 'lost';
      }, 60_000);
      const [status] = await sql`select wal_status from ops.change_capture_status`;
      expect(status).toEqual({ wal_status: 'lost' });
      // What it has not read keeps partitions from being dropped.
      const [confirmed] = await sql`select ops.is_confirmed_by_cdc() as yes`;
      expect(confirmed?.yes).toBe(false);
      await sql`alter system reset max_slot_wal_keep_size`;
      await sql`select pg_reload_conf()`;
      const consumer = server.gw();
      await server.reading(consumer);
      expect(consumer.output()).toContain('it has lost its log');
      await recounted(sql);
      expect((await server.run('reconcile')).output).toContain('no difference');
      consumer.kill('SIGTERM');
      await once(consumer, 'exit');
    });

    test('a log that is gone, which the slot does not know, is noticed when it is read', {
      timeout: patience(120_000),
    }, async () => {
      const { sql } = server;
      const { id } = await createUser(sql);
      await sql`insert into app_public.tasks (user_id, title) values (${id}, 'Lost too')`;
      await sql`select pg_switch_wal()`;
      await sql`checkpoint`;
      const [file] = await sql`
        select pg_walfile_name(restart_lsn) as name, wal_status from pg_replication_slots
        where slot_name = ${server.slot}`;
      expect(file?.wal_status).toBe('reserved');
      await sql.unsafe(`copy (select) to program 'rm pg_wal/${file?.name}'`);
      const consumer = server.gw();
      await server.reading(consumer);
      await eventually(async () => consumer.output().includes('it has lost its log'));
      await eventually(async () => (await server.run('reconcile')).code === 0);
      await recounted(sql);
      consumer.kill('SIGTERM');
      await once(consumer, 'exit');
    });
  });
}
