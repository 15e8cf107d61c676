import { GwError, messageOf } from '../../errors.ts';
import type { Transaction } from '../../postgres/connect.ts';
import { readOnly, readSqlText, sqlNames } from '../../postgres/sql-files.ts';
import type { Finding } from './findings.ts';

/** What is looked at. What is not given is as the checks have it by themselves. */
export interface Scope {
  /** Only these schemas. */
  schemas?: string[];
  /** Not these schemas, in place of those of known products. */
  excludeSchemas?: string[];
  /** Schemas that an API serves. */
  exposedSchemas?: string[];
  /** The column that says whose row it is. */
  tenantColumn?: string;
}

/** The names of all checks, in order. */
export const checkNames: string[] = sqlNames('checks', 'lint-');

const escaped = (name: string): string => name.replace(/[^A-Za-z0-9_]/g, String.raw`\$&`);
const pattern = (names: string[] = []): string =>
  names.length === 0 ? '' : `^(${names.map(escaped).join('|')})$`;

/** The settings by which the SQL files know the scope; an empty one counts as unset. */
const settings = (scope: Scope): Record<string, string> => ({
  'lint.schemas': pattern(scope.schemas),
  'lint.exclude_schemas': pattern(scope.excludeSchemas),
  'lint.exposed_schemas': pattern(scope.exposedSchemas),
  'lint.tenant_column': scope.tenantColumn ?? '',
  // So that names are printed with their schema.
  search_path: 'pg_catalog',
});

/**
 * Runs checks in a transaction.
 *
 * @param names which; all of them unless given
 * @throws GwError naming the check that the database refused
 */
export async function runChecks(
  sql: Transaction,
  scope: Scope = {},
  names: string[] = checkNames,
): Promise<Finding[]> {
  for (const [name, value] of Object.entries(settings(scope))) {
    await sql`select set_config(${name}, ${value}, true)`;
  }
  const findings: Finding[] = [];
  for (const name of names) {
    const text = readSqlText('checks', `lint-${name}`);
    const found = await sql.unsafe<Finding[]>(text).catch((error: unknown) => {
      throw new GwError(`the check ${name} failed: ${messageOf(error)}`, { cause: error });
    });
    findings.push(...found);
  }
  return findings;
}

/**
 * Runs every check on a database, without a way to change anything, a minute for each at most.
 *
 * @param variable where the URL came from, for the error
 * @throws GwError when the database cannot be reached or refuses a check
 */
export function lintDatabase(url: string, scope: Scope, variable: string): Promise<Finding[]> {
  // As a superuser, often: it must not run what the owner has put into another schema.
  return readOnly(url, variable, (sql) => runChecks(sql, scope), { needsExtensions: false });
}
