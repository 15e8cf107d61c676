import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';
import { writePids } from '../server/processes.ts';

export interface ChildSpec {
  name: string;
  args: string[];
  env?: NodeJS.ProcessEnv;
  /** A URL that answers once the process has started; one that hangs is ended, and started again. */
  health?: string;
}

interface Child {
  spec: ChildSpec;
  process: ChildProcess;
  /** Restarts since it last ran for a minute. */
  failures: number;
  restart?: NodeJS.Timeout;
}

const maxBackoff = 30_000;

/** A process that does not say that it works for this long after its start hangs. */
const startMs = 60_000;

/** One that works, and answers none of five questions, each after three seconds, hangs too. */
const askMs = 3_000;
const unanswered = 5;

/** Runs processes, starts them again when they die, and stops them together. */
export class Supervisor {
  readonly #children = new Map<string, Child>();
  readonly #fixed: Record<string, number>;
  readonly #say: (mark: string, name: string, text: string) => void;
  #stopping = false;

  /** @param fixed what else stands in pids.json */
  constructor(
    fixed: Record<string, number>,
    say: (mark: string, name: string, text: string) => void,
  ) {
    this.#fixed = fixed;
    this.#say = say;
  }

  /**
   * Starts a process and resolves when it says that it works.
   *
   * @throws GwError when it dies first, or says nothing for 60 seconds
   */
  start(spec: ChildSpec): Promise<void> {
    const child: Child = { spec, process: this.#spawn(spec), failures: 0 };
    this.#children.set(spec.name, child);
    this.#writePids();
    return new Promise((resolve, reject) => {
      const { process } = child;
      const tooLong = setTimeout(
        () => reject(new GwError(`${spec.name} did not become ready within ${startMs / 1_000} s`)),
        startMs,
      );
      const onExit = (code: number | null, signal: string | null): void => {
        clearTimeout(tooLong);
        reject(new GwError(`${spec.name} ended while starting (${signal ?? `exit ${code}`})`));
      };
      process.once('exit', onExit);
      process.once('error', reject);
      process.once('message', () => {
        clearTimeout(tooLong);
        process.off('exit', onExit);
        this.#watch(child);
        this.#askHealth(child);
        resolve();
      });
    });
  }

  /** Changes an entry of pids.json that is not one of our children. */
  setFixed(name: string, pid: number): void {
    this.#fixed[name] = pid;
    this.#writePids();
  }

  /** Stops every process: asks, then kills what is still there after the time. */
  async stop(milliseconds: number): Promise<void> {
    this.#stopping = true;
    const running = [...this.#children.values()].filter((child) => {
      clearTimeout(child.restart);
      return child.process.exitCode === null && child.process.signalCode === null;
    });
    await Promise.all(
      running.map(
        ({ process }) =>
          new Promise<void>((resolve) => {
            const impatience = setTimeout(() => process.kill('SIGKILL'), milliseconds);
            process.once('exit', () => {
              clearTimeout(impatience);
              resolve();
            });
            process.kill('SIGTERM');
          }),
      ),
    );
    this.#writePids();
  }

  /** Ends every process at once. */
  kill(): void {
    for (const { process } of this.#children.values()) process.kill('SIGKILL');
  }

  /** Starts the processes again that stop() has stopped. */
  resume(): void {
    this.#stopping = false;
    for (const child of this.#children.values()) {
      child.failures = 0;
      this.#startAgain(child);
    }
  }

  #startAgain(child: Child): void {
    const started = this.#spawn(child.spec);
    child.process = started;
    this.#writePids();
    this.#watch(child);
    const tooLong = setTimeout(() => {
      this.#say('!', child.spec.name, `does not start within ${startMs / 1_000} s: ending it`);
      started.kill('SIGKILL');
    }, startMs);
    started.once('exit', () => clearTimeout(tooLong));
    started.once('message', () => {
      clearTimeout(tooLong);
      this.#say('✔', child.spec.name, 'is back');
      this.#askHealth(child);
    });
  }

  #spawn({ args, env }: ChildSpec): ChildProcess {
    return spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), ...args], {
      cwd: projectRoot,
      // A group of its own: Ctrl-C reaches it through us, in order. If we are killed, the
      // channel closes and it ends by itself.
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      // The C library gives each thread memory of its own, which it keeps.
      env: {
        MALLOC_ARENA_MAX: '2',
        ...process.env,
        ...env,
        GW_SUPERVISED: '1',
        npm_lifecycle_event: '',
      },
    });
  }

  #watch(child: Child): void {
    const startedAt = Date.now();
    child.process.once('exit', (code, signal) => {
      if (this.#stopping) return;
      if (Date.now() - startedAt > 60_000) child.failures = 0;
      const wait = Math.min(500 * 2 ** child.failures, maxBackoff);
      child.failures += 1;
      const why = signal ?? `exit ${code}`;
      this.#say('!', child.spec.name, `died (${why}); starting it again in ${wait / 1000} s`);
      this.#writePids();
      child.restart = setTimeout(() => this.#startAgain(child), wait);
    });
  }

  /** Asks a process that has started whether it still works, and ends it when it is silent. */
  #askHealth({ spec, process }: Child): void {
    const { health } = spec;
    if (health === undefined) return;
    let silent = 0;
    const ask = async (): Promise<void> => {
      try {
        const response = await fetch(health, { signal: AbortSignal.timeout(askMs) });
        await response.arrayBuffer();
        silent = 0;
      } catch {
        silent += 1;
      }
      if (silent < unanswered || this.#stopping) return;
      silent = 0;
      this.#say('!', spec.name, `does not answer for ${(askMs * unanswered) / 1_000} s: ending it`);
      process.kill('SIGKILL');
    };
    const timer = setInterval(ask, askMs);
    process.once('exit', () => clearInterval(timer));
  }

  #writePids(): void {
    const running = [...this.#children].flatMap(([name, { process }]): [string, number][] =>
      process.pid !== undefined && process.exitCode === null && process.signalCode === null
        ? [[name, process.pid]]
        : [],
    );
    writePids({ ...this.#fixed, ...Object.fromEntries(running) });
  }
}
