import type { TestProject } from 'vitest/node';
import { createMigrated, startScratch } from '../../src/database/scratch.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A superuser's connection to the server of this run. */
    superuserUrl: string;
  }
}

/** The database that pg_cron lives in, on the server of the tests. */
export const cronDatabase = 'gw_cron';

/**
 * One server for the run, made for it and thrown away after it; one migrated database on
 * it, which every test file clones.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { stop, superuserUrl } =
    process.env.GW_TEST_DB === 'docker'
      ? await (await import('./docker-server.ts')).startContainer(cronDatabase)
      : await startScratch(cronDatabase);
  try {
    await createMigrated(superuserUrl, 'gw_template');
  } catch (error) {
    await stop();
    throw error;
  }
  project.provide('superuserUrl', superuserUrl);
  return stop;
}
