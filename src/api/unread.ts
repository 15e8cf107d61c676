import type { ServerResponse } from 'node:http';

export interface UnreadLimits {
  /** What may wait for clients that do not read, all together, in bytes. */
  bytes: number;
  /** How long a client may read nothing, in milliseconds. */
  stallMs: number;
}

interface Waiting {
  bytes: number;
  /** What its connection had sent when it was looked at last. */
  sent: number;
  timer: NodeJS.Timeout;
}

/**
 * Responses that their clients have not read yet. They lie in the memory of this process, so a
 * client that reads nothing for a while is cut off, and when all of them take too much, the one
 * that waits longest.
 */
export class Unread {
  readonly #limits: UnreadLimits;
  /** In the order in which they began to wait. */
  readonly #waiting = new Map<ServerResponse, Waiting>();
  #bytes = 0;

  constructor(limits: UnreadLimits) {
    this.#limits = limits;
  }

  /** What waits for clients, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Told of a response that was written whole. */
  track(response: ServerResponse): void {
    const bytes = response.writableLength;
    if (bytes === 0 || response.destroyed || response.writableFinished) return;
    const timer = setInterval(() => this.#look(response), this.#limits.stallMs).unref();
    this.#waiting.set(response, { bytes, sent: this.#sent(response), timer });
    this.#bytes += bytes;
    const leave = (): void => this.#leave(response);
    response.once('finish', leave);
    response.once('close', leave);
    for (const [oldest] of this.#waiting) {
      if (this.#bytes <= this.#limits.bytes) break;
      this.#cut(oldest);
    }
  }

  #sent({ socket }: ServerResponse): number {
    return socket === null ? 0 : socket.bytesWritten - socket.writableLength;
  }

  #look(response: ServerResponse): void {
    const waiting = this.#waiting.get(response);
    if (waiting === undefined) return;
    const sent = this.#sent(response);
    if (sent === waiting.sent) this.#cut(response);
    else waiting.sent = sent;
  }

  #cut(response: ServerResponse): void {
    this.#leave(response);
    // Not only the response: what the connection holds is what takes memory.
    response.socket?.destroy();
  }

  #leave(response: ServerResponse): void {
    const waiting = this.#waiting.get(response);
    if (waiting === undefined) return;
    clearInterval(waiting.timer);
    this.#waiting.delete(response);
    this.#bytes -= waiting.bytes;
  }
}
