import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import process from 'node:process';
import { projectRoot } from '../../src/project.ts';

/** `gw worker` as a process of its own, so that it can be killed. */
export class WorkerProcess {
  isReady = false;
  /** Whether it ended although nobody killed it. */
  hasFailed = false;
  readonly #child: ChildProcess;
  #isKilled = false;

  /** @param env what it is told besides the database and the receiver */
  constructor(ownerUrl: string, deliveryUrl: string, env: Record<string, string> = {}) {
    this.#child = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), 'worker'], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      env: {
        ...process.env,
        NODE_ENV: 'test',
        DATABASE_URL: ownerUrl,
        GW_DELIVERY_URL: deliveryUrl,
        GW_LOG_LEVEL: 'silent',
        ...env,
      },
    });
    this.#child.once('message', () => {
      this.isReady = true;
    });
    this.#child.once('exit', () => {
      this.hasFailed = !this.#isKilled;
    });
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /**
   * Resolves when it is working.
   *
   * @throws when it ended before
   */
  async ready(): Promise<void> {
    if (this.isReady) return;
    await Promise.race([once(this.#child, 'message'), once(this.#child, 'exit')]);
    if (!this.isReady) throw new Error('the worker ended before it was ready');
  }

  /** Ends it as the kernel would, in the middle of whatever it does. */
  async kill(): Promise<void> {
    if (!this.isRunning) return;
    this.#isKilled = true;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
