import { EXIT, GwError, messageOf } from '../errors.ts';
import { Probe } from '../postgres/probe.ts';
import { Silence } from '../postgres/silence.ts';
import { Applier } from './applier.ts';
import type { ConsumerOptions } from './consumer.ts';
import type { CaptureFigures } from './figures.ts';
import { type Link, lockHolder, locks, openLink, pause, tryLock } from './link.ts';
import { formatLsn, parseLsn } from './lsn.ts';
import { PgoutputDecoder, pgoutputOptions } from './pgoutput.ts';
import { Reader } from './reader.ts';
import { Recount } from './recount.ts';
import { Relations } from './relations.ts';
import { findSlot, type Plugin } from './slot.ts';
import { beginSnapshot, lacksPlugin } from './snapshot.ts';
import { ReplicationStream } from './stream.ts';
import type { Witness } from './timeline.ts';
import { Wal2jsonDecoder, wal2jsonOptions } from './wal2json.ts';

export interface SessionOptions extends ConsumerOptions {
  /** The slot cannot be read any more, whatever its status says. */
  logIsGone: boolean;
  witness: Witness;
  figures: CaptureFigures;
}

/** A consumer that has not renewed its lease for so long is ended by another. */
const leaseMs = 10_000;

/** How long the server may leave a short statement, such as a heartbeat, unanswered. */
const silenceMs = 8_000;

