import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../src/postgres/connect.ts';
import { healthFiles } from '../../src/toolkit/check/health.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';

const db = useDatabase();

interface AlertRow {
  check_name: string;
  object: string;
  level: string;
  is_open: boolean;
}

describe('ops.check_health', () => {
  const run = async (sql: Transaction): Promise<number> => {
    await sql`update ops.health_checks set ran_at = null`;
    const [row] = await sql`select ops.check_health() as changed`;
    return row?.changed;
  };
  const alerts = async (sql: Transaction, check: string): Promise<AlertRow[]> => [
    ...(await sql<AlertRow[]>`
      select check_name, object, level, resolved_at is null as is_open from ops.alerts
      where check_name = ${check} order by id`),
  ];

  test('has the text of every file that can run without a client', async () => {
    const rows = await db.as('monitor')`select name, query from ops.health_checks order by name`;
    const files = healthFiles().filter(({ name }) => !['clock', 'checks-running'].includes(name));
    expect(rows.map(({ name }) => name)).toEqual(files.map(({ name }) => name));
    for (const { name, text } of files) {
      const query = rows.find((row) => row.name === name)?.query;
      expect(text.startsWith(query)).toBe(true);
    }
  });

  test('opens an alert once, follows its level, and resolves it when it is over', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await run(sql);
      const dead = `insert into pgboss.job (name) select 'message-send-dead'
        from generate_series(1, `;
      await sql.unsafe(`${dead}1)`);
      expect(await run(sql)).toBe(1);
      expect(await run(sql)).toBe(0);
      const alert = { check_name: 'health-dead-letters', object: 'message-send-dead' };
      expect(await alerts(sql, 'health-dead-letters')).toEqual([
        { ...alert, level: 'warning', is_open: true },
      ]);
      await sql.unsafe(`${dead}100)`);
      expect(await run(sql)).toBe(1);
      await sql`delete from pgboss.job where name = 'message-send-dead'`;
      expect(await run(sql)).toBe(1);
      expect(await alerts(sql, 'health-dead-letters')).toEqual([
        { ...alert, level: 'critical', is_open: false },
      ]);
    });
  });

  test('raises an alert for a check that fails or tries to write, and runs the others', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await sql`update ops.health_checks set query = 'select 1 / 0' where name = 'wraparound'`;
      await sql`update ops.health_checks
        set query = 'select ops.raise_alert(''x-y'', '''', ''warning'', '''')::text as level'
        where name = 'backups'`;
      // A role that there is not, and one that the owner has not.
      await sql`update ops.health_checks set needs = '{role no_such_role}' where name = 'disk'`;
      await sql`update ops.health_checks
        set needs = '{role pg_write_server_files}', query = 'select where false'
        where name = 'settings'`;
      await sql`insert into pgboss.job (name) values ('message-send-dead')`;
      await run(sql);
      const failed = await alerts(sql, 'health-check-failed');
      expect(failed.map(({ object }) => object).sort()).toEqual([
        'backups',
        'disk',
        'settings',
        'wraparound',
      ]);
      expect(await alerts(sql, 'x-y')).toEqual([]);
      expect(await alerts(sql, 'health-dead-letters')).toHaveLength(1);
      await sql`update ops.health_checks set query = 'select where false', needs = '{}'
        where name in ('wraparound', 'backups', 'disk', 'settings')`;
      await run(sql);
      expect((await alerts(sql, 'health-check-failed')).some(({ is_open }) => is_open)).toBe(false);
    });
  });

  test('resolves what is over of a check that still finds something else', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const find = (...objects: string[]) => sql`
        update ops.health_checks set needs = '{}', query = ${objects
          .map(
            (name) => `select 'warning' as level, '${name}' as object, '' as detail, ''
            as remediation`,
          )
          .join(' union all ')}
        where name = 'disk'`;
      await find('one', 'two');
      await run(sql);
      await find('two', 'three');
      await run(sql);
      const found = await alerts(sql, 'health-disk');
      expect(found.map(({ object, is_open }) => [object, is_open])).toEqual([
        ['one', false],
        ['two', true],
        ['three', true],
      ]);
    });
  });

  test('runs a check only when it is due', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await sql`update ops.health_checks set ran_at = now() - interval '2 minutes'`;
      await sql`select ops.check_health()`;
      const rows = await sql`
        select name from ops.health_checks where ran_at < now() order by name`;
      expect(rows.map(({ name }) => name)).toEqual([
        'audit-log',
        'broken-plans',
        'collation-version',
        'extension-versions',
        'last-hour',
        'never-analyzed',
        'sequences',
      ]);
    });
  });

  test('resolves the alerts of a check that was taken away', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await sql`insert into pgboss.job (name) values ('message-send-dead')`;
      await run(sql);
      await sql`select ops.sync_health_checks('[]')`;
      expect((await alerts(sql, 'health-dead-letters'))[0]?.is_open).toBe(false);
    });
  });

  test.each(['worker', 'monitor', 'readonly', 'authenticator'] as const)(
    'is not for %s',
    async (role) => {
      await expect(db.as(role)`select ops.check_health()`).rejects.toMatchObject({ code: '42501' });
    },
  );
});
