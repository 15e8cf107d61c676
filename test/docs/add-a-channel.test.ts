import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { Guide } from '../helpers/guide.ts';
import { hurryQueue, logOf, planDue, planOne } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { reset, Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const guide = new Guide('add-a-channel');
const db = useDatabase();
const checkout = new Checkout();
const vendor = new Vendor();

/** Applies a change that is shown as the lines of before and after, once. */
function applyDiff(path: string, diff: string): void {
  const lines = diff.split('\n');
  const side = (sign: string): string =>
    lines
      .filter((line) => line.startsWith(sign) || line.startsWith(' '))
      .map((line) => line.slice(1))
      .join('\n');
  const text = readFileSync(checkout.path(path), 'utf8');
  expect(text.split(side('-')), `${path} has the lines of the guide once`).toHaveLength(2);
  writeFileSync(
    checkout.path(path),
    text.replace(side('-'), () => side('+')),
  );
}

const gw = (...args: string[]) => checkout.run(args, { DATABASE_URL: db.url('owner') });

beforeAll(async () => {
  await vendor.start();
  writeFileSync(
    checkout.path('src', 'worker', 'channels', 'chat.ts'),
    `${guide.at('src/worker/channels/chat.ts')}\n`,
  );
  for (const { language, place, text } of guide.blocks) {
    if (language === 'diff') applyDiff(place.replace(/,.*/, ''), text);
  }
  for (const _ of [1, 2]) {
    await db.as('owner').unsafe(guide.at('migrations/current/0001-chat.sql'));
    await db.as('owner').unsafe(guide.at('migrations/current/0002-chat-rules.sql'));
  }
  await hurryQueue(db.as('owner'));
  const worker = checkout.start(['worker'], {
    DATABASE_URL: db.url('owner'),
    GW_WORKER_PASSWORD: new URL(db.url('worker')).password,
    GW_DELIVERY_URL: `chat+${vendor.url}`,
  });
  await eventually(async () => worker.output().includes('"working"'));
}, patience(60_000));
beforeEach(() => {
  vendor.deliveries.length = 0;
});
afterEach(async () => {
  vendor.answer = () => ({ status: 202 });
  await db.as('owner')`delete from app_public.users`;
});
afterAll(async () => {
  await vendor.stop();
  await checkout.remove();
});

test('the code of the guide has the right types', () => {
  execFileSync(process.execPath, [
    join(projectRoot, 'node_modules', 'typescript', 'bin', 'tsc'),
    '--noEmit',
    '-p',
    checkout.path('tsconfig.json'),
  ]);
}, 120_000);

test('a message arrives in the room, and is SENT', async () => {
  const user = await planOne(db.as('owner'));
  await eventually(async () => (await logOf(db.as('owner'), user))?.status === 'SENT');
  expect(vendor.deliveries.map(({ body }) => body)).toEqual([
    { text: "Due0: Happy birthday, Due0!\nHey, Due0, it's your birthday! Have a great day." },
  ]);
});

test('a refusal is FAILED, 503 and a broken connection are not', async () => {
  for (const [answer, status] of [
    [{ status: 413 }, 'FAILED'],
    [{ status: 404 }, 'RETRYING'],
    [{ status: 503 }, 'RETRYING'],
    // The room remembers no key, so nobody knows.
    [reset, 'UNKNOWN'],
  ] as const) {
    vendor.answer = () => answer;
    const user = await planOne(db.as('owner'));
    await eventually(async () => (await logOf(db.as('owner'), user))?.status === status);
    await db.as('owner')`delete from app_public.users`;
  }
});

test('the limit of its row holds, and is changed as the guide says', async () => {
  const shown = async () => {
    const { stdout } = await gw('messages', 'channels', '--json');
    return (JSON.parse(stdout) as { channel: string }[]).find((row) => row.channel === 'chat');
  };
  expect(await shown()).toMatchObject({ messages_per_second: 1 });
  await planDue(db.as('owner'), 3);
  await eventually(async () => vendor.deliveries.length === 3);
  expect(await gw('messages', 'limit', 'chat', '10')).toMatchObject({ code: 0 });
  expect(await shown()).toMatchObject({ messages_per_second: 10 });
  expect(await gw('messages', 'limit', 'chat', '1')).toMatchObject({ code: 0 });
});