/** Everything from connecting to the first connection that breaks. */
export class Session {
  readonly #options: SessionOptions;
  #apply: Link | undefined;
  #control: Link | undefined;
  #stream: ReplicationStream | undefined;
  #pulse: NodeJS.Timeout | undefined;
  #renewal: NodeJS.Timeout | undefined;
  readonly #lease: Probe;
  #failure: Error | undefined;
  #resnapshot = false;
  #isReading = false;
  /** Of the backend that holds the lock. */
  #pid: number | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#lease = new Probe({
      url: options.url,
      applicationName: 'gw cdc lease',
      timeoutMs: leaseMs / 2,
    });
  }

  /** Whether it is the one that applies changes. */
  get isReading(): boolean {
    return this.#isReading && this.#failure === undefined;
  }

  /** Has the connections end; run() rejects. */
  async close(): Promise<void> {
    this.#fail(new Error('Connection terminated: closed'));
    await this.#stream?.close();
    if (this.#failure instanceof Silence) await this.#endSessions();
    await this.#lease.close();
    await Promise.all([this.#apply?.end().catch(() => {}), this.#control?.end().catch(() => {})]);
  }

  /**
   * Reads and applies until it is asked to count everything anew.
   *
   * @param onProgress called when a batch is stored
   * @throws whatever broke it
   */
  async run(onConnected: () => void, onProgress: (control: Link) => void): Promise<void> {
    const { url, slot, log } = this.#options;
    const onLoss = (error: Error): void => {
      this.#fail(error);
      // What waits for an answer on the other goes on.
      if (error instanceof Silence) void this.close();
    };
    const apply = await openLink(url, { onLoss });
    this.#apply = apply;
    const control = await openLink(url, { onLoss, silenceMs });
    this.#control = control;
    await this.#checkServer(control);
    onConnected();
    await this.#becomeOnly(apply, control);
    await this.#keepLease(apply);
    // What is confirmed must be on disk, whatever the server's setting. And a user who is
    // being deleted while we wait for them would wait for us: give way before they do.
    await apply.query(`
      select set_config('lock_timeout', '500ms', false),
        set_config('idle_in_transaction_session_timeout', '0', false),
        set_config('synchronous_commit', case current_setting('synchronous_commit')
          when 'off' then 'on' else current_setting('synchronous_commit') end, false)`);

    this.#stream = await ReplicationStream.connect(url);
    this.#check();
    const stream = this.#stream;
    await this.#meet(control, stream);
    const { applied, plugin } = await this.#prepare(apply, control, stream);
    const relations = new Relations(control);
    await relations.load();
    const options =
      plugin === 'wal2json' ? wal2jsonOptions(await relations.ignored()) : pgoutputOptions;
    const decoder = plugin === 'wal2json' ? new Wal2jsonDecoder() : new PgoutputDecoder();
    await stream.start(slot, formatLsn(applied), options).catch((error: unknown) => {
      if (!lacksPlugin(error)) throw error;
      throw new GwError(`the server does not load ${plugin}: ${messageOf(error)}`, {
        hint:
          `List it: alter system set output_plugin_libraries = 'pgoutput, ${plugin}'; ` +
          'select pg_reload_conf(). Or set GW_CDC_PLUGIN=pgoutput, which makes the slot anew.',
        exitCode: EXIT.usage,
        cause: error,
      });
    });
    stream.confirm(applied);
    await control.query(`select app_private.set_capture_state($1, 'running')`, [slot]);
    this.#isReading = true;
    const { figures, witness } = this.#options;
    figures.state = 'reading';
    log.info({ slot, plugin, lsn: formatLsn(applied) }, 'reading');
    const recount = await Recount.resume({ apply, slot, figures, log });
    this.#beat(control);
    const reader = new Reader({
      ...{ stream, decoder, relations, recount, figures, witness },
      applier: new Applier(apply, control, slot, applied),
      onProgress: () => onProgress(control),
    });
    await this.#read(reader);
  }

  /** Ends what the server still takes for this consumer, so that the lock is free. */
  async #endSessions(): Promise<void> {
    if (this.#pid === undefined) return;
    const text = `select app_private.end_late_capture($1, $2, '0')`;
    const values = [this.#options.slot, this.#pid];
    this.#pid = undefined;
    await this.#lease.ask({ text, values }).catch(() => {});
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    clearInterval(this.#pulse);
    clearInterval(this.#renewal);
    // Also when the server stops: it waits for whoever still reads the log.
    this.#stream?.fail(error);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #checkServer(control: Link): Promise<void> {
    const { rows } = await control.query<{ level: string; keep: string; standby: boolean }>(
      `select current_setting('wal_level') as level,
         current_setting('max_slot_wal_keep_size') as keep, pg_is_in_recovery() as standby`,
    );
    if (rows[0]?.standby) {
      throw Object.assign(new Error('the server is a standby, which was not promoted'), {
        code: '25006',
      });
    }
    if (rows[0]?.level !== 'logical') {
      throw new GwError(`change capture needs wal_level = logical; it is ${rows[0]?.level}`, {
        hint: 'ALTER SYSTEM SET wal_level = logical, and restart the server.',
        exitCode: EXIT.usage,
      });
    }
    const isLimited = rows[0].keep !== '-1';
    if (isLimited) {
      await control.query(`select ops.resolve_alert('change-capture-disk', '')`);
      return;
    }
    this.#options.log.warn('max_slot_wal_keep_size is not set: a stopped consumer fills the disk');
    await control.query('select ops.raise_alert($1, $2, $3, $4, $5)', [
      ...['change-capture-disk', '', 'warning'],
      'max_slot_wal_keep_size is -1: when the consumer stops, the log grows until the disk is full',
      "ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'; SELECT pg_reload_conf()",
    ]);
  }

  /** Says what is lost when another server was promoted before it had received everything. */
  async #meet(control: Link, stream: ReplicationStream): Promise<void> {
    const { witness, slot, log } = this.#options;
    const server = await stream.identify();
    const before = witness.server;
    const loss = await witness.compare(server, () => stream.history(server.timeline));
    const { timeline } = server;
    if (before === undefined) {
      log.debug({ timeline }, 'the first server');
    } else if (before.systemId !== server.systemId) {
      log.warn({ before: before.systemId, now: server.systemId }, 'this is another server');
    } else if (loss !== undefined) {
      log.error({ timeline, ...loss }, 'the server that was promoted lacks what was committed');
      await control.query('select ops.raise_alert($1, $2, $3, $4, $5)', [
        ...['failover-loss', slot, 'critical'],
        `timeline ${timeline} began at ${loss.fork}, but change capture had read up to ` +
          `${loss.seen}: at least ${loss.transactions} transactions are lost, committed from ` +
          `${loss.from} to ${loss.to}`,
        'Keep the disk of the old server: its log has them. Messages that were sent in that time ' +
          'are sent again, each with the idempotency key that it had. See the guide "Deploy", ' +
          'Failover.',
      ]);
    } else if (before.timeline !== timeline) {
      log.info({ before: before.timeline, timeline }, 'followed a failover: nothing read is lost');
    }
    witness.accept(server);
  }

  /**
   * Two would undo each other: the second waits, and takes over when the first is gone, or has
   * not said for a while that it works.
   */
  async #becomeOnly(apply: Link, control: Link): Promise<void> {
    const { slot, log, figures } = this.#options;
    let said: number | undefined;
    while (!(await tryLock(apply, locks.consumer))) {
      figures.state = 'waiting';
      const holder = await lockHolder(control, locks.consumer);
      if (holder !== undefined && holder !== said) {
        log.warn({ pid: holder }, 'another consumer runs: waiting for its end');
        said = holder;
      }
      if (holder !== undefined) {
        const { rows } = await control.query<{ ended: boolean }>(
          `select app_private.end_late_capture($1, $2, $3 * interval '1 millisecond') as ended`,
          [slot, holder, leaseMs],
        );
        if (rows[0]?.ended) log.error({ pid: holder }, 'the other consumer hangs: took over');
      }
      await pause(250);
      this.#check();
    }
  }

  /** Says that this consumer works, on a connection where nothing is waited for. */
  async #keepLease(apply: Link): Promise<void> {
    const { slot } = this.#options;
    const { rows } = await apply.query<{ pid: number }>('select pg_backend_pid() as pid');
    this.#pid = rows[0]?.pid;
    const text = 'select app_private.renew_capture_lease($1, $2)';
    const renew = () => this.#lease.ask({ text, values: [slot, rows[0]?.pid] });
    await renew();
    let renewedAt = Date.now();
    const again = async (): Promise<void> => {
      try {
        await renew();
        renewedAt = Date.now();
      } catch (error) {
        if (Date.now() - renewedAt < leaseMs) return;
        // Another has taken over, or will.
        this.#fail(new Error(`Connection terminated: no lease (${messageOf(error)})`));
        void this.close();
      }
    };
    this.#renewal = setInterval(() => void again(), leaseMs / 4);
  }

  async #prepare(
    apply: Link,
    control: Link,
    stream: ReplicationStream,
  ): Promise<{ applied: bigint; plugin: Plugin }> {
    const { slot, plugin: asked, log, logIsGone } = this.#options;
    const found = await findSlot(apply, slot, asked, logIsGone);
    if (found.usable) return { applied: found.appliedLsn, plugin: found.plugin };
    const { why, lost } = found;
    this.#options.figures.state = 'counting';
    log[lost ? 'warn' : 'info']({ slot, why }, 'counting everything from the tables');
    if (lost) {
      await control.query('select ops.raise_alert($1, $2, $3, $4, $5)', [
        ...['change-capture-slot', slot, 'warning'],
        `${why}; the dashboard is being counted anew from the tables`,
        'Nothing, if it stays the only time. See max_slot_wal_keep_size, and who drops slots.',
      ]);
    }
    const { lsn, plugin } = await beginSnapshot({
      ...{ apply, control, stream, slot, log },
      ...{ plugin: asked, exists: found.exists, kept: found.kept },
    });
    return { applied: parseLsn(lsn), plugin };
  }

  /** Moves the slot of a database in which nothing happens, and hears requests. */
  #beat(control: Link): void {
    let isAsking = false;
    const beat = (): void => {
      if (isAsking) return;
      isAsking = true;
      control
        .query<{ asked: boolean }>('select app_private.capture_heartbeat($1) as asked', [
          this.#options.slot,
        ])
        .then(({ rows: [row] }) => {
          isAsking = false;
          if (!row?.asked) return;
          this.#resnapshot = true;
          this.#fail(new Error('asked to count everything anew'));
        })
        .catch((error: Error) => this.#fail(error));
    };
    beat();
    this.#pulse = setInterval(beat, this.#options.heartbeatMs ?? 5_000);
  }

  /** Until everything is to be counted anew. */
  async #read(reader: Reader): Promise<void> {
    for (;;) {
      try {
        await reader.turn();
      } catch (error) {
        if (this.#resnapshot) return;
        throw error;
      }
    }
  }
}
