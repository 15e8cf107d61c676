import { afterEach, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { useDatabase } from '../helpers/database.ts';
import { hurryQueue, planDue } from '../helpers/messages.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const vendor = new Vendor();
let worker: Worker | undefined;

afterEach(async () => {
  await worker?.close();
  await vendor.stop();
});

test('a hold stops a worker that sends within a second, and a release lets it go on', async () => {
  const count = 3_000;
  await vendor.start();
  await hurryQueue(db.as('owner'));
  // Slow enough that a batch of messages is a second's work.
  vendor.answer = async () => {
    await new Promise((resolve) => setTimeout(resolve, 2));
    return { status: 202 };
  };
  await planDue(db.as('owner'), count);
  worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new HttpChannel(vendor.url, { concurrency: 4, timeoutMs: 5_000 }),
    log: createLog('worker', 'silent'),
  });
  await vendor.arrived(100);
  const [hold] = await db.as('owner')`select ops.hold_messages('the text is wrong') as id`;
  const held = vendor.deliveries.length;
  const waits = () =>
    eventually(async () => {
      const [row] = await db.as('owner')`
        select count(*) filter (where status = 'SENDING')::integer as sending,
          count(*) filter (where status = 'SENT')::integer as sent,
          count(*) filter (where status = 'QUEUED' and hold_id is not null)::integer as held
        from app_public.message_logs`;
      return row?.sending === 0 && row.sent + row.held === count && row;
    });
  const stopped = await waits();
  // What was claimed before the hold arrives: two batches, each of half a second's work.
  expect(stopped.sent).toBe(vendor.deliveries.length);
  expect(vendor.deliveries.length - held).toBeLessThan(2_000);
  expect(stopped.held).toBeGreaterThan(0);
  await db.as('owner')`select ops.release_messages(${hold?.id}, 'send')`;
  await eventually(async () => vendor.accepted.length === count);
  expect(new Set(vendor.accepted).size).toBe(count);
});
