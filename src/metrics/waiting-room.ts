import { createServer } from 'node:http';
import { sendError, sendJson } from '../http.ts';

export interface WaitingRoom {
  /** What /readyz says. */
  reason: string;
  /** Frees the ports. */
  close(): Promise<void>;
}

/**
 * Answers on the ports of a process while the database is waited for: alive, and not ready.
 *
 * @throws when a port is taken
 */
export async function openWaitingRoom(
  host: string,
  ports: readonly number[],
): Promise<WaitingRoom> {
  const room = { reason: 'not asked yet' };
  const doors: { close(): Promise<void> }[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(doors.map((door) => door.close()));
  };
  try {
    for (const port of ports) doors.push(await openDoor(host, port, room));
  } catch (error) {
    await close();
    throw error;
  }
  return Object.assign(room, { close });
}

async function openDoor(host: string, port: number, room: { reason: string }) {
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?', 1)[0];
    response.setHeader('connection', 'close');
    if (path === '/healthz') return sendJson(response, 200, { alive: true });
    if (path === '/readyz') {
      return sendJson(response, 503, { ready: false, checks: { migrations: room.reason } });
    }
    response.setHeader('retry-after', '1');
    sendError(response, 503, 'UNAVAILABLE', 'the database is not available; try again');
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return {
    close: (): Promise<void> => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  };
}
