import type { Transaction } from '../../postgres/connect.ts';
import { withSql } from '../../postgres/connect.ts';
import type { Database } from '../../postgres/urls.ts';
import { proveFunctions } from './functions.ts';
import { proveGraphql } from './graphql.ts';
import type { ServedApi } from './graphql-client.ts';
import type { ProveOptions } from './options.ts';
import { proveConstraints } from './references.ts';
import { proveRelation } from './relations.ts';
import { Report } from './report.ts';
import { makeWorld } from './world.ts';

const rollback = Symbol('rollback');

/** Everything that SQL can try, in a superuser's transaction that the caller rolls back. */
export async function proveInTransaction(sql: Transaction, options: ProveOptions): Promise<Report> {
  const report = new Report(options);
  const world = await makeWorld(sql, options, report);
  for (const relation of world.relations.values()) {
    if (options.objects?.test(relation.name) === false) continue;
    await proveRelation(world, relation, report);
    await proveConstraints(world, relation, report);
  }
  await proveFunctions(world, report);
  report.tried = world.attempts.tried;
  return report;
}

/** Proves a database; what SQL tries is rolled back. */
export async function proveSql(superuserUrl: string, options: ProveOptions): Promise<Report> {
  return withSql(superuserUrl, async (pool) => {
    let report = new Report(options);
    await pool
      .begin(async (sql) => {
        report = await proveInTransaction(sql, options);
        throw rollback;
      })
      .catch((error: unknown) => {
        if (error !== rollback) throw error;
      });
    return report;
  });
}

/**
 * Tries to reach one user's rows as another and as nobody, in every way that the catalogue
 * and the GraphQL schema offer.
 *
 * @param database may be written to: the GraphQL part commits two users and removes them
 * @param serve serves the database's API
 * @param only one part of it
 */
export async function prove(
  database: Database,
  serve: (database: Database) => Promise<ServedApi>,
  options: ProveOptions,
  only?: 'sql' | 'graphql',
): Promise<Report> {
  const report =
    only === 'graphql'
      ? new Report(options)
      : await proveSql(database.urls.superuser ?? '', options);
  if (only !== 'sql') await proveGraphql(database, serve, options, report);
  if (only === undefined && options.objects === undefined) report.finish();
  return report;
}
