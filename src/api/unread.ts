import type { ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';

export interface UnreadLimits {
  /** What may wait for clients that do not read, all together, in bytes. */
  bytes: number;
  /** How long a client may read nothing, in milliseconds. */
  stallMs: number;
}

/** What a connection takes in one piece: less than the kernel's own buffer. */
const pieceBytes = 64 * 1024;

function* piecesOf(text: Buffer, onTaken: (left: number) => void): Generator<Buffer> {
  for (let at = 0; at < text.length; at += pieceBytes) {
    onTaken(text.length - at);
    yield text.subarray(at, at + pieceBytes);
  }
}

interface Waiting {
  left: number;
  /** What was left when it was looked at last. */
  before: number;
  timer: NodeJS.Timeout;
}

/**
 * Long responses, sent as fast as their clients read. What is not read lies in the memory of this
 * process, so a client that reads nothing for a while is cut off, and when all of it is too much,
 * the one that waits longest.
 */
export class Unread {
  readonly #limits: UnreadLimits;
  /** In the order in which they began to wait. */
  readonly #waiting = new Map<ServerResponse, Waiting>();

  constructor(limits: UnreadLimits) {
    this.#limits = limits;
  }

  /** What waits for clients, in bytes. */
  get bytes(): number {
    let sum = 0;
    for (const { left } of this.#waiting.values()) sum += left;
    return sum;
  }

  /** Has a response sent in pieces when it is long. Told before anything of it is written. */
  pace(response: ServerResponse): void {
    const end = response.end.bind(response) as (...given: unknown[]) => ServerResponse;
    response.end = ((...given: unknown[]) => {
      const [text] = given;
      if (!Buffer.isBuffer(text) || text.length <= pieceBytes) return end(...given);
      response.end = end as typeof response.end;
      this.#send(response, text);
      return response;
    }) as typeof response.end;
  }

  #send(response: ServerResponse, text: Buffer): void {
    const waiting: Waiting = {
      left: text.length,
      before: text.length,
      timer: setInterval(() => {
        if (waiting.left === waiting.before) response.socket?.destroy();
        waiting.before = waiting.left;
      }, this.#limits.stallMs).unref(),
    };
    this.#waiting.set(response, waiting);
    const pieces = piecesOf(text, (left) => {
      waiting.left = left;
    });
    pipeline(Readable.from(pieces, { highWaterMark: 1 }), response, () => {
      clearInterval(waiting.timer);
      this.#waiting.delete(response);
    });
    for (const [oldest] of this.#waiting) {
      if (this.bytes <= this.#limits.bytes) break;
      this.#waiting.delete(oldest);
      oldest.socket?.destroy();
    }
  }
}
