import { EXIT, GwError, messageOf } from '../../errors.ts';
import type { Transaction } from '../../postgres/connect.ts';
import {
  type Param,
  readOnly,
  readSqlFiles,
  runSqlFile,
  setParams,
} from '../../postgres/sql-files.ts';
import { formatColumns } from '../../terminal/table.ts';
import { machineChecks } from './machine.ts';

/** One thing that is wrong, as every file of sql/checks/health-*.sql returns it. */
export interface HealthFinding {
  /** The check, such as `slot-wal`. */
  name: string;
  level: 'warning' | 'critical';
  /** What it is about; empty where there is only one. */
  object: string;
  detail: string;
  remediation: string;
}

export interface Health {
  /** unknown: a check that was asked for by its name could not look. */
  status: 'ok' | 'warning' | 'critical' | 'unknown';
  findings: HealthFinding[];
  /** Checks that could not be asked here, and what they need. */
  skipped: { name: string; needs: string }[];
  /** How many were asked. */
  checks: number;
}

/** The health checks' files. */
export const healthFiles = () => readSqlFiles('checks', 'health-');

/** The names of all checks. */
export const healthNames = (): string[] =>
  [...healthFiles().map(({ name }) => name), ...Object.keys(machineChecks)].sort();

/** The parameters of all checks. */
export const healthParams = (): Param[] => healthFiles().flatMap(({ params }) => params);

/**
 * Runs checks inside a transaction. One that fails, or may not look, is a finding itself.
 *
 * @param asked which, each of which must be able to look; all of them unless given
 * @throws GwError with exit code 2 for a parameter that the database cannot read
 */
export async function runHealthChecks(
  sql: Transaction,
  params: Map<string, string>,
  asked?: string[],
): Promise<Health> {
  const names = asked ?? healthNames();
  await setParams(sql, 'health', params);
  const findings: HealthFinding[] = [];
  const skipped: Health['skipped'] = [];
  const files = healthFiles().filter(({ name }) => names.includes(name));
  for (const file of files) {
    if (file.name === 'clock' && !params.has('clock_client')) {
      await setParams(sql, 'health', new Map([['clock_client', new Date().toISOString()]]));
    }
    try {
      const answer = await runSqlFile(sql, file);
      if ('needs' in answer && answer.isRight && asked === undefined) {
        findings.push({
          name: file.name,
          level: 'warning',
          object: '',
          detail: `cannot tell: needs ${answer.needs}`,
          remediation: 'Ask as gw_monitor, or grant this role what it needs.',
        });
      } else if ('needs' in answer) skipped.push({ name: file.name, needs: answer.needs });
      else {
        const rows = answer.rows as unknown as Omit<HealthFinding, 'name'>[];
        findings.push(...rows.map((row) => ({ name: file.name, ...row })));
      }
    } catch (error) {
      if (error instanceof GwError && error.exitCode === EXIT.usage) throw error;
      findings.push({
        name: file.name,
        level: 'warning',
        object: '',
        detail: `the check itself failed: ${messageOf(error)}`,
        remediation: `Correct sql/checks/health-${file.name}.sql.`,
      });
    }
  }
  let checks = files.length;
  for (const [name, check] of Object.entries(machineChecks)) {
    if (!names.includes(name)) continue;
    const answer = await check(sql);
    if ('needs' in answer) skipped.push({ name, ...answer });
    else findings.push(...answer);
    checks += 1;
  }
  const levels = findings.map(({ level }) => level);
  const rest = levels.length > 0 ? 'warning' : 'ok';
  const isUnknown = asked !== undefined && skipped.length > 0;
  const status = levels.includes('critical') ? 'critical' : isUnknown ? 'unknown' : rest;
  return { status, findings, skipped, checks: checks - skipped.length };
}

/**
 * Runs checks on a database, without a way to change anything.
 *
 * @param variable where the URL came from, for the error
 * @throws GwError with exit code 3 when the database cannot be reached
 */
export const checkHealth = (
  url: string,
  variable: string,
  params: Map<string, string>,
  names?: string[],
): Promise<Health> => readOnly(url, variable, (sql) => runHealthChecks(sql, params, names));

/** For people, and for Nagios and its kin: one line, then one for each finding. */
export function formatHealth({ status, findings, skipped, checks }: Health): string {
  const count = (level: string): number => findings.filter((each) => each.level === level).length;
  const [critical, warning] = [count('critical'), count('warning')];
  const first =
    `${status.toUpperCase()}: ${critical} critical, ${warning} warnings, ${checks} checks` +
    ` | critical=${critical} warning=${warning} checks=${checks} skipped=${skipped.length}\n`;
  const ordered = [...findings].sort((one, other) => one.level.localeCompare(other.level));
  const lines = ordered.map(({ name, level, object, detail, remediation }) => [
    level,
    `${name}${object === '' ? '' : ` ${object}`}: ${detail}\n${remediation}`,
  ]);
  const rest = skipped.map(({ name, needs }) => ['not here', `${name}: needs ${needs}`]);
  return first + formatColumns([...lines, ...rest]);
}
