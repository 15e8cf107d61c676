import { beforeAll, describe, expect, test } from 'vitest';
import type { Transaction } from '../../src/postgres/connect.ts';
import { become, createUser, expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';
import { expectSound, Guide } from '../helpers/guide.ts';
import { useReports } from '../helpers/reports.ts';

const guide = new Guide('add-a-partitioned-table');
const readings = guide.topic('36-readings');
const policy = guide.at('migrations/fixtures/topics/40-schedule.sql');
const stars = guide.topic('36-stars');
const untouched = useDatabase();

test('the tables of the guide break no rule', () =>
  expectSound(untouched, `${readings}${policy}; select ops.ensure_partitions(); ${stars}`, [
    'app_public.readings',
    'app_public.stars',
  ]));

describe('a table that is partitioned by time', () => {
  const db = useDatabase();
  const { rows } = useReports(db);
  const current = guide
    .at('migrations/current/0001-readings.sql')
    .replace(/^--!include .*$/m, () => readings);
  beforeAll(async () => {
    // As on two saves: it is repeatable.
    for (const _ of [1, 2]) {
      await db.as('owner').unsafe(current);
      await db.as('owner')`select ops.ensure_partitions()`;
    }
  });

  const partitionsOf = async (sql: Transaction) => {
    const found = await sql`
      select distinct tableoid::regclass::text as name from app_public.readings order by 1`;
    return found.map(({ name }) => String(name).replace('app_partitions.', ''));
  };

  test('has its partitions ahead, under one policy', async () => {
    const [row] = (await rows('partition-coverage')).filter(
      ({ parent_name }) => parent_name === 'app_public.readings',
    );
    expect(row).toMatchObject({ partitions: 13 });
    const policies = await db.as('monitor')`
      select parent_table::text from ops.partition_policies where retention = '24 months'`;
    expect(policies.map((each) => each.parent_table)).toEqual(['app_public.readings']);
  });

  test('shows a user no row of another, and nobody a partition', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const [ada, bob] = [await createUser(sql), await createUser(sql)];
      await become(sql, ada.id);
      await sql`insert into app_public.readings (value) values (1)`;
      expect(await sql`select from app_public.readings`).toHaveLength(1);
      await become(sql, bob.id);
      expect(await sql`select from app_public.readings`).toHaveLength(0);
      const delivered = await sql`delete from app_public.readings`;
      expect(delivered.count).toBe(0);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`
        select from app_partitions.readings_default`,
      );
    });
  });

  test('keeps rows of a month without a partition, and moves them when it is created', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const { id } = await createUser(sql);
      await sql`set local role gw_owner`;
      await sql`insert into app_public.readings (user_id, taken_at, value)
        values (${id}, '2020-02-03', 1)`;
      expect(await partitionsOf(sql)).toEqual(['readings_default']);
      await sql.unsafe(guide.at('in psql, as gw_owner'));
      expect(await partitionsOf(sql)).toEqual(['readings_p202002']);
    });
  });

  test('loses old partitions once a verified backup holds them', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`delete from ops.backups`;
      await sql`set local role gw_owner`;
      await sql.unsafe(guide.at('in psql, as gw_owner'));
      await sql`select ops.prune_old_activity_partitions()`;
      const exists = async () => {
        const [row] = await sql`
          select to_regclass('app_partitions.readings_p202002') is not null as here,
            exists (select from pg_inherits
              where inhrelid = to_regclass('app_partitions.readings_p202002')) as attached`;
        return row;
      };
      expect(await exists()).toEqual({ here: true, attached: false });
      await sql`select ops.drop_detached_partitions()`;
      expect(await exists()).toEqual({ here: true, attached: false });
      await sql`
        insert into ops.backups (kind, location, started_at, finished_at, verified_at)
        values ('logical', 'x', clock_timestamp(), clock_timestamp(), clock_timestamp())`;
      await sql`select ops.drop_detached_partitions()`;
      expect(await exists()).toEqual({ here: false, attached: false });
    });
  });
});

test('a statement of a user reads one hash partition, and the rows of this user', async () => {
  await rolledBack(untouched.as('superuser'), async (sql) => {
    await sql`set local role gw_owner`;
    await sql.unsafe(stars);
    await sql`set local role none`;
    const [ada, bob] = [await createUser(sql), await createUser(sql)];
    await become(sql, ada.id);
    await sql`insert into app_public.stars (label) values ('hers')`;
    await become(sql, bob.id);
    expect(await sql`select from app_public.stars`).toHaveLength(0);
    const plan = await sql`explain (costs off) select from app_public.stars`;
    expect(plan.map((row) => row['QUERY PLAN']).join('\n')).toContain('Subplans Removed: 15');
  });
});

test('what can go wrong has the codes of the guide', async () => {
  await rolledBack(untouched.as('superuser'), async (sql) => {
    await sql`set local role gw_owner`;
    await sql.unsafe(stars);
    await sql`insert into ops.partition_policies (parent_table, step, premake)
      values ('app_public.stars', '1 month', 1)`;
    const left = await sql`
      select failure from ops.make_partitions()
      where parent_table = 'app_public.stars'::regclass`;
    expect(left).toEqual([{ failure: expect.stringMatching(/^GW010: /) }]);
  });
});
