import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mayReadMetrics } from '../../src/metrics/access.ts';

/* Who may read /metrics, asked from addresses of this machine, over the network. */
let token: string | undefined;
let server: Server;
let port: number;

beforeAll(async () => {
  server = createServer((request, response) => {
    response.writeHead(mayReadMetrics(request, token) ? 200 : 403).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(() => server.close());

const ask = (headers: Record<string, string> = {}, host = '127.0.0.1') =>
  new Promise<number | undefined>((resolve, reject) => {
    httpRequest({ host, port, headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
  });

/** An address of this machine that is not loopback; its own requests to it come from it. */
const outer = Object.values(networkInterfaces())
  .flat()
  .find((each) => each?.family === 'IPv4' && !each.internal)?.address;

describe('without a token', () => {
  test('this machine may', async () => {
    token = undefined;
    expect(await ask()).toBe(200);
    expect(await ask({}, '127.0.0.2')).toBe(200);
  });

  test.each([
    ['forwarded', 'for=192.0.2.1'],
    ['x-forwarded-for', '192.0.2.1'],
    ['x-real-ip', '192.0.2.1'],
    ['via', '1.1 proxy'],
  ])('a proxy may not, when all that it says is %s', async (name, value) => {
    token = undefined;
    expect(await ask({ [name]: value })).toBe(403);
  });

  test.skipIf(outer === undefined)('another address may not', async () => {
    token = undefined;
    expect(await ask({}, outer)).toBe(403);
  });
});

describe('with a token', () => {
  test('who knows it may, from anywhere and through a proxy', async () => {
    token = 'a-token-of-the-tests';
    const authorization = `Bearer ${token}`;
    expect(await ask({ authorization })).toBe(200);
    expect(await ask({ authorization, via: '1.1 proxy' })).toBe(200);
    if (outer !== undefined) expect(await ask({ authorization }, outer)).toBe(200);
  });

  test.each([undefined, '', 'Bearer', 'Bearer another', 'Basic a-token-of-the-tests'])(
    'who says %j may not',
    async (authorization) => {
      token = 'a-token-of-the-tests';
      expect(await ask(authorization === undefined ? {} : { authorization })).toBe(403);
    },
  );
});
