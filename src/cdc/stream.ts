import pg from 'pg';
import { EXIT, GwError, messageOf } from '../errors.ts';
import { Probe } from '../postgres/probe.ts';
import type { Plugin } from './slot.ts';
import type { Server } from './timeline.ts';

/** How much is kept unread before the server is made to wait. */
const highWater = 8_000_000;

/** The parts of pg's connection that its types leave out. */
interface Connection {
  stream: { pause(): void; resume(): void };
  on(event: 'copyData', listener: (message: { chunk: Buffer }) => void): void;
  once(event: 'replicationStart', listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

/**
 * A replication connection. Nothing is confirmed but what confirm() is told, and no more is
 * read than is taken, so a transaction of any size passes through little memory.
 */
export class ReplicationStream {
  readonly #url: string;
  readonly #client: pg.Client;
  readonly #connection: Connection;
  #closed: Promise<void> | undefined;
  #frames: Buffer[] = [];
  #bytes = 0;
  #confirmed = 0n;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;
  #pulse: NodeJS.Timeout | undefined;

  private constructor(url: string, client: pg.Client) {
    this.#url = url;
    this.#client = client;
    this.#connection = (client as unknown as { connection: Connection }).connection;
    client.on('error', (error) => this.fail(error));
    client.on('end', () => this.fail(new Error('Connection terminated')));
  }

  static async connect(url: string): Promise<ReplicationStream> {
    const client = new pg.Client({
      connectionString: url,
      application_name: 'gw cdc',
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      // Rows are printed by this session: in UTC, in a form that every session reads.
      options: '-c datestyle=ISO -c timezone=UTC -c intervalstyle=postgres',
      ...{ replication: 'database' },
    });
    const stream = new ReplicationStream(url, client);
    await client.connect().catch((error: unknown) => {
      if (!/unsupported startup parameter/.test(messageOf(error))) throw error;
      throw new GwError('a pooler refuses replication, which change capture needs', {
        hint: 'Name the server itself in DATABASE_URL of gw cdc.',
        exitCode: EXIT.usage,
        cause: error,
      });
    });
    return stream;
  }

  /**
   * Makes a slot. Blocks until every transaction that runs now has ended.
   *
   * @param temporary ends with the connection, and has a snapshot
   * @returns its first position, and the snapshot of that position: good until the next
   *   command on this connection
   */
  async createSlot(
    name: string,
    plugin: Plugin,
    temporary = false,
  ): Promise<{ lsn: string; snapshot: string }> {
    const { rows } = await this.#client.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT ${name} ${temporary ? 'TEMPORARY ' : ''}LOGICAL ${plugin}` +
        ` (SNAPSHOT '${temporary ? 'export' : 'nothing'}')`,
    );
    return { lsn: rows[0]?.consistent_point ?? '', snapshot: rows[0]?.snapshot_name ?? '' };
  }

  /** Which server it is connected to. */
  async identify(): Promise<Server> {
    const { rows } = await this.#client.query<{ systemid: string; timeline: number }>(
      'IDENTIFY_SYSTEM',
    );
    return { systemId: rows[0]?.systemid ?? '', timeline: Number(rows[0]?.timeline) };
  }

  /** The history of a timeline: which ones came before it, and where each ended. */
  async history(timeline: number): Promise<string> {
    const { rows } = await this.#client.query<{ content: Buffer | string }>(
      `TIMELINE_HISTORY ${timeline}`,
    );
    return String(rows[0]?.content ?? '');
  }

  /** Begins to read at a position. */
  async start(slot: string, lsn: string, options: Record<string, string>): Promise<void> {
    const list = Object.entries(options)
      .map(([name, value]) => `"${name}" '${value.replaceAll("'", "''")}'`)
      .join(', ');
    this.#connection.on('copyData', ({ chunk }) => this.#receive(chunk));
    const started = new Promise<void>((resolve) => {
      this.#connection.once('replicationStart', resolve);
    });
    const ended = this.#client.query(`START_REPLICATION SLOT ${slot} LOGICAL ${lsn} (${list})`);
    ended.then(
      () => this.fail(new Error('Connection terminated: the server ended the stream')),
      (error: Error) => this.fail(error),
    );
    await Promise.race([started, ended]);
    // The server drops who is silent for a minute, also while we are busy.
    this.#pulse = setInterval(() => this.#sendStatus(), 5_000);
  }

  /**
   * What has come in, each message as the plugin wrote it: at least one, or none after some
   * milliseconds where these are given.
   */
  async read(patienceMs?: number): Promise<Buffer[]> {
    const until = patienceMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + patienceMs;
    while (this.#frames.length === 0 && Date.now() < until) {
      if (this.#failure !== undefined) throw this.#failure;
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        if (patienceMs !== undefined) timer = setTimeout(resolve, until - Date.now());
      });
      clearTimeout(timer);
    }
    const frames = this.#frames;
    this.#frames = [];
    if (this.#bytes > highWater) this.#connection.stream.resume();
    this.#bytes = 0;
    return frames;
  }

  /** Tells the server that everything before this position is stored. */
  confirm(lsn: bigint): void {
    this.#confirmed = lsn;
    this.#sendStatus();
  }

  /** Ends every read with this error. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#frames = [];
    clearInterval(this.#pulse);
    this.#wake?.();
  }

  /** Ends it, on the server too: afterwards its slot is free, or gone when it was being made. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.fail(new Error('Connection terminated: closed'));
    // A stream does not end by itself; the server notices that we are gone.
    (this.#connection.stream as unknown as { destroy(): void }).destroy();
    await Promise.all([this.#client.end().catch(() => {}), this.#endBackend()]);
  }

  /** Who waits for other transactions, to make a slot, does not notice that nobody listens. */
  async #endBackend(): Promise<void> {
    const timeoutMs = 2_000;
    const probe = new Probe({ url: this.#url, applicationName: 'gw cdc end', timeoutMs });
    const { processID } = this.#client as unknown as { processID: number | null };
    const text = `select pg_terminate_backend(pid, $1) from pg_stat_activity
      where pid = $2
        and backend_type = 'walsender'
        and application_name = 'gw cdc'
        and (datname, usename) = (current_database(), current_user)`;
    await probe.ask({ text, values: [timeoutMs, processID] }).catch(() => {});
    await probe.close();
  }

  #receive(chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    if (chunk[0] === 0x6b) {
      if (chunk[17] === 1) this.#sendStatus();
      return;
    }
    // The buffer beneath is used again; after type, two positions and a time comes the text.
    this.#frames.push(Buffer.from(chunk.subarray(25)));
    const before = this.#bytes;
    this.#bytes += chunk.length;
    if (before <= highWater && this.#bytes > highWater) this.#connection.stream.pause();
    this.#wake?.();
  }

  #sendStatus(): void {
    if (this.#failure !== undefined) return;
    const status = Buffer.alloc(34);
    status[0] = 0x72;
    for (const offset of [1, 9, 17]) status.writeBigUInt64BE(this.#confirmed, offset);
    status.writeBigInt64BE(BigInt(Date.now() - 946_684_800_000) * 1000n, 25);
    this.#connection.sendCopyFromChunk(status);
  }
}
