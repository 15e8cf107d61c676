import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { connect } from '../../src/postgres/connect.ts';
import { changeUrl } from '../../src/postgres/urls.ts';
import { bootstrapDatabase } from '../../src/server/bootstrap.ts';
import { paths } from '../../src/server/state.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';
import { type Mutant, placeOf, testFile } from './mutant.ts';

export interface Trial {
  /** "broken": it could not be planted, or no test could be read; it says nothing. */
  verdict: 'killed' | 'survived' | 'broken';
  /** The test that noticed, or what is wrong. */
  by: string;
  seconds: number;
}

/** What is read of the report of vitest. */
interface Report {
  numTotalTests: number;
  testResults: {
    name: string;
    message: string;
    assertionResults: { status: string; fullName: string; failureMessages: string[] }[];
  }[];
}

/** Longer than any of the files of tests takes: what takes longer says nothing. */
const patienceMs = patience(300_000);

/** A place to run tests with a fault in it, used for one fault after the other. */
export class Bench {
  readonly #checkout: Checkout;
  readonly #superuserUrl: string;
  readonly #report: string;
  #child: ChildProcess | undefined;

  /** @param superuserUrl of a server with the migrated database "gw_template" */
  constructor(superuserUrl: string) {
    this.#checkout = new Checkout([
      ...['test', 'README.md', 'CONTRIBUTING.md', 'LICENSE', 'docker-compose.yml'],
      ...['.biome.jsonc', '.ci', '.dockerignore', '.gitattributes', '.gitignore', '.npmrc'],
    ]);
    this.#superuserUrl = superuserUrl;
    this.#report = this.#checkout.path('report.json');
    // The roles of the server have the passwords of this checkout.
    const secrets = this.#checkout.path('.groundwork', 'secrets.json');
    mkdirSync(dirname(secrets), { recursive: true, mode: 0o700 });
    copyFileSync(paths.secrets, secrets);
  }

  /** Plants a fault, runs its tests until the first fails, and takes the fault away. */
  async try(mutant: Mutant, name: string): Promise<Trial> {
    const started = Date.now();
    const end = (verdict: Trial['verdict'], by: string): Trial => ({
      ...{ verdict, by, seconds: (Date.now() - started) / 1000 },
    });
    let takeAway: () => Promise<void> | void = () => {};
    try {
      const place = placeOf(mutant);
      const env: NodeJS.ProcessEnv = {};
      if (place.in === 'database') {
        await this.#cloneTemplate(name);
        takeAway = () => this.#administer(`drop database ${name} with (force)`);
        await this.#administer(place.statement, name);
        // For tests that make a server of their own.
        Object.assign(env, this.#server(name), { GW_TEST_FAULT: place.statement });
      } else {
        const path = this.#checkout.path(place.file);
        const text = readFileSync(path);
        takeAway = () => writeFileSync(path, text);
        writeFileSync(path, place.text);
        if (!place.ownServer) Object.assign(env, this.#server('gw_template'));
      }
      const failure = await this.runTests(mutant.tests, env);
      return failure === undefined ? end('survived', '') : end('killed', failure);
    } catch (error) {
      return end('broken', (error as Error).message.split('\n')[0] ?? '');
    } finally {
      await takeAway();
    }
  }

  /**
   * Runs files of tests until one fails.
   *
   * @returns which test failed; undefined when none did
   * @throws Error when no test ran
   */
  async runTests(tests: readonly string[], env = this.#server('gw_template'), workers = 1) {
    rmSync(this.#report, { force: true });
    const vitest = join('node_modules', 'vitest', 'vitest.mjs');
    const options = ['run', '--config', join('test', 'vitest.config.ts'), '--bail', '1'];
    const report = ['--reporter', 'json', '--outputFile', this.#report];
    const child = spawn(
      process.execPath,
      [vitest, ...options, ...report, `--maxWorkers=${workers}`, ...tests.map(testFile)],
      {
        cwd: this.#checkout.folder,
        env: this.#checkout.env(env),
        stdio: ['ignore', 'ignore', 'pipe'],
        // A group of its own: what hangs is ended with all its children.
        detached: true,
      },
    );
    this.#child = child;
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    let isLate = false;
    const late = setTimeout(() => {
      isLate = true;
      this.stop();
    }, patienceMs * tests.length);
    await new Promise((resolve) => child.once('close', resolve));
    clearTimeout(late);
    this.#child = undefined;
    if (isLate)
      throw new Error(`after ${(patienceMs * tests.length) / 1000} s the tests had not ended`);
    return failureOf(this.#report, said);
  }

  /** Ends what runs. */
  stop(): void {
    if (this.#child?.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGTERM');
    } catch {
      // It has ended.
    }
  }

  async remove(): Promise<void> {
    this.stop();
    await this.#checkout.remove();
  }

  #server(template: string): NodeJS.ProcessEnv {
    return { GW_TEST_SERVER: this.#superuserUrl, GW_TEST_TEMPLATE: template };
  }

  async #cloneTemplate(name: string): Promise<void> {
    await this.#administer(
      `create database ${name} template gw_template owner gw_owner strategy file_copy`,
    );
    await bootstrapDatabase(changeUrl(this.#superuserUrl, { database: name }));
  }

  /** Runs statements as a superuser, with their objects the owner's. */
  async #administer(statements: string, database = 'postgres'): Promise<void> {
    const sql = connect(changeUrl(this.#superuserUrl, { database }));
    try {
      await sql.unsafe(statements);
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}

/** The first failure of a report of vitest. */
function failureOf(path: string, said: string): string | undefined {
  if (!existsSync(path)) throw new Error(`vitest wrote no report: ${said.trim()}`);
  const report = JSON.parse(readFileSync(path, 'utf8')) as Report;
  for (const file of report.testResults) {
    for (const { status, fullName, failureMessages } of file.assertionResults) {
      if (status === 'failed') return `${fullName}: ${failureMessages[0]?.split('\n')[0] ?? ''}`;
    }
  }
  const broken = report.testResults.find(({ message }) => message !== '');
  if (broken !== undefined && report.numTotalTests > 0) return `its set-up: ${broken.message}`;
  if (broken !== undefined) throw new Error(broken.message);
  if (report.numTotalTests === 0) throw new Error('no test ran');
  return undefined;
}
