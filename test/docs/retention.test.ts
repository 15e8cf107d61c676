import { expect, test } from 'vitest';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { code, expectTable, readPage } from '../helpers/reference.ts';

const db = useDatabase();

/** An interval of whole months, days or hours, as a person says it. */
function inWords(interval: string): string {
  const [, number = '', unit = ''] = /^(\d+) (mon|day|year)s?$/.exec(interval) ?? [];
  if (unit === '') throw new Error(`no words for the interval ${interval}`);
  return `${number} ${unit === 'mon' ? 'month' : unit}${number === '1' ? '' : 's'}`;
}

test('every retention policy is in the reference', async () => {
  const policies = await db.as('owner')<
    { relation: string; column: string; keptFor: string; reason: string }[]
  >`
    select relation, time_column as column, kept_for::text as "keptFor", reason
    from ops.retention_policies`;
  expectTable(
    'retention',
    'Rows',
    policies.map(({ relation, column, keptFor, reason }) => ({
      table: code(relation),
      column: code(column),
      'kept for': inWords(keptFor),
      reason,
    })),
  );
});

test('every partition policy is in the reference', async () => {
  const policies = await db.as('superuser')<
    {
      parent: string;
      step: string;
      premake: number;
      retention: string | null;
      action: string;
      backup: boolean;
    }[]
  >`
    select nspname || '.' || relname as parent, step::text, premake,
      retention::text, retention_action as action, require_backup as backup
    from ops.partition_policies
    inner join pg_class on pg_class.oid = parent_table
    inner join pg_namespace on pg_namespace.oid = relnamespace`;
  const monthsOf = (interval: string): string => interval.replace('1 year', '12 mons');
  expectTable(
    'retention',
    'Partitions',
    policies.map(({ parent, step, premake, retention, action, backup }) => ({
      table: code(parent),
      step: inWords(step),
      ahead: String(premake),
      'kept for': retention === null ? 'ever' : inWords(monthsOf(retention)),
      afterwards: retention === null ? 'stays' : action,
      'needs a verified backup': retention !== null && action === 'drop' && backup ? 'yes' : 'no',
    })),
  );
});

test('every queue of pg-boss is in the reference, with how long it keeps jobs', async () => {
  const queues = await db.as('owner')<{ name: string; finished: number; waiting: number }[]>`
    select name, deletion_seconds / 86400 as finished, retention_seconds / 86400 as waiting
    from pgboss.queue`;
  const days = (number: number): string => inWords(`${number} day`);
  expectTable(
    'retention',
    'Queues',
    queues.map(({ name, finished, waiting }) => ({
      queue: code(name),
      'a finished job is kept for': days(finished),
      'a waiting job is kept for': days(waiting),
    })),
  );
});

test('the least retention of the ledger is what its trigger refuses to pass', async () => {
  const [, shortest] =
    /ledger must be kept for (\d+ days)/.exec(readPage('retention').replaceAll('\n', ' ')) ?? [];
  await rolledBack(db.as('owner'), async (sql) => {
    const keep = (shorter: string) => sql`
      update ops.retention_policies
      set kept_for = ${`${shortest}`}::text::interval - ${shorter}::text::interval
      where relation = 'app_private.message_ledger'`;
    await keep('0');
    await expect(keep('1 second')).rejects.toMatchObject({ code: 'GW014' });
  });
});
