import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { PoolClient } from 'pg';
import { afterEach, expect, test } from 'vitest';
import { MeasuredPool } from '../../src/postgres/measured-pool.ts';
import { RunningTime } from '../../src/postgres/silence.ts';
import { Blackhole } from '../helpers/blackhole.ts';
import { useDatabase } from '../helpers/database.ts';

/*
 * Connections of the API that nobody uses for a while. Their server says nothing then, and this
 * is no outage.
 */
const silenceMs = 300;
const db = useDatabase();
let opened: MeasuredPool | undefined;

const open = (url: string): MeasuredPool => {
  const made = new MeasuredPool({ connectionString: url, max: 2, silenceMs });
  made.on('error', () => {});
  opened = made;
  return made;
};

afterEach(async () => {
  await opened?.end();
  opened = undefined;
});

const streamOf = (client: PoolClient): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream;

test('a request that comes at the moment when a connection was idle for so long is answered', async () => {
  const pool = open(db.url('authenticator'));
  const [one, other] = await Promise.all([pool.connect(), pool.connect()]);
  const stream = streamOf(one);
  other.release();
  await once(stream, 'timeout');
  const answer = await one.query('select 1 as one').finally(() => one.release());
  expect(answer.rows).toEqual([{ one: 1 }]);
  // The others were kept, too.
  expect(pool.totalCount).toBe(2);
  expect((await pool.query('select 2 as two')).rows).toEqual([{ two: 2 }]);
});

test('a server that says nothing, though it was asked, is given up for all callers', async () => {
  const network = new Blackhole();
  const pool = open(await network.through(db.url('authenticator')));
  const [one, other] = await Promise.all([pool.connect(), pool.connect()]);
  await Promise.all([one.query('select 1'), other.query('select 1')]);
  network.swallow();
  const asked = [one.query('select 1'), other.query('select 1')];
  const outcomes = await Promise.allSettled(asked);
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  for (const client of [one, other]) client.release(true);
  await network.stop();
});

test('a time that is stopped while what has arrived is read is not over', async () => {
  const acted: string[] = [];
  const both = new Promise<void>((resolve) => {
    new RunningTime(20, () => {
      acted.push('first');
      second.stop();
      setTimeout(resolve, 40);
    });
    // Over in the same turn of the event loop as the first.
    const second = new RunningTime(20, () => acted.push('second'));
  });
  await both;
  expect(acted).toEqual(['first']);
});
