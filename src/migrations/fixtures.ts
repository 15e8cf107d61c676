import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import JSON5 from 'json5';
import pg from 'pg';
import type { Database } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { bootstrapDatabase, createDatabase } from '../server/bootstrap.ts';
import { databaseAt } from '../server/scratch.ts';
import { topics } from './baseline.ts';
import { fixtureError } from './error.ts';
import { syncHealthChecks } from './health-checks.ts';
import { expandIncludes, fixturesFolder, textOf, trimBlank } from './includes.ts';

/** The settings of .gmrc for sessions that migrate. */
function sessionSettings(): Record<string, string> {
  const gmrc = JSON5.parse(readFileSync(join(projectRoot, '.gmrc'), 'utf8'));
  return (gmrc as { pgSettings?: Record<string, string> }).pgSettings ?? {};
}

/**
 * Makes a database on a server from migrations/fixtures/schema.sql, as gw_owner, each topic in
 * a transaction.
 *
 * @throws GwError naming file and line of the statement that fails
 */
export async function createFromFixtures(superuserUrl: string, name: string): Promise<Database> {
  await createDatabase(superuserUrl, name);
  const database = databaseAt(superuserUrl, name);
  await bootstrapDatabase(database.urls.superuser ?? '');
  const settings = Object.entries(sessionSettings());
  // `pg`, because it says how many of a text's statements had run.
  const client = new pg.Client({ connectionString: database.urls.owner });
  await client.connect();
  try {
    for (const [key, value] of settings) {
      await client.query('select set_config($1, $2, false)', [key, value]);
    }
    for (const topic of topics()) {
      const lines = trimBlank(expandIncludes(join(fixturesFolder, topic)));
      await client.query('begin');
      await client.query(textOf(lines)).catch((error: unknown) => {
        throw fixtureError(error, lines);
      });
      await client.query('commit');
    }
  } finally {
    await client.end();
  }
  await syncHealthChecks(database.urls.owner);
  return database;
}
