import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import process from 'node:process';
import { expect, test } from 'vitest';
import { choosePort, randomPort, reservationOf } from '../../src/server/ports.ts';

test('a port that was asked for is that one, or nothing', async () => {
  const port = await randomPort();
  const asked = () =>
    choosePort({ asked: port, variable: 'GW_PORT', remembered: undefined, standard: port });
  expect(await asked()).toBe(port);
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(port, '127.0.0.1', resolve));
  try {
    await expect(asked()).rejects.toMatchObject({
      message: `port ${port}, which GW_PORT asks for, is taken`,
      exitCode: 2,
    });
  } finally {
    squatter.close();
  }
});

test('a port by chance is none that the system gives to outgoing connections', async () => {
  const [first, last] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number) as [number, number];
  const ports = await Promise.all(Array.from({ length: 50 }, randomPort));
  expect(ports.filter((port) => port >= first && port <= last)).toEqual([]);
});

const choose = (standard: number) =>
  choosePort({ asked: undefined, variable: 'GW_PORT', remembered: undefined, standard });

test('a port that another start has chosen is passed by, until that one has ended', async () => {
  const port = await randomPort();
  const file = reservationOf(port);
  try {
    // It lives: who runs the tests.
    writeFileSync(file, String(process.ppid));
    expect(await choose(port)).toBeGreaterThan(port);
    // Nobody has such a number.
    writeFileSync(file, String(2 ** 30));
    expect(await choose(port)).toBe(port);
    expect(await choose(port)).toBe(port);
  } finally {
    rmSync(file, { force: true });
  }
});

test('a port that another start has chosen is not bound to see whether it is free', async () => {
  const port = await randomPort();
  const file = reservationOf(port);
  writeFileSync(file, String(process.ppid));
  try {
    for (let attempt = 0; attempt < 50; attempt += 1) {
      const choosing = choose(port);
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, '127.0.0.1', resolve);
      });
      await new Promise((resolve) => server.close(resolve));
      expect(await choosing).toBeGreaterThan(port);
    }
  } finally {
    rmSync(file, { force: true });
  }
});
