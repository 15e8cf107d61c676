import { createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Attempt, Message } from '../../src/worker/channels/channel.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { reset, Vendor } from '../helpers/vendor.ts';

/*
 * What each answer, and each lack of one, means for a message: whether it is tried again, when,
 * and whether it may have arrived.
 */
const vendor = new Vendor();
beforeAll(() => vendor.start());
afterAll(() => vendor.stop());

const message: Message = {
  job_id: 'job',
  message_id: 'message',
  user_id: 'user',
  scheduled_send_time: '2026-06-15T09:00:00Z',
  message_type: 'BIRTHDAY',
  delivery_date: '2026-06-15',
  email: 'ann@example.com',
  full_name: 'Ann',
  message_subject: 'Hey',
  message_content: 'Hey, Ann',
  idempotency_key: 'key',
  attempt: 0,
  was_attempted: false,
  is_optional: true,
};

/** Delivers a message to an address, with a second for an answer. */
async function deliverTo(url: string, timeoutMs = 1_000): Promise<Attempt> {
  const channel = new HttpChannel(url, { concurrency: 1, timeoutMs });
  try {
    const [attempt] = await channel.deliver([message]);
    return attempt as Attempt;
  } finally {
    await channel.close();
  }
}

/** What comes of a response. */
async function answered(status: number, headers: Record<string, string> = {}): Promise<Attempt> {
  vendor.answer = () => ({ status, headers, body: 'said' });
  return deliverTo(vendor.url);
}

/** A receiver that does something else with a connection than to answer. */
async function withReceiver<Result>(
  meet: (socket: Socket) => void,
  work: (url: string) => Promise<Result>,
): Promise<Result> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    meet(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await work(`http://127.0.0.1:${(server.address() as { port: number }).port}/`);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

describe('a response', () => {
  test.each([200, 201, 202, 204, 299])('%i is SENT', async (status) => {
    expect(await answered(status)).toMatchObject({ status: 'SENT', code: status });
  });

  test.each([
    [300, false],
    [301, false],
    [400, false],
    [401, false],
    [403, false],
    [404, false],
    [410, false],
    [413, false],
    [422, false],
    // It says itself that it did not take the message.
    [409, false],
    [425, false],
    [429, false],
    [500, false],
    [503, false],
    // It gave up waiting for somebody who may have.
    [408, true],
    [502, true],
    [504, true],
  ])('%i is a refusal; that it may have arrived: %s', async (status, isUncertain) => {
    const attempt = await answered(status, { location: vendor.url });
    expect(attempt).toMatchObject({
      ...{ status: 'REFUSED', stage: 'response', code: status, body: 'said' },
    });
    expect(attempt.is_uncertain ?? false).toBe(isUncertain);
    expect(attempt.retry_after_seconds).toBeUndefined();
  });

  test.each([
    ['', { 'x-message-id': '14c5d75ce93' }, '14c5d75ce93'],
    ['{"id":"<2024.1@mg.example.org>","message":"Queued"}', {}, '2024.1@mg.example.org'],
    ['{"MessageID":"b7bc2f4a-e38e-4336"}', {}, 'b7bc2f4a-e38e-4336'],
    ['{"id":7}', {}, undefined],
    ['{"id":', {}, undefined],
    ['ok', {}, undefined],
    [`{"id":"${'x'.repeat(251)}"}`, {}, undefined],
  ])('%j says by which name the vendor knows the message', async (body, headers, id) => {
    vendor.answer = () => ({ status: 202, headers, body });
    expect((await deliverTo(vendor.url)).provider_message_id).toBe(id);
  });
});

describe('Retry-After', () => {
  const secondsOf = async (header: string) =>
    (await answered(503, { 'retry-after': header })).retry_after_seconds;

  test('is a number of seconds', async () => {
    expect(await secondsOf('0')).toBe(0);
    expect(await secondsOf('120')).toBe(120);
  });

  test('is a date, of which a past one means now', async () => {
    const inTwoMinutes = await secondsOf(new Date(Date.now() + 120_000).toUTCString());
    expect(inTwoMinutes).toBeGreaterThan(100);
    expect(inTwoMinutes).toBeLessThanOrEqual(120);
    expect(await secondsOf(new Date(Date.now() - 120_000).toUTCString())).toBe(0);
  });

  test.each(['soon', '-5', '1.5e3', ''])('is nothing when it is %j', async (header) => {
    const seconds = await secondsOf(header);
    expect(seconds === undefined || seconds === 0).toBe(true);
  });
});

test('a worker that stood still while it called has not waited meanwhile', async () => {
  vendor.answer = async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    return { status: 202 };
  };
  const delivered = deliverTo(vendor.url, 1_000);
  // Longer than an answer may take; the request has not left yet.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_000);
  expect(await delivered).toMatchObject({ status: 'SENT', code: 202 });
});

describe('no response', () => {
  const failed = async (url: string): Promise<boolean> => {
    const attempt = await deliverTo(url);
    expect(attempt).toMatchObject({ status: 'RETRYING', error: expect.any(String) });
    expect(attempt.code).toBeUndefined();
    return attempt.is_uncertain ?? false;
  };

  test('nobody listens, or nobody has the name: nothing has arrived', async () => {
    const url = await withReceiver(
      () => {},
      async (closed) => closed,
    );
    expect(await failed(url)).toBe(false);
    expect(await failed('http://no-such-host.invalid/')).toBe(false);
  });

  test('the connection breaks when all was sent: it may have arrived', async () => {
    vendor.answer = () => reset;
    expect(await failed(vendor.url)).toBe(true);
  });

  test.each([
    ['ends', (socket: Socket) => socket.once('data', () => socket.end())],
    ['is reset', (socket: Socket) => socket.once('data', () => socket.resetAndDestroy())],
    ['is silent', () => {}],
    [
      'breaks off in its answer',
      (socket: Socket) =>
        socket.once('data', () => {
          socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc');
          socket.end();
        }),
    ],
    [
      'does not end its answer',
      (socket: Socket) =>
        socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n')),
    ],
    ['speaks another language', (socket: Socket) => socket.once('data', () => socket.end('hello'))],
  ] as [string, (socket: Socket) => void][])('a receiver that %s may have it', async (_, meet) => {
    expect(await withReceiver(meet, failed)).toBe(true);
  });
});
