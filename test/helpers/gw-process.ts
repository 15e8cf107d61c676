import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import process from 'node:process';
import { projectRoot } from '../../src/project.ts';

/** A process of `gw` that runs until it is stopped or killed. */
export class GwProcess {
  isReady = false;
  /** Whether it ended although nobody ended it. */
  hasFailed = false;
  /** What it wrote to standard output and standard error. */
  output = '';
  readonly #child: ChildProcess;
  #isEnding = false;

  constructor(args: readonly string[], env: Record<string, string>) {
    this.#child = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, NODE_ENV: 'test', GW_LOG_LEVEL: 'silent', ...env },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
    this.#child.once('message', () => {
      this.isReady = true;
    });
    this.#child.once('exit', () => {
      this.hasFailed = !this.#isEnding;
    });
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /**
   * Resolves when it is working.
   *
   * @throws when it ended before
   */
  async ready(): Promise<void> {
    if (this.isReady) return;
    await Promise.race([once(this.#child, 'message'), once(this.#child, 'exit')]);
    if (!this.isReady) throw new Error(`it ended before it was ready: ${this.output}`);
  }

  /** Asks it to end. Resolves with its exit code when it has. */
  async stop(): Promise<number | null> {
    this.#isEnding = true;
    this.#child.kill('SIGTERM');
    await this.ended();
    return this.#child.exitCode;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async ended(): Promise<void> {
    if (this.isRunning) await once(this.#child, 'exit');
  }

  /** Ends it as the kernel would, in the middle of whatever it does. */
  async kill(): Promise<void> {
    this.#isEnding = true;
    if (!this.isRunning) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

/** `gw worker`. */
export class WorkerProcess extends GwProcess {
  /** @param env what it is told besides the database and the receiver */
  constructor(ownerUrl: string, deliveryUrl: string, env: Record<string, string> = {}) {
    super(['worker'], { DATABASE_URL: ownerUrl, GW_DELIVERY_URL: deliveryUrl, ...env });
  }
}
