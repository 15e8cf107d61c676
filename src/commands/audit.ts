import { readFile } from 'node:fs/promises';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { parseSeals } from '../audit/seals.ts';
import { type Verdict, verifyAuditLog } from '../audit/verify.ts';
import { loadConfig } from '../config.ts';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { connectionError, withSuperuser } from '../postgres/connect.ts';
import { databaseName } from '../postgres/urls.ts';
import { locateDatabase } from '../server/locate.ts';
import { print } from '../terminal/output.ts';

const cannotTell = (why: string, hint: string): GwError =>
  new GwError(`cannot tell: ${why}`, { hint, exitCode: EXIT.unavailable });

/** The text of the seals: a file that is named, else the one that the worker writes. */
async function readSeals(asked: string | undefined, url: string | undefined): Promise<string> {
  const file = asked ?? (url?.startsWith('file:') ? fileURLToPath(url) : undefined);
  if (file === undefined) {
    throw cannotTell('no file of seals is named', 'Name one: gw audit verify --seals <file>');
  }
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw cannotTell(`${file} cannot be read (${codeOf(error)})`, 'Is it on this machine?');
  });
}

function describe({ rows, seals, sealedTo, sealedAt, faults }: Verdict): string {
  if (faults.length > 0) return `${faults.join('\n')}\n`;
  const after = rows - Number(sealedTo);
  const rest =
    after === 0
      ? ''
      : `Nothing is proven of the ${after} rows after it but that they follow each other.\n`;
  return (
    `rows 1 to ${sealedTo} are what they were at ${sealedAt}, by ${seals} seals\n${rest}` +
    'It is not proven that what was done was entered, nor what was changed within the minute ' +
    'before a seal, nor anything against someone who has the key.\n'
  );
}

async function verify({ seals, json }: { seals?: string; json?: boolean }): Promise<void> {
  const config = loadConfig();
  if (config.GW_AUDIT_KEY === undefined) {
    throw cannotTell('GW_AUDIT_KEY is not set', 'It is the key that the worker seals with.');
  }
  const lines = parseSeals(await readSeals(seals, config.GW_AUDIT_SEALS));
  const { urls } = locateDatabase(config);
  const { GW_AUDIT_KEY: key } = config;
  const verdict = await withSuperuser(urls.monitor, (sql) =>
    sql.begin('isolation level repeatable read read only', async (transaction) => {
      await transaction`set local timezone = 'UTC'`;
      return verifyAuditLog(transaction, key, databaseName(urls.monitor), lines);
    }),
  ).catch((error: unknown) => {
    throw codeOf(error) === undefined
      ? error
      : connectionError(error, urls.monitor, 'DATABASE_URL');
  });
  if (verdict.faults.length === 0 && verdict.seals === 0) {
    throw cannotTell(
      'no seal of this database was made with this key',
      'The worker seals when GW_AUDIT_SEALS and GW_AUDIT_KEY are set.',
    );
  }
  print(json, verdict, describe(verdict));
  if (verdict.faults.length > 0) process.exitCode = EXIT.failure;
}

export function registerAudit(program: Command): void {
  program
    .command('audit')
    .description('prove that the audit log is what it was')
    .command('verify')
    .description('compare the audit log with its seals (exit 1 when it was altered, 3 cannot tell)')
    .option('--seals <file>', 'seals, one a line; else the file of GW_AUDIT_SEALS')
    .option('--json', 'print JSON')
    .action(verify);
}
