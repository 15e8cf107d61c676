import { expect, test } from 'vitest';
import { type Change, parseNotification } from '../../src/api/live/events.ts';
import { Hub, type Subscription } from '../../src/api/live/hub.ts';

const told = (event: 'INSERT' | 'UPDATE' | 'DELETE', keys: string[] | null, userId = 'u') => ({
  topic: 'task' as const,
  event,
  users: [[userId, keys] as [string, string[] | null]],
});

/** What waits, without waiting for more. */
async function waiting(subscription: Subscription): Promise<Change[]> {
  const changes: Change[] = [];
  for (;;) {
    const next = await Promise.race([
      subscription.next(),
      new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined))),
    ]);
    if (next?.value === undefined) return changes;
    changes.push(next.value);
    subscription.ready();
  }
}

test('a burst of changes of one row is one event, and one that was made in it was made', async () => {
  const hub = new Hub();
  const subscription = hub.subscribe('task', 'u');
  for (let number = 0; number < 1000; number += 1) hub.publish(told('UPDATE', ['a']));
  hub.publish(told('INSERT', ['b']));
  hub.publish(told('UPDATE', ['b']));
  hub.publish(told('INSERT', ['c']));
  hub.publish(told('DELETE', ['c']));
  hub.publish(told('DELETE', ['d']));
  hub.publish(told('INSERT', ['d']));
  expect((await waiting(subscription)).map(({ key, kind }) => [key, kind])).toEqual([
    ['a', 'UPDATE'],
    ['b', 'INSERT'],
    ['c', 'DELETE'],
    ['d', 'UPDATE'],
  ]);
});

test('more than 100 rows that wait become one event: many', async () => {
  const hub = new Hub();
  const all = hub.subscribe('task', 'u');
  const one = hub.subscribe('task', 'u', 'row 7');
  const keys = Array.from({ length: 150 }, (_, number) => `row ${number}`);
  for (const key of keys) hub.publish(told('UPDATE', [key]));
  hub.publish(told('DELETE', ['row 7']));
  const changes = await waiting(all);
  expect(changes[0]).toEqual({ userId: 'u', kind: 'MANY', key: null });
  expect(changes.length).toBe(1);
  expect(await waiting(one)).toEqual([{ userId: 'u', kind: 'DELETE', key: 'row 7' }]);
});

test('of many changes that are not named, who follows one row is told to look', async () => {
  const hub = new Hub();
  const one = hub.subscribe('task', 'u', 'row 7');
  hub.publish(told('DELETE', null));
  expect(await waiting(one)).toEqual([{ userId: 'u', kind: 'UPDATE', key: 'row 7' }]);
});

test('a subscription hears of its own user and topic only, and of nothing once it is over', async () => {
  const hub = new Hub();
  const subscription = hub.subscribe('task', 'u');
  hub.publish(told('UPDATE', ['a'], 'another'));
  hub.publish({ ...told('UPDATE', ['a']), topic: 'message' });
  const next = subscription.next();
  expect(hub.size).toBe(1);
  await subscription.return();
  expect(await next).toEqual({ done: true, value: undefined });
  expect(hub.size).toBe(0);
  hub.publish(told('UPDATE', ['a']));
  expect(await subscription.next()).toEqual({ done: true, value: undefined });
});

test('a notification that is not ours is not read', () => {
  for (const payload of ['', '{', '{}', '{"topic":"task","event":"UPDATE","users":[["x",null]]}']) {
    expect(parseNotification(payload)).toBeUndefined();
  }
});

test('the next change is handed out when the one before has been sent, and is the latest then', async () => {
  const hub = new Hub();
  const subscription = hub.subscribe('task', 'u');
  hub.publish(told('INSERT', ['a']));
  expect((await subscription.next()).value?.kind).toBe('INSERT');
  const next = subscription.next();
  hub.publish(told('UPDATE', ['a']));
  hub.publish(told('DELETE', ['a']));
  const early = await Promise.race([next, new Promise((resolve) => setImmediate(resolve))]);
  expect(early).toBeUndefined();
  subscription.ready();
  expect((await next).value?.kind).toBe('DELETE');
});
