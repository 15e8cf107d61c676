import { expect, test } from 'vitest';
import { Leases } from '../../src/api/live/leases.ts';
import { createLog } from '../../src/log.ts';
import { Listener } from '../../src/postgres/listener.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();

/** Leases that are renewed ten times a second, and how often they lost track. */
async function listen(isWanted: (userId: string) => boolean = () => true) {
  const seen = { lost: 0 };
  const log = createLog('api', 'silent');
  const listener = new Listener({ url: db.url('authenticator'), applicationName: 'gw-test', log });
  const leases = new Leases(
    listener,
    log,
    {
      onNotification: () => {},
      onLost: () => {
        seen.lost += 1;
      },
      onLate: () => {},
      isWanted,
    },
    100,
  );
  await listener.start();
  const stop = async (): Promise<void> => {
    leases.stop();
    await listener.stop();
  };
  return { leases, stop, seen };
}

const expiry = async (userId: string): Promise<number> => {
  const [row] = await db.as('owner')`
    select extract(epoch from expires_at)::float as at
    from app_private.live_users where user_id = ${userId}`;
  return (row?.at as number | undefined) ?? 0;
};

test('a lease is renewed for as long as somebody wants it, and no longer', async () => {
  const { id } = await createUser(db.as('owner'));
  const other = await createUser(db.as('owner'));
  let isWanted = true;
  const { leases, stop, seen } = await listen((userId) => userId === other.id || isWanted);
  await leases.watch(id);
  await leases.watch(other.id);
  const first = await expiry(id);
  await eventually(async () => (await expiry(id)) > first);
  isWanted = false;
  const [mark, markOfOther] = [await expiry(id), await expiry(other.id)];
  // One renewal may have been under way.
  await eventually(async () => (await expiry(other.id)) > markOfOther + 0.5);
  expect(await expiry(id)).toBeLessThan(mark + 0.3);
  expect(seen.lost).toBe(0);
  await stop();
});

test('a lease that has lapsed unnoticed counts as lost, since changes went by', async () => {
  const { id } = await createUser(db.as('owner'));
  const { leases, stop, seen } = await listen();
  await leases.watch(id);
  await db.as('owner')`delete from app_private.live_users where user_id = ${id}`;
  await eventually(async () => seen.lost === 1);
  await eventually(async () => leases.isUp);
  await leases.watch(id);
  expect(await expiry(id)).toBeGreaterThan(0);
  await stop();
});
