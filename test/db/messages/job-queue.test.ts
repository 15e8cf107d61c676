import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getConstructionPlans, PgBoss } from 'pg-boss';
import { describe, expect, test } from 'vitest';
import { projectRoot } from '../../../src/project.ts';
import { pgBossSchemaVersion } from '../../../src/worker/worker.ts';
import { useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const folder = join(projectRoot, 'migrations', 'fixtures', 'pgboss');

/** What the installed pg-boss would run, without the transaction around it. */
function constructionPlan(): string[] {
  return meaningful(getConstructionPlans('pgboss')).filter(
    (line) =>
      !/^(BEGIN|COMMIT);$/.test(line) &&
      !/^SET LOCAL (lock_timeout|idle_in_transaction_session_timeout) = \d+;$/.test(line) &&
      !line.startsWith('SELECT pg_advisory_xact_lock('),
  );
}

const meaningful = (sql: string): string[] =>
  sql
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');

describe('the schema of pg-boss', () => {
  test('is what the installed package prints', () => {
    const file = `construction-${pgBossSchemaVersion}.sql`;
    expect(readdirSync(folder)).toContain(file);
    expect(meaningful(readFileSync(join(folder, file), 'utf8'))).toEqual(constructionPlan());
  });

  test('has the version that the worker expects', async () => {
    expect(await db.as('owner')`select version from pgboss.version`).toEqual([
      { version: pgBossSchemaVersion },
    ]);
  });

  test('satisfies the installed package, as the worker, who may not change it', async () => {
    const boss = new PgBoss({
      connectionString: db.url('worker'),
      schema: 'pgboss',
      migrate: false,
      createSchema: false,
      supervise: false,
      schedule: false,
    });
    const errors: unknown[] = [];
    boss.on('error', (error) => errors.push(error));
    await boss.start();
    const queue = await boss.getQueue('message-send');
    await boss.stop({ graceful: false });
    expect(errors).toEqual([]);
    expect(queue).toMatchObject({
      name: 'message-send',
      policy: 'standard',
      retryLimit: 1_000_000,
      retryDelay: 1,
      retryBackoff: false,
      retryDelayMax: null,
      heartbeatSeconds: null,
      expireInSeconds: 86_399,
      deadLetter: 'message-send-dead',
    });
  });
});
