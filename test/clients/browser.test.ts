import { createServer, type Server } from 'node:http';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { portOf } from '../../src/api/listening.ts';
import { openBrowser } from '../helpers/chromium.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { useServed } from '../helpers/served.ts';

const db = useDatabase();
let [named, other] = [0, 0];
const pages: Server[] = [];
let browser: Browser;

/** Serves an empty page, at an origin of its own. */
const servePage = async (): Promise<number> => {
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html><title>page</title>');
  });
  pages.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return portOf(server);
};

beforeAll(async () => {
  [named, other] = [await servePage(), await servePage()];
  browser = await openBrowser();
}, patience(120_000));
afterAll(async () => {
  await browser?.close();
  for (const server of pages) server.close();
});

const api = useServed(db, () => ({ GW_CORS_ORIGINS: `http://localhost:${named}` }));

interface Seen {
  status?: number;
  body?: string;
  requestId?: string | null;
  limit?: string | null;
  encoding?: string | null;
  refused?: string;
}

/** What a page of an origin sees of a request. */
async function askFrom(origin: string, token: string | undefined, method = 'POST'): Promise<Seen> {
  const page = await browser.newPage();
  try {
    await page.goto(origin);
    return await page.evaluate(
      async ([url, auth, verb]) => {
        try {
          const query = '{ viewer { email } }';
          const response = await fetch(
            verb === 'GET' ? `${url}?query=${encodeURIComponent(query)}` : `${url}`,
            {
              method: `${verb}`,
              headers: {
                ...(verb === 'GET' ? {} : { 'content-type': 'application/json' }),
                ...(auth ? { authorization: `Bearer ${auth}` } : {}),
              },
              ...(verb === 'GET' ? {} : { body: JSON.stringify({ query }) }),
            },
          );
          return {
            status: response.status,
            body: await response.text(),
            requestId: response.headers.get('x-request-id'),
            limit: response.headers.get('ratelimit-limit'),
          };
        } catch (error) {
          return { refused: String(error) };
        }
      },
      [api.url, token, method],
    );
  } finally {
    await page.close();
  }
}

test('a page of a named origin uses the API, with a token, and reads why it is refused', {
  timeout: patience(60_000),
}, async () => {
  const { accessToken } = await api.signUp('browser@example.com');
  const origin = `http://localhost:${named}`;
  for (const method of ['POST', 'GET']) {
    const seen = await askFrom(origin, accessToken, method);
    expect(seen).toMatchObject({ status: 200, requestId: expect.any(String), limit: '3000' });
    expect(seen.body).toContain('browser@example.com');
  }
  const refused = await askFrom(origin, 'none');
  expect(refused.status).toBe(401);
  expect(refused.body).toContain('TOKEN_INVALID');
});

test('a page of another origin reads nothing', { timeout: patience(60_000) }, async () => {
  const { accessToken } = await api.signUp('elsewhere@example.com');
  for (const origin of [`http://localhost:${other}`, `http://127.0.0.1:${named}`]) {
    for (const token of [undefined, accessToken]) {
      const seen = await askFrom(origin, token);
      expect(seen).toEqual({ refused: expect.stringContaining('Failed to fetch') });
    }
  }
});

test('a subscription needs no such permission: its token is no cookie', {
  timeout: patience(60_000),
}, async () => {
  const { accessToken } = await api.signUp('socket@example.com');
  const page = await browser.newPage();
  await page.goto(`http://localhost:${named}`);
  const first = await page.evaluate(
    ([url, token]) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(`${url}`.replace('http', 'ws'), 'graphql-transport-ws');
        socket.onopen = () =>
          socket.send(
            JSON.stringify({
              type: 'connection_init',
              payload: { authorization: `Bearer ${token}` },
            }),
          );
        socket.onmessage = ({ data }) => resolve(String(data));
        socket.onclose = ({ code, reason }) => resolve(`${code} ${reason}`);
      }),
    [api.url, accessToken],
  );
  await page.close();
  expect(JSON.parse(first)).toMatchObject({ type: 'connection_ack' });
});
