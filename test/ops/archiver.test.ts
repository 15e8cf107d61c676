import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { type Scratch, startScratch } from '../../src/server/scratch.ts';
import { checkHealth } from '../../src/toolkit/check/health.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/* Its server is its own, because archive_mode changes with a restart only. */
let scratch: Scratch;
let sql: Sql;

beforeAll(async () => {
  scratch = await startScratch('gw_cron', {
    topic: 'archiver',
    settings: ['archive_mode = on', "archive_command = 'false'"],
  });
  sql = connect(scratch.superuserUrl);
}, patience(60_000));

afterAll(async () => {
  await sql?.end({ timeout: 1 });
  await scratch?.stop();
});

const found = async (params: Record<string, string> = {}) => {
  const answer = await checkHealth(scratch.superuserUrl, 'test', new Map(Object.entries(params)), [
    'wal-archiver',
  ]);
  return answer.findings.map(({ level, detail }) => ({ level, detail }));
};

test.skipIf(process.env.GW_TEST_DB === 'docker')(
  'wal-archiver finds a command that fails, and files that wait, and is content afterwards',
  async () => {
    expect(await found()).toEqual([]);
    await sql`select pg_logical_emit_message(true, 'test', 'x')`;
    await sql`select pg_switch_wal()`;
    await eventually(async () => (await found()).length > 0);
    expect(await found()).toEqual([
      {
        level: 'critical',
        detail: expect.stringMatching(/^[0-9A-F]{24} failed at .+; 1 files wait/),
      },
    ]);
    await sql`alter system set archive_command = 'true'`;
    await sql`select pg_reload_conf()`;
    await eventually(async () => (await found()).length === 0);
    // As when it is slow.
    await sql`alter system set archive_command = 'sleep 60'`;
    await sql`select pg_reload_conf()`;
    await sql`select pg_logical_emit_message(true, 'test', 'x')`;
    await sql`select pg_switch_wal()`;
    const few = { wal_archiver_warning: '1' };
    await eventually(async () => (await found(few)).length > 0);
    expect(await found(few)).toEqual([{ level: 'warning', detail: '1 files wait to be archived' }]);
  },
);
