import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, transactionsOf, useDatabase } from '../../helpers/database.ts';
import { waitUntilBlocked } from '../../helpers/waiting.ts';

const db = useDatabase();
const { asOwner, asSuperuser } = transactionsOf(db);

/** Writes five entries; what is there already is five or more. */
async function writeFive(sql: Transaction): Promise<number[]> {
  const rows = await sql`
    select ops.audit('test.written', jsonb_build_object('n', n))::int as id
    from generate_series(1, 5) as n`;
  return rows.map(({ id }) => id);
}

const verify = async (sql: Sql | Transaction) => [
  ...(await sql`select broken_id::int as id, problem from ops.verify_audit_log()`),
];

/** Does what only a superuser or the owner can: changes rows behind the triggers' back. */
async function tamper(sql: Transaction, statement: string): Promise<void> {
  await sql.unsafe(`
    alter table ops.audit_log disable trigger user;
    alter table ops.audit_log_head disable trigger user;
    ${statement};
    alter table ops.audit_log enable always trigger _200_append_only`);
}

describe('ops.audit', () => {
  test('records who, from where, what, and when', async () => {
    await asOwner(async (sql) => {
      await sql`set local application_name = 'a test'`;
      const [entry] = await sql`select ops.audit('test.written', '{"a": 1}') as id`;
      const [row] = await sql`
        select actor, application_name, client_address = inet_client_addr() as from_here,
          action, details, occurred_at between now() and clock_timestamp() as is_now
        from ops.audit_log where id = ${entry?.id}`;
      expect(row).toEqual({
        actor: 'gw_owner',
        application_name: 'a test',
        from_here: true,
        action: 'test.written',
        details: { a: 1 },
        is_now: true,
      });
    });
  });

  test('names the role that logged in, whatever role it took', async () => {
    await asSuperuser(async (sql) => {
      await sql`set local role gw_owner`;
      await sql`select ops.audit('test.written')`;
      const [row] = await sql`select actor from ops.audit_log order by id desc limit 1`;
      expect(row?.actor).toBe('postgres');
    });
  });

  test('numbers without gaps, also after a rollback', async () => {
    await asOwner(async (sql) => {
      const before = await writeFive(sql);
      await sql
        .savepoint(async (inner) => {
          await writeFive(inner);
          throw new Error('rolled back');
        })
        .catch(() => undefined);
      const after = await writeFive(sql);
      expect(after[0]).toBe((before[4] ?? 0) + 1);
      expect(await verify(sql)).toEqual([]);
    });
  });

  test('lets two sessions write one after the other', async () => {
    const owner = db.as('owner');
    let second: Promise<unknown> | undefined;
    await owner.begin(async (sql) => {
      await sql`select ops.audit('test.first')`;
      second = owner`select ops.audit('test.second')`.execute();
      await waitUntilBlocked(db.as('superuser'));
    });
    await second;
    const rows = await owner`
      select action, prev_hash = lag(hash) over (order by id) as chained
      from ops.audit_log order by id desc limit 2`;
    expect(rows.map(({ action }) => action)).toEqual(['test.second', 'test.first']);
    expect(rows[0]?.chained).toBe(true);
    expect(await verify(owner)).toEqual([]);
  });

  test.each([
    ['an action that is not a name', "'Dropped it!', '{}'"],
    ['details that are not an object', "'test.written', '[]'"],
  ])('refuses %s', async (_what, values) => {
    await asOwner(async (sql) => {
      await expectRefusal(sql, '23514', (inner) => inner.unsafe(`select ops.audit(${values})`));
    });
  });
});

describe('the log', () => {
  test.each([
    "update ops.audit_log set actor = 'nobody'",
    'delete from ops.audit_log',
    'delete from ops.audit_log where false',
    'truncate ops.audit_log',
    'delete from ops.audit_log_head',
    'truncate ops.audit_log_head',
  ])('refuses "%s", the owner and a superuser too', async (statement) => {
    for (const run of [asOwner, asSuperuser]) {
      await run(async (sql) => {
        await writeFive(sql);
        await expectRefusal(sql, 'GW030', (inner) => inner.unsafe(statement));
        expect((await sql`select from ops.audit_log`).length).toBeGreaterThan(4);
      });
    }
  });

  test('refuses it also while triggers rest', async () => {
    await asSuperuser(async (sql) => {
      await sql`set local session_replication_role = replica`;
      await expectRefusal(sql, 'GW030', (inner) => inner`delete from ops.audit_log`);
    });
  });

  test('is for monitoring to read and verify, not to write', async () => {
    await db.as('owner')`select ops.audit('test.written')`;
    const monitor = db.as('monitor');
    expect((await monitor`select from ops.audit_log`).length).toBeGreaterThan(0);
    expect(await verify(monitor)).toEqual([]);
    await asSuperuser(async (sql) => {
      await sql`set local role gw_monitor`;
      await expectRefusal(sql, '42501', (inner) => inner`select ops.audit('test.written')`);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`
        update ops.audit_log_head set last_id = 0`,
      );
    });
  });
});

