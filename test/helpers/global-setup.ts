import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { GwError } from '../../src/errors.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { endLeftovers } from './leftovers.ts';
import { serversInMemory } from './memory.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A superuser's connection to the server of this run. */
    superuserUrl: string;
    /** The migrated database, which every test file clones. */
    template: string;
  }
}

/** The database that pg_cron lives in, on the server of the tests. */
export const cronDatabase = 'gw_cron';

async function startServer(): Promise<{ superuserUrl: string; stop: () => Promise<void> }> {
  if (process.env.GW_TEST_DB !== 'docker') return startScratch(cronDatabase);
  const { startContainer } = await import('./docker-server.ts');
  return startContainer(cronDatabase);
}

/**
 * One server for the run, made for it and thrown away after it; one migrated database on
 * it, which every test file clones.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  endLeftovers();
  // Checkouts of tests have paths of their own: what is compiled for them is of no use later.
  const compiled = mkdtempSync(join(tmpdir(), 'groundwork-compiled-'));
  process.env.NODE_COMPILE_CACHE = compiled;
  const removeCompiled = (): void => rmSync(compiled, { recursive: true, force: true });
  // `npm run mutate` has made both, with a fault in one of them.
  const given = process.env.GW_TEST_SERVER;
  if (given) {
    project.provide('superuserUrl', given);
    project.provide('template', process.env.GW_TEST_TEMPLATE ?? '');
    return async () => removeCompiled();
  }
  const removeFolder = serversInMemory();
  const { stop, superuserUrl } = await startServer().catch((error: unknown) => {
    // A machine without a database is told what to do, not where in our code it showed.
    if (!(error instanceof GwError)) throw error;
    process.stderr.write(`error: ${error.message}\nhint: ${error.hint ?? ''}\n`);
    process.exit(error.exitCode);
  });
  try {
    await createMigrated(superuserUrl, 'gw_template');
  } catch (error) {
    await stop();
    throw error;
  }
  project.provide('superuserUrl', superuserUrl);
  project.provide('template', 'gw_template');
  // After the server, which is ended when this process is.
  process.once('exit', removeFolder);
  return async () => {
    await stop();
    removeCompiled();
  };
}
