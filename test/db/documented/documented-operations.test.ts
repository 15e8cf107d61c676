import { beforeAll, describe, expect, test } from 'vitest';
import { codeOf } from '../../../src/errors.ts';
import { seed } from '../../../src/migrations/seed.ts';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import { become, createUser, rolledBack, useDatabase } from '../../helpers/database.ts';
import { billow } from './billow.ts';
import { birthday } from './birthday.ts';
import { instantviz } from './instantviz.ts';
import { macroAi } from './macro-ai.ts';
import { type Operation, thisDatabase } from './operation.ts';
import { performance } from './performance.ts';

/*
 * Every operation of the five documents (docs/explanation/coverage.md) as it is written
 * there, or what replaces it. Their pg_cron jobs are in cron.test.ts, their replication slot
 * is at the end.
 */
const db = useDatabase();
let user = '';

beforeAll(async () => {
  await seed(db.url('owner'), 20);
  const [first] = await db.as('owner')`
    select id from app_public.users where email = 'demo1@example.com'`;
  user = first?.id;
  await createUser(db.as('owner'), { timezone: 'UTC' });
});

type Statement = Pick<Operation, 'sql' | 'as' | 'commits' | 'with'>;

function textOf(statement: Statement): string {
  const database = new URL(db.url('owner')).pathname.slice(1);
  let text = statement.sql;
  for (const [name, value] of Object.entries(statement.with ?? {})) {
    text = text.replaceAll(name, value.replace(thisDatabase, database).replace('{user}', user));
  }
  return text;
}

/** Runs it in this session; its parameter is the user. Returns the rows of the last statement. */
const runIn = (sql: Sql | Transaction, statement: Statement): Promise<unknown[]> => {
  const text = textOf(statement);
  return (text.includes('$1') ? sql.unsafe(text, [user]) : sql.unsafe(text).simple()).then(
    (rows) => [...rows],
  );
};

/** Runs it as the role that would, rolled back where that is possible. */
async function run(
  statement: Statement,
  then: (sql: Transaction) => Promise<void> = async () => {},
): Promise<unknown[]> {
  const { as } = statement;
  if (statement.commits === true) return runIn(db.as(as === 'user' ? 'owner' : as), statement);
  let rows: unknown[] = [];
  await rolledBack(db.as(as === 'user' ? 'superuser' : as), async (sql) => {
    if (as === 'user') await become(sql, user);
    rows = await runIn(sql, statement);
    await then(sql);
  });
  return rows;
}

const documents = { billow, birthday, macroAi, performance, instantviz };

describe.each(Object.entries(documents))('of %s', (_document, operations) => {
  const title = ({ section, sql }: Operation) => `${section}: ${sql.replace(/\s+/g, ' ')}`;
  const kept = operations.filter(({ replaced }) => replaced === undefined);
  const replaced = operations.flatMap((operation) =>
    operation.replaced === undefined ? [] : [{ operation, ...operation.replaced }],
  );

  test.each(kept.map((operation) => ({ title: title(operation), operation })))(
    '$title runs as it is written',
    async ({ operation }) => {
      await run(operation);
    },
  );

  test.each(replaced.map((rest) => ({ ...rest, title: title(rest.operation) })))(
    '$title is replaced: $why',
    async ({ operation, fate, by }) => {
      if (fate !== 'not run' && 'fails' in fate) {
        const code = await run(operation).then(() => 'nothing was refused', codeOf);
        expect([fate.fails].flat()).toContain(code);
      }
      if (fate !== 'not run' && 'finds' in fate) expect(await run(operation)).toEqual([]);
      if (fate !== 'not run' && 'leaves' in fate) {
        await run(operation, async (sql) => {
          expect(Object.values((await sql.unsafe(fate.leaves))[0] ?? {})).toEqual([true]);
        });
      }
      const rows = await run(by);
      if (fate !== 'not run' && 'finds' in fate) expect(rows).not.toEqual([]);
    },
  );
});

test('the replication slot of Billow is made, watched and read as it is written', async () => {
  // A role that has REPLICATION is enough for all three.
  const sql = db.as('cdc', 1);
  await sql`SELECT * FROM pg_create_logical_replication_slot('billow_slot', 'wal2json')`;
  try {
    await db.as('owner').begin(async (owner) => {
      // A slot shows what is on disk, which the tests' server does not wait for.
      await owner`set local synchronous_commit = on`;
      await owner`
        insert into app_public.tasks (user_id, title) values (${user}, 'seen by the slot')`;
    });
    const [slot] = await sql`SELECT * FROM pg_replication_slots WHERE slot_name = 'billow_slot'`;
    expect(slot).toMatchObject({ plugin: 'wal2json', active: false });
    const [pending] = await sql`
      SELECT COUNT(*) FROM pg_logical_slot_peek_changes('billow_slot', NULL, NULL)`;
    expect(Number(pending?.count)).toBeGreaterThan(0);
  } finally {
    await sql`select pg_drop_replication_slot('billow_slot')`;
  }
});
