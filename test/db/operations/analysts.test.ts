import { afterAll, describe, expect, test } from 'vitest';
import { connect, type Sql } from '../../../src/postgres/connect.ts';
import { useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const pools: Sql[] = [];

afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end({ timeout: 1 })));
});

const setting = async (name: string): Promise<string> => {
  const [row] = await db.as('readonly', 1)`select current_setting(${name}) as value`;
  return row?.value;
};

describe('an analyst', () => {
  test.each([
    ['statement_timeout', '5min'],
    ['idle_in_transaction_session_timeout', '10min'],
    ['max_parallel_workers_per_gather', '0'],
    ['temp_file_limit', '4GB'],
    ['default_transaction_read_only', 'on'],
  ])('has %s = %s', async (name, value) => {
    expect(await setting(name)).toBe(value);
  });

  test('is refused what writes too much to the disk, and cannot lift the limit', async () => {
    const sql = db.as('readonly', 1);
    await expect(sql`set temp_file_limit = -1`).rejects.toMatchObject({ code: '42501' });
    const superuser = db.as('superuser');
    const [{ name } = { name: '' }] = await superuser<{ name: string }[]>`
      select current_database() as name`;
    // 4 GB take a while to write.
    await superuser`
      alter role gw_readonly in database ${superuser(name)} set temp_file_limit = '1MB'`;
    const small = connect(db.url('readonly'), { max: 1 });
    pools.push(small);
    await expect(
      small`select count(*) from (
        select a, row_number() over (order by a desc) from generate_series(1, 1000000) as a
      ) as sorted`,
    ).rejects.toMatchObject({ code: '53400' });
  });

  // Taking them all would refuse the sessions of other files of this cluster.
  test('has at most 20 sessions', async () => {
    const [row] = await db.as('readonly', 1)`
      select rolconnlimit as "limit" from pg_roles where rolname = current_user`;
    expect(row?.limit).toBe(20);
  });
});
