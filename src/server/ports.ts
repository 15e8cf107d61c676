import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { isAlive } from './processes.ts';

/** Whether a TCP port can be bound on an address at this moment. */
export function isFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Says on this machine who has chosen a port. */
export const reservationOf = (port: number): string => join(tmpdir(), `groundwork-port-${port}`);

/**
 * Notes that this process has chosen a port. Seconds pass until somebody listens there, and
 * another start would choose it too.
 *
 * @returns false when another living process has chosen it
 */
function reserve(port: number): boolean {
  const file = reservationOf(port);
  for (let attempt = 0; attempt < 2; attempt += 1) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' });
      process.once('exit', () => rmSync(file, { force: true }));
      return true;
    } catch (error) {
      // Without a place to note it, two that start at once may meet.
      if (codeOf(error) !== 'EEXIST') return true;
    }
    let holder: number;
    try {
      holder = Number(readFileSync(file, 'utf8'));
    } catch {
      continue;
    }
    if (holder === process.pid) return true;
    if (isAlive(holder)) return false;
    try {
      rmSync(file, { force: true });
    } catch {
      return true;
    }
  }
  return false;
}

/** The first port that the system gives to outgoing connections: any may be taken at any time. */
function firstOutgoingPort(): number {
  try {
    return Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'), 10);
  } catch {
    // Not Linux: the range that IANA sets aside.
    return 49_152;
  }
}

/** A port of loopback that nobody uses now. */
export async function randomPort(): Promise<number> {
  const lowest = 10_000;
  const span = Math.max(firstOutgoingPort() - lowest, 1_000);
  for (;;) {
    const port = lowest + Math.floor(Math.random() * span);
    if (await isFree(port)) return port;
  }
}

/**
 * The port to listen on: the one asked for, else the one remembered, else the default, else
 * the next free one.
 *
 * @throws GwError when a port was asked for by name and is taken
 */
export async function choosePort(options: {
  asked: number | undefined;
  variable: string;
  remembered: number | undefined;
  standard: number;
  host?: string;
}): Promise<number> {
  const { asked, variable, remembered, standard, host } = options;
  if (asked !== undefined) {
    if (await isFree(asked, host)) return asked;
    throw new GwError(`port ${asked}, which ${variable} asks for, is taken`, {
      hint: `Free it, choose another, or unset ${variable} to have a free one picked.`,
      exitCode: EXIT.usage,
    });
  }
  const candidates = [
    remembered ?? standard,
    ...Array.from({ length: 200 }, (_, i) => standard + i),
  ];
  for (const port of candidates) {
    // Not looked at when another has chosen it: to look is to bind it, just when its server starts.
    if (!reserve(port)) continue;
    if (await isFree(port, host)) return port;
    rmSync(reservationOf(port), { force: true });
  }
  throw new GwError(`no free port between ${standard} and ${standard + 199}`, {
    hint: `Name one with ${variable}.`,
  });
}
