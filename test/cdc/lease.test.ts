import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { slotNameOf } from '../../src/cdc/slot.ts';
import { Blackhole } from '../helpers/blackhole.ts';
import { daysOf, expectDays, insertTask, useCapture } from '../helpers/capture.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

vi.setConfig({ testTimeout: patience(120_000) });

const db = useDatabase();
// Its slot is dropped at the end; the consumers are processes of their own.
const capture = useCapture(db);
const network = new Blackhole();
let processes: GwProcess[] = [];

async function capturing(url = db.url('owner')): Promise<GwProcess> {
  const consumer = new GwProcess(['cdc'], {
    DATABASE_URL: url,
    GW_CDC_PASSWORD: new URL(db.url('cdc')).password,
    GW_CDC_SLOT: slotNameOf(db.database.description),
    GW_LOG_LEVEL: 'info',
  });
  processes.push(consumer);
  await consumer.ready();
  return consumer;
}

const says = (consumer: GwProcess, text: string) =>
  eventually(async () => consumer.output.includes(text), 60_000);

afterEach(async () => {
  await Promise.all(processes.map((each) => each.kill()));
  processes = [];
});
afterAll(() => network.stop());

test('a consumer that hangs is replaced within 15 seconds, and waits when it wakes', async () => {
  const sql = db.as('superuser');
  const { id } = await createUser(sql);
  const leader = await capturing();
  await says(leader, 'reading');
  const follower = await capturing();
  await says(follower, 'another consumer runs');
  await insertTask(sql, id, '2026-03-01T10:00Z');
  await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);

  leader.signal('SIGSTOP');
  const stopped = Date.now();
  await insertTask(sql, id, '2026-03-01T11:00Z');
  await says(follower, 'the other consumer hangs: took over');
  await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 2 }]);
  expect(Date.now() - stopped).toBeLessThan(15_000);

  leader.signal('SIGCONT');
  await says(leader, 'another consumer runs');
  await insertTask(sql, id, '2026-03-01T12:00Z');
  await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 3 }]);
  expect(await follower.stop()).toBe(0);
  await insertTask(sql, id, '2026-03-01T13:00Z');
  await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 4 }]);
  expect(await leader.stop()).toBe(0);
  await capture.started();
  await capture.expectRight();
});

test('one whose server is gone without a word connects anew, and goes on', async () => {
  const sql = db.as('superuser');
  const { id } = await createUser(sql);
  const consumer = await capturing(await network.through(db.url('owner')));
  await says(consumer, 'reading');
  await insertTask(sql, id, '2026-03-01T10:00Z');
  await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
  network.swallow();
  const lost = Date.now();
  await insertTask(sql, id, '2026-03-01T11:00Z');
  await eventually(async () => (await daysOf(sql, id))[0]?.tasks_created === 2, 40_000);
  expect(Date.now() - lost).toBeLessThan(20_000);
  expect(await consumer.stop()).toBe(0);
});
