import { describe, expect, test } from 'vitest';
import { rolledBack, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();

type Alert = { level: string; detail: string; is_open: boolean };

describe('alerts', () => {
  test('an alert is raised once, follows its level, and is closed once', async () => {
    await rolledBack(db.as('worker'), async (sql) => {
      const raise = async (level: string, detail: string) =>
        (
          await sql`select ops.raise_alert('dead-letters', 'message-send', ${level}, ${detail})
          as changed`
        )[0]?.changed;
      expect(await raise('warning', '1 job')).toBe(true);
      expect(await raise('warning', '2 jobs')).toBe(false);
      expect(await raise('critical', '200 jobs')).toBe(true);
      const resolve = () => sql`select ops.resolve_alert('dead-letters', 'message-send') as done`;
      expect((await resolve())[0]?.done).toBe(true);
      expect((await resolve())[0]?.done).toBe(false);
      expect(await raise('warning', '1 job')).toBe(true);
    });
  });

  test('the worker can raise one, and neither read nor write the table', async () => {
    for (const statement of [
      'select * from ops.alerts',
      "insert into ops.alerts (check_name, level, detail) values ('x-y', 'warning', '')",
      'delete from ops.alerts',
    ]) {
      await expect(db.as('worker').unsafe(statement)).rejects.toMatchObject({ code: '42501' });
    }
  });

  test('what is open and what is over stand beside each other', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await sql`select ops.raise_alert('disk', '', 'warning', '81 %')`;
      await sql`select ops.resolve_alert('disk')`;
      await sql`select ops.raise_alert('disk', '', 'critical', '96 %')`;
      const alerts = await sql<Alert[]>`
        select level, detail, resolved_at is null as is_open from ops.alerts
        where check_name = 'disk' order by id`;
      expect([...alerts]).toEqual([
        { level: 'warning', detail: '81 %', is_open: false },
        { level: 'critical', detail: '96 %', is_open: true },
      ]);
    });
  });
});
