import { beforeAll, expect, test } from 'vitest';
import { createUser, rolledBack, useDatabase } from '../helpers/database.ts';
import { Guide } from '../helpers/guide.ts';
import { useReports } from '../helpers/reports.ts';

const guide = new Guide('add-a-cron-job');
const included = 'functions/app_private/delete_canceled_tasks.sql';
const db = useDatabase();
const { rows } = useReports(db);

beforeAll(async () => {
  const file = guide
    .at('migrations/current/0001-canceled-tasks.sql')
    .replace(`--!include ${included}`, () => guide.at(`migrations/fixtures/${included}`));
  for (const _ of [1, 2]) {
    await db.as('owner').unsafe(file);
    await db.as('owner').unsafe(guide.at('migrations/current/0001-retention.sql'));
  }
});

test('the job of the guide is declared, and its command does what it says', async () => {
  const [job] = (await rows('schedule')).filter((row) => row.job_name === 'delete-canceled-tasks');
  expect(job).toMatchObject({ schedule: '20 4 * * *', is_declared: true });
  await rolledBack(db.as('superuser'), async (sql) => {
    const { id } = await createUser(sql);
    await sql`set local session_replication_role = replica`;
    await sql`
      insert into app_public.tasks (user_id, title, status, updated_at) values
        (${id}, 'old', 'canceled', now() - interval '91 days'),
        (${id}, 'lately', 'canceled', now() - interval '89 days'),
        (${id}, 'open', 'todo', now() - interval '91 days')`;
    await sql`set local session_replication_role = origin`;
    await sql`set local role gw_owner`;
    await sql.unsafe(String(job?.command));
    const left = await sql`select title from app_public.tasks where user_id = ${id} order by 1`;
    expect(left.map(({ title }) => title)).toEqual(['lately', 'open']);
  });
});

test('no other role may call it', async () => {
  for (const role of ['authenticator', 'worker', 'monitor'] as const) {
    await expect(db.as(role)`select app_private.delete_canceled_tasks()`).rejects.toMatchObject({
      code: '42501',
    });
  }
});

test('the retention policy of the guide can be followed', async () => {
  const [policy] = (await rows('retention')).filter(
    (row) => row.relation === 'app_public.snapshots',
  );
  expect(policy).toMatchObject({
    kept_for: '5 years',
    due_rows: 0,
    next_job: 'delete-expired-rows',
    blocked_by: 'pg_cron is not here',
  });
});

test('the job is stopped as the guide says', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    await sql.unsafe(guide.at('in psql, as gw_owner'));
    const [job] = await sql`
      select is_active from ops.cron_jobs where job_name = 'delete-canceled-tasks'`;
    expect(job).toEqual({ is_active: false });
  });
});
