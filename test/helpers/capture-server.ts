import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll } from 'vitest';
import { slotNameOf } from '../../src/cdc/slot.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import type { Database } from '../../src/postgres/urls.ts';
import { projectRoot } from '../../src/project.ts';
import { type Scratch, startScratch } from '../../src/server/scratch.ts';
import { patience } from './patience.ts';
import { eventually } from './wait.ts';

const databaseName = 'gw_captured';

export type CaptureProcess = ChildProcess & { output: () => string };

/** A server of its own, which can be restarted, and `gw cdc` as processes, to be killed. */
export class CaptureServer {
  readonly slot = slotNameOf(databaseName);
  readonly #topic: string;
  readonly #env: Record<string, string>;
  readonly #children = new Set<ChildProcess>();
  #server: Scratch | undefined;
  #database: Database | undefined;
  #sql: Sql | undefined;

  constructor(topic: string, env: Record<string, string>) {
    this.#topic = topic;
    this.#env = env;
  }

  /** A superuser's connections, 8 at most. */
  get sql(): Sql {
    if (this.#sql === undefined) throw new Error('the server is not started');
    return this.#sql;
  }

  async start(): Promise<void> {
    this.#server = await startScratch('gw_cron', { topic: this.#topic });
    this.#database = await createMigrated(this.#server.superuserUrl, databaseName);
    this.#sql = connect(this.#database.urls.superuser ?? '', { max: 8 });
    const { GW_TEST_FAULT: fault } = process.env;
    if (fault !== undefined) await this.#sql.unsafe(fault);
  }

  async stop(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await this.#sql?.end({ timeout: 1 });
    await this.#server?.stop();
  }

  async restart(how: 'cleanly' | 'at once'): Promise<void> {
    await this.#server?.restart(how);
  }

  /** Starts `gw cdc` with these arguments. */
  gw(...args: string[]): CaptureProcess {
    const { superuser = '', cdc = '' } = this.#database?.urls ?? {};
    const child = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), 'cdc', ...args], {
      cwd: projectRoot,
      env: {
        ...process.env,
        ...this.#env,
        DATABASE_URL: superuser,
        GW_CDC_PASSWORD: decodeURIComponent(new URL(cdc).password),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    return Object.assign(child, { output: () => output });
  }

  /** Runs `gw cdc` with these arguments to its end. */
  async run(...args: string[]): Promise<{ code: number | null; output: string }> {
    const child = this.gw(...args);
    await once(child, 'close');
    return { code: child.exitCode, output: child.output() };
  }

  /**
   * Resolves when a consumer reads from the slot, and not one before it that was killed.
   *
   * @throws with what it said, when it does not within a minute
   */
  async reading(consumer: CaptureProcess): Promise<void> {
    const isReading = async (): Promise<boolean> => {
      if (!consumer.output().includes('"reading"')) return false;
      const rows = await this.sql`
        select from pg_replication_slots where slot_name = ${this.slot} and active`;
      return rows.length > 0;
    };
    // While the server is away nobody reads.
    await eventually(() => isReading().catch(() => false), 60_000).catch(() => {
      const state = consumer.exitCode ?? consumer.signalCode ?? 'running';
      throw new Error(`gw cdc (${state}) does not read: ${consumer.output()}`);
    });
  }
}

/**
 * Gives a file or block of tests a server of its own.
 *
 * @param topic tells it from others of this run, in small letters
 * @param env what `gw cdc` is told besides the database
 */
export function useCaptureServer(topic: string, env: Record<string, string> = {}): CaptureServer {
  const server = new CaptureServer(topic, env);
  beforeAll(() => server.start(), patience(120_000));
  afterAll(() => server.stop(), patience(60_000));
  return server;
}
