import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { Unread } from '../../src/api/unread.ts';
import { eventually } from '../helpers/wait.ts';

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

const megabyte = 1_000_000;
// More than what the kernel takes for a connection.
const text = Buffer.alloc(20 * megabyte, 'a long response. ');

/** Serves a long response to everybody. */
async function serve(unread: Unread): Promise<number> {
  const server = createServer((_, response) => {
    unread.pace(response);
    response.writeHead(200, { 'content-length': text.length });
    response.end(text);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A client that asks and does not read. */
function askOnly(port: number): { socket: Socket; closed: Promise<void> } {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nhost: here\r\n\r\n');
  const closed = new Promise<void>((resolve) => {
    socket.on('error', () => resolve());
    socket.on('close', () => resolve());
  });
  return { socket, closed };
}

test('a long response arrives whole, and nothing of it stays', async () => {
  const unread = new Unread({ bytes: 50 * megabyte, stallMs: 60_000 });
  const port = await serve(unread);
  const answer = await fetch(`http://127.0.0.1:${port}/`);
  expect(Buffer.from(await answer.arrayBuffer()).equals(text)).toBe(true);
  await eventually(async () => unread.bytes === 0);
});

test('a client that reads slowly gets all of it', async () => {
  const unread = new Unread({ bytes: 50 * megabyte, stallMs: 1_000 });
  const port = await serve(unread);
  const { socket, closed } = askOnly(port);
  let length = 0;
  socket.on('data', (piece) => {
    length += piece.length;
    socket.pause();
    setTimeout(() => socket.resume(), 1);
    if (length >= text.length) socket.end();
  });
  socket.resume();
  await closed;
  expect(length).toBeGreaterThan(text.length);
});

test('a client that reads nothing is cut off', async () => {
  const unread = new Unread({ bytes: 50 * megabyte, stallMs: 100 });
  const { closed, socket } = askOnly(await serve(unread));
  await eventually(async () => unread.bytes > 0);
  await eventually(async () => unread.bytes === 0);
  socket.resume();
  await closed;
});

test('of several clients that do not read, the one that waits longest is cut off', async () => {
  const unread = new Unread({ bytes: 25 * megabyte, stallMs: 60_000 });
  const port = await serve(unread);
  const first = askOnly(port);
  await eventually(async () => unread.bytes > 0);
  const last = askOnly(port);
  first.socket.resume();
  await first.closed;
  let length = 0;
  last.socket.on('data', (piece) => {
    length += piece.length;
  });
  last.socket.resume();
  await eventually(async () => length > text.length);
  expect(unread.bytes).toBeLessThanOrEqual(25 * megabyte);
});
