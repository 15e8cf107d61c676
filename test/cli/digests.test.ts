import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { joinedAt } from '../helpers/past.ts';

const db = useDatabase();
const checkout = new Checkout();
afterAll(() => checkout.remove());

const backfill = (...options: string[]) =>
  checkout.run(['digests', 'backfill', ...options], { DATABASE_URL: db.url('owner') });

async function digests(): Promise<number> {
  const [row] = await db.as('owner')<{ count: number }[]>`
    select count(*)::int as count from app_public.digests`;
  return row?.count ?? 0;
}

let first = '';

beforeAll(async () => {
  for (let number = 0; number < 3; number += 1) {
    const { id } = await createUser(db.as('owner'));
    await db.as('superuser').begin((sql) => joinedAt(sql, id, '2020-01-01T00:00Z'));
    first ||= id;
  }
});

beforeEach(() => db.as('superuser')`delete from app_public.digests`);

test('a backfill says what it would make, makes it, and then has nothing to do', async () => {
  const asked = await backfill('--weeks', '4', '--dry-run');
  expect(asked).toMatchObject({ code: 0, stdout: 'would write 12 digests of 3 users\n' });
  expect(await digests()).toBe(0);

  const one = await backfill('--weeks', '2', '--user', first, '--json');
  expect(JSON.parse(one.stdout)).toMatchObject({ users: 1, digests: 2, weeks: 2, dryRun: false });
  const all = await backfill('--weeks', '4');
  expect(all).toMatchObject({ code: 0, stdout: 'wrote 10 digests of 3 users\n' });
  expect(all.stderr).toContain('10 digests of 3 users');
  expect(await backfill('--weeks', '4')).toMatchObject({ stdout: 'wrote 0 digests of 3 users\n' });
  expect(await digests()).toBe(12);
});

test('a user whose digests are refused is named, and keeps no other from theirs', async () => {
  await db.as('superuser').unsafe(`alter table app_public.digests
    add constraint refused check (user_id <> '${first}') not valid`);
  try {
    const { code, stdout, stderr } = await backfill('--weeks', '4', '--json');
    expect(JSON.parse(stdout)).toMatchObject({
      users: 3,
      digests: 8,
      failed: [{ user: first, error: expect.stringContaining('refused') }],
    });
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`the digests of 1 of 3 users could not.*${first}`)),
    });
    expect(await digests()).toBe(8);
  } finally {
    await db.as('superuser')`alter table app_public.digests drop constraint refused`;
  }
});

test('what cannot be is refused', async () => {
  expect(await backfill('--user', randomUUID())).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no open account has the id'),
  });
  expect((await backfill('--weeks', '53')).code).toBe(2);
  expect((await backfill('--user', 'ada')).code).toBe(2);
});
