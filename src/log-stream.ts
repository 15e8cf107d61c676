import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { DestinationStream } from 'pino';

/** What may wait for a reader, in bytes. */
const mostWaiting = 1_000_000;

/** Lines that were not written since the process began, because nobody read those before. */
let dropped = 0;
export const droppedLines = (): number => dropped;

/**
 * Standard error as a log needs it. A write never waits: when whoever reads the pipe has stalled,
 * lines are kept up to a limit, and those beyond it are dropped, counted, and told when it reads
 * again. A file or a terminal takes each line at once.
 */
export function standardError(): DestinationStream {
  const socket = openSocket();
  if (socket === undefined) return { write: (line) => void writeSync(2, line) };
  let told = 0;
  // A reader that is gone is no reason to end.
  socket.on('error', () => {});
  socket.on('drain', () => {
    if (dropped === told) return;
    socket.write(
      `${JSON.stringify({ level: 40, time: Date.now(), msg: 'log lines were dropped', dropped: dropped - told })}\n`,
    );
    told = dropped;
  });
  return {
    write(line) {
      if (socket.destroyed || socket.writableLength + line.length > mostWaiting) dropped += 1;
      else socket.write(line);
    },
  };
}

/** Undefined where a write does not wait for anybody. */
function openSocket(): Socket | undefined {
  const kind = fstatSync(2);
  try {
    // Opened anew, so that others who write to this pipe are not made to write as we do.
    const fd = kind.isFIFO()
      ? openSync('/proc/self/fd/2', constants.O_WRONLY | constants.O_NONBLOCK)
      : kind.isSocket()
        ? 2
        : undefined;
    if (fd === undefined) return undefined;
    const socket = new Socket({ fd, readable: false, writable: true });
    socket.unref();
    return socket;
  } catch {
    // No /proc, or the pipe is another user's.
    return undefined;
  }
}
