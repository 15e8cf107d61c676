import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { projectRoot } from '../../src/project.ts';
import { checkoutPrefix } from './leftovers.ts';

const copied = [
  '.gmrc',
  '.squawk.toml',
  'CHANGELOG.md',
  'docs',
  'docker',
  'migrations',
  'package.json',
  'package-lock.json',
  'sql',
  'src',
  'tsconfig.json',
];

export interface Finished {
  code: number;
  stdout: string;
  stderr: string;
}

interface OutboxLine {
  idempotencyKey: string;
  to: { userId: string };
  unsubscribeUrl?: string;
}

/** A copy of the checkout with a state of its own, as a stranger's clone would be. */
export class Checkout {
  /** Readable by its owner only, as mkdtemp makes it. */
  readonly folder = mkdtempSync(join(tmpdir(), checkoutPrefix()));
  readonly #children: ChildProcess[] = [];

  /** @param more what is copied beside what a command needs, such as `test` */
  constructor(more: readonly string[] = []) {
    for (const name of [...copied, ...more]) {
      cpSync(join(projectRoot, name), join(this.folder, name), { recursive: true });
    }
    symlinkSync(join(projectRoot, 'node_modules'), join(this.folder, 'node_modules'));
  }

  /** The environment of a fresh terminal: nothing of the tests' own. */
  env(env: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    const { PATH, HOME, LANG, NODE_COMPILE_CACHE, GW_SCRATCH_DIR, GW_TEST_RUN } = process.env;
    return { PATH, HOME, LANG, NODE_COMPILE_CACHE, GW_SCRATCH_DIR, GW_TEST_RUN, ...env };
  }

  /** Starts `gw` and returns at once. */
  start(args: string[], env: NodeJS.ProcessEnv = {}): ChildProcess & { output: () => string } {
    const child = spawn(process.execPath, [join('src', 'bootstrap.mjs'), ...args], {
      cwd: this.folder,
      env: this.env(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    return Object.assign(child, { output: () => output });
  }

  /** Runs `gw` to its end. */
  run(args: string[], env: NodeJS.ProcessEnv = {}, input?: string): Promise<Finished> {
    const child = spawn(process.execPath, [join('src', 'bootstrap.mjs'), ...args], {
      cwd: this.folder,
      env: this.env(env),
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    }) as ChildProcessByStdio<Writable | null, Readable, Readable>;
    child.stdin?.end(input);
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr }));
    });
  }

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  json<Shape>(...names: string[]): Shape {
    return JSON.parse(readFileSync(this.path(...names), 'utf8')) as Shape;
  }

  /** The lines of the outbox. */
  outbox(): OutboxLine[] {
    const path = this.path('.groundwork', 'outbox.jsonl');
    if (!existsSync(path)) return [];
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as OutboxLine);
  }

  /** Ends what still runs, and deletes the cluster and the copy. */
  async remove(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await new Promise((resolve) => child.once('exit', resolve));
    }
    await this.run(['db', 'reset', '--yes']);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
