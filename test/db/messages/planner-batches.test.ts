import { afterEach, expect, test } from 'vitest';
import { useDatabase } from '../../helpers/database.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();
const users = 600;
const key = 4711;

/** Users whose birthday is today in UTC, an hour from now on, in this order. */
async function createDueUsers(): Promise<void> {
  const sql = db.as('owner');
  await sql`
    insert into app_public.users (email, first_name, birthday_date, timezone)
    select 'due' || n || '@example.com', 'User', date '1990-06-15', 'UTC'
    from generate_series(1, ${users}::integer) as n`;
  await sql`delete from app_private.message_schedule`;
  await sql`
    insert into app_private.message_schedule
    (user_id, message_type, delivery_date, scheduled_send_time)
    select id, 'BIRTHDAY', current_date,
      now() + interval '1 hour' + interval '1 second' * row_number() over (order by id)
    from app_public.users`;
}

const planned = async (): Promise<number> => {
  const [row] = await db.as('owner')`
    select count(*)::integer as n from app_public.message_logs where message_type = 'BIRTHDAY'`;
  return row?.n;
};
const runPlanner = (patience = '45 seconds') =>
  db.as('superuser').unsafe(`call app_private.run_planner('${patience}')`);

afterEach(async () => {
  const sql = db.as('superuser');
  await sql.unsafe('drop function if exists public.wait_here() cascade');
  await sql`delete from app_public.users`;
  await sql`delete from pgboss.job`;
});

test('what is planned is committed batch by batch, and stays when it is stopped', async () => {
  const sql = db.as('superuser');
  await createDueUsers();
  // The last who is due is held up.
  const [last] = await sql`select max(id::text) as id from app_public.users`;
  await sql.unsafe(`
    create function public.wait_here() returns trigger language plpgsql as $$
    begin
      if new.user_id = '${last?.id}'
      then
        perform pg_advisory_xact_lock(${key});
      end if;
      return new;
    end $$;
    create trigger wait_here before insert on app_public.message_logs
      for each row execute function public.wait_here()`);
  const holder = await sql.reserve();
  await holder`select pg_advisory_lock(${key})`;
  const running = runPlanner();
  running.catch(() => {});
  const waiting = await eventually(async () => {
    const [row] = await sql`select pid from pg_locks where locktype = 'advisory'
      and objid = ${key} and not granted`;
    return row?.pid;
  });
  const before = await planned();
  expect(before).toBeGreaterThan(0);
  expect(before).toBeLessThan(users);
  // Whoever is planned can change at once: the planner holds them no longer.
  await sql.begin(async (inner) => {
    await inner`set local lock_timeout = '1s'`;
    await inner`
      update app_public.users set first_name = 'Changed'
      where id in (select user_id from app_public.message_logs)`;
  });
  await sql`select pg_cancel_backend(${waiting})`;
  await expect(running).rejects.toMatchObject({ code: '57014' });
  await holder`select pg_advisory_unlock(${key})`;
  holder.release();
  expect(await planned()).toBe(before);
  await runPlanner();
  expect(await planned()).toBe(users);
  const [twice] = await sql`
    select count(*)::integer as n, count(distinct user_id)::integer as users
    from app_public.message_logs where message_type = 'BIRTHDAY'`;
  expect(twice).toEqual({ n: users, users });
});

test('a run ends when its time is over, and the next goes on with who is due first', async () => {
  const sql = db.as('superuser');
  await createDueUsers();
  await runPlanner('0 seconds');
  const first = await planned();
  expect(first).toBeGreaterThan(0);
  expect(first).toBeLessThan(users);
  const [order] = await sql`
    select max(logs.scheduled_send_time) < (
      select min(scheduled_send_time) from app_private.message_schedule
      where scheduled_send_time < now() + interval '1 day'
    ) as earliest_first
    from app_public.message_logs as logs`;
  expect(order).toEqual({ earliest_first: true });
  await runPlanner();
  expect(await planned()).toBe(users);
});
