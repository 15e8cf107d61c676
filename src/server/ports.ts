import { createServer } from 'node:net';
import { EXIT, GwError } from '../errors.ts';

/** Whether a TCP port can be bound on an address at this moment. */
export function isFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
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
    if (await isFree(port, host)) return port;
  }
  throw new GwError(`no free port between ${standard} and ${standard + 199}`, {
    hint: `Name one with ${variable}.`,
  });
}