describe('verify_audit_log', () => {
  test('finds nothing in a log as it was written, in any session', async () => {
    await asOwner(async (sql) => {
      await writeFive(sql);
      await sql`set local timezone = 'Asia/Kathmandu'`;
      await sql`set local bytea_output = 'escape'`;
      await sql`set local datestyle = 'SQL, DMY'`;
      await sql`set local extra_float_digits = 0`;
      expect(await verify(sql)).toEqual([]);
      await writeFive(sql);
      expect(await verify(sql)).toEqual([]);
    });
  });

  test.each([
    ['actor', "'somebody_else'"],
    ['occurred_at', "occurred_at + interval '1 microsecond'"],
    ['application_name', "application_name || 'x'"],
    ['client_address', "'192.0.2.1'"],
    ['action', "'test.writtem'"],
    ['details', `details || '{"n": 4}'`],
  ])('finds an altered %s', async (column, value) => {
    await asSuperuser(async (sql) => {
      const [, second, third] = await writeFive(sql);
      await tamper(
        sql,
        `update ops.audit_log set ${column} = ${value} where id in (${second}, ${third})`,
      );
      expect(await verify(sql)).toEqual([{ id: second, problem: 'it was altered' }]);
    });
  });

  test('finds a row that was altered and given the right hash', async () => {
    await asSuperuser(async (sql) => {
      const [, second, third] = await writeFive(sql);
      await tamper(
        sql,
        `update ops.audit_log set actor = 'somebody_else' where id = ${second};
        update ops.audit_log set hash = ops.audit_log_hash(audit_log) where id = ${second}`,
      );
      expect(await verify(sql)).toEqual([{ id: third, problem: 'the row before it was altered' }]);
    });
  });

  test('finds a row that is gone, wherever it stood', async () => {
    await asSuperuser(async (sql) => {
      const ids = await writeFive(sql);
      const [, , third, fourth, fifth = 0] = ids;
      const without = async (condition: string) => {
        let found: unknown[] = [];
        await sql
          .savepoint(async (inner) => {
            await tamper(inner, `delete from ops.audit_log where ${condition}`);
            found = await verify(inner);
            throw new Error('rolled back');
          })
          .catch(() => undefined);
        return found;
      };
      expect(await without(`id = ${third}`)).toEqual([
        { id: fourth, problem: 'the row before it is missing' },
      ]);
      expect(await without(`id = 1`)).toEqual([{ id: 2, problem: 'the row before it is missing' }]);
      expect(await without(`id = ${fifth}`)).toEqual([
        { id: fifth, problem: 'it is missing, or audit_log_head was altered' },
      ]);
      expect(await without('true')).toEqual([
        { id: 1, problem: 'it is missing, or audit_log_head was altered' },
      ]);
      // The head says that there were more.
      await sql.savepoint(async (inner) => {
        await tamper(inner, 'update ops.audit_log_head set last_id = last_id + 1');
        expect(await verify(inner)).toEqual([
          { id: Number(fifth) + 1, problem: 'it is missing, or audit_log_head was altered' },
        ]);
        await inner`update ops.audit_log_head set last_id = last_id - 1`;
      });
      expect(await verify(sql)).toEqual([]);
    });
  });

  test('finds a newest row that was altered and given the right hash', async () => {
    await asSuperuser(async (sql) => {
      const fifth = (await writeFive(sql))[4] ?? 0;
      await tamper(
        sql,
        `update ops.audit_log set actor = 'somebody_else' where id = ${fifth};
        update ops.audit_log set hash = ops.audit_log_hash(audit_log) where id = ${fifth}`,
      );
      expect(await verify(sql)).toMatchObject([{ id: fifth + 1 }]);
    });
  });

  test('finds a row that was put in by hand', async () => {
    await asOwner(async (sql) => {
      const fifth = (await writeFive(sql))[4] ?? 0;
      await sql`
        insert into ops.audit_log
        select id + 1, occurred_at, actor, application_name, client_address, 'test.forged',
          details, hash, sha256('x')
        from ops.audit_log where id = ${fifth}`;
      expect(await verify(sql)).toEqual([{ id: fifth + 1, problem: 'it was altered' }]);
    });
  });
});

describe('what is entered', () => {
  test('partitions that leave, by detaching and by dropping', async () => {
    await asOwner(async (sql) => {
      await sql.unsafe(`
        create table ops.aged (at timestamptz not null) partition by range (at);
        insert into ops.partition_policies
          (parent_table, step, premake, retention, retention_action, require_backup)
        values ('ops.aged', '1 month', 1, '1 month', 'drop', false);
        select ops.create_range_partition('ops.aged', '2001-01-15', '1 month')`);
      await sql`select ops.prune_partitions()`;
      const rows = await sql`
        select action, details->>'parent_table' as parent, details->>'partition_name' as name
        from ops.audit_log where action like 'partition.%' order by id`;
      expect(rows).toEqual(
        ['partition.detached', 'partition.dropped'].map((action) => ({
          action,
          parent: 'ops.aged',
          name: 'app_partitions.aged_p200101',
        })),
      );
      expect(await verify(sql)).toEqual([]);
    });
  });
});
