import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import JSON5 from 'json5';
import { EXIT, GwError } from '../errors.ts';
import { withSql } from '../postgres/connect.ts';
import type { Database } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { bootstrapDatabase, createDatabase } from '../server/bootstrap.ts';
import { databaseAt } from '../server/scratch.ts';
import { topics } from './baseline.ts';
import { syncHealthChecks } from './health-checks.ts';
import { expandIncludes, fixturesFolder, type SourceLine, textOf, trimBlank } from './includes.ts';

/** The settings of .gmrc for sessions that migrate. */
function sessionSettings(): Record<string, string> {
  const gmrc = JSON5.parse(readFileSync(join(projectRoot, '.gmrc'), 'utf8'));
  return (gmrc as { pgSettings?: Record<string, string> }).pgSettings ?? {};
}

/** Where in its file a character of a text stands. `position` counts from 1. */
function placeOf(lines: SourceLine[], position: number): string {
  const line =
    lines[
      textOf(lines)
        .slice(0, position - 1)
        .split('\n').length - 1
    ];
  return line === undefined ? '' : `${line.file}:${line.number}`;
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
  await withSql(
    database.urls.owner,
    async (sql) => {
      for (const topic of topics()) {
        const lines = trimBlank(expandIncludes(join(fixturesFolder, topic)));
        await sql
          .begin((transaction) => transaction.unsafe(textOf(lines)).simple())
          .catch((error: Error & { position?: string; code?: string }) => {
            const place = placeOf(lines, Number(error.position ?? 1));
            throw new GwError(`${place}: ${error.message} (${error.code ?? 'no SQLSTATE'})`, {
              exitCode: EXIT.failure,
              cause: error,
            });
          });
      }
    },
    { connection: sessionSettings() },
  );
  await syncHealthChecks(database.urls.owner);
  return database;
}
