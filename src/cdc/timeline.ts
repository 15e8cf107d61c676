import { formatLsn } from './lsn.ts';

/** Which server this is, and on which branch of its history. A promotion begins a timeline. */
export interface Server {
  systemId: string;
  timeline: number;
}

/** A transaction that was read, in memory only. */
interface Seen {
  endLsn: bigint;
  committedAt: string;
}

/** How many transactions are remembered: enough to say since when something is lost. */
const capacity = 10_000;

/** What a promotion took away. */
export interface Loss {
  /** Where the new timeline begins. */
  fork: string;
  /** The last position that was read on the old one. */
  seen: string;
  /** The transactions among those remembered that are gone. */
  transactions: number;
  /** When the first and the last of them were committed. */
  from: string;
  to: string;
}

/**
 * Remembers what was read, over all connections of a process. A standby that is promoted without
 * having received everything cannot know what it lacks; who read from the server before it can.
 */
export class Witness {
  #server: Server | undefined;
  #seen: Seen[] = [];

  /** The server that was read last; undefined at first. */
  get server(): Server | undefined {
    return this.#server;
  }

  /** Notes a transaction that was read. */
  note(endLsn: bigint, committedAt: string): void {
    this.#seen.push({ endLsn, committedAt });
    if (this.#seen.length > capacity) this.#seen = this.#seen.slice(-capacity / 2);
  }

  /**
   * Compares what was read with a server that is met. Nothing is forgotten until accept(): a
   * connection may break before the loss was told.
   *
   * @param history of the server's timeline, as its file has it; read when it has another one
   * @returns what is lost, or undefined when nothing is, or it is another server
   */
  async compare(server: Server, history: () => Promise<string>): Promise<Loss | undefined> {
    const before = this.#server;
    if (before?.systemId !== server.systemId || before.timeline === server.timeline) return;
    const fork = forkOf(await history(), before.timeline);
    const gone = this.#seen.filter(({ endLsn }) => fork !== undefined && endLsn > fork);
    const [first, last] = [gone[0], gone.at(-1)];
    if (fork === undefined || first === undefined || last === undefined) return;
    return {
      fork: formatLsn(fork),
      seen: formatLsn(last.endLsn),
      transactions: gone.length,
      from: first.committedAt,
      to: last.committedAt,
    };
  }

  /** Takes a server for the one that is read from now on. */
  accept(server: Server): void {
    const { systemId, timeline } = this.#server ?? server;
    if (systemId !== server.systemId || timeline !== server.timeline) this.#seen = [];
    this.#server = server;
  }
}

/** Where a timeline was left, by a history file: lines of timeline, position and reason. */
function forkOf(history: string, timeline: number): bigint | undefined {
  for (const line of history.split('\n')) {
    const [, number, high, low] = /^\s*(\d+)\s+([0-9A-F]+)\/([0-9A-F]+)/i.exec(line) ?? [];
    if (Number(number) === timeline) return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
  }
  return undefined;
}
