import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { codeOf, EXIT, GwError, messageOf } from '../../errors.ts';
import { formatColumns } from '../../terminal/table.ts';

/** One thing that is wrong, as every file of sql/checks/lint-*.sql returns it. */
export interface Finding {
  /** The check, such as `duplicate-index`, or `squawk:<rule>`. */
  name: string;
  level: 'error' | 'warning';
  /** Null for a finding in a file. */
  object_schema: string | null;
  object_name: string;
  detail: string;
  /** What to do, as SQL where possible. */
  remediation: string;
}

const exceptionList = z.array(
  z.strictObject({ name: z.string(), object: z.string(), reason: z.string().min(1) }),
);

/** A finding that was reviewed and is meant to stay. */
export type LintException = z.infer<typeof exceptionList>[number];

/** What exceptions call an object: `schema.name`, or the path of a file. */
export const objectOf = (finding: Finding): string =>
  finding.object_schema === null
    ? finding.object_name
    : `${finding.object_schema}.${finding.object_name}`;

/**
 * Reads a list of exceptions.
 *
 * @throws GwError when the file cannot be read or is not such a list
 */
export function readExceptions(path: string): LintException[] {
  try {
    return exceptionList.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    const said = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    throw new GwError(`${path} is not a list of exceptions: ${codeOf(error) ?? said}`, {
      hint: 'It is a JSON array of {"name", "object", "reason"}.',
      exitCode: EXIT.usage,
      cause: error,
    });
  }
}

/** Findings without those that are excepted, and the exceptions that excepted nothing. */
export function applyExceptions(
  findings: Finding[],
  exceptions: LintException[],
): { remaining: Finding[]; unused: LintException[] } {
  const matches = (exception: LintException, finding: Finding): boolean =>
    exception.name === finding.name && exception.object === objectOf(finding);
  return {
    remaining: findings.filter((found) => !exceptions.some((each) => matches(each, found))),
    unused: exceptions.filter((each) => !findings.some((found) => matches(each, found))),
  };
}

/** An exception that is not needed any more, as a finding itself. */
export const unusedException = (exception: LintException, path: string): Finding => ({
  name: 'unused-exception',
  level: 'warning',
  object_schema: null,
  object_name: exception.object,
  detail: `nothing is found there by ${exception.name} any more`,
  remediation: `delete its entry from ${path}`,
});

/** Findings for people: one line each, what to do below it, and how many there are. */
export function formatFindings(findings: Finding[]): string {
  const lines = formatColumns(
    findings.map((found) => [
      found.level.padEnd('warning'.length),
      found.name,
      `${objectOf(found)}: ${found.detail}\n${found.remediation}`,
    ]),
  );
  const errors = findings.filter(({ level }) => level === 'error').length;
  return `${lines}${errors} errors, ${findings.length - errors} warnings\n`;
}
