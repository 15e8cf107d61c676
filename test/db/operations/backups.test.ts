import { describe, expect, test } from 'vitest';
import { expectRefusal, transactionsOf, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

describe('is_backed_up', () => {
  test.each([
    ['a physical one', 'physical', null, true],
    ['a logical one of everything', 'logical', null, true],
    ['a logical one of its parent', 'logical', ['app_public.tasks'], true],
    ['a logical one of itself', 'logical', ['app_partitions.tasks_h00'], true],
    ['a logical one of another', 'logical', ['app_public.users'], false],
  ])('by %s: %s %s %s', async (_what, kind, tables, wanted) => {
    await asOwner(async (sql) => {
      await sql`
        insert into ops.backups (kind, tables, location, finished_at, verified_at)
        values (${kind}, ${tables}, 'x', now(), now())`;
      const ask = (since: string) => sql`
        select ops.is_backed_up('app_partitions.tasks_h00', ${since}) as answer`;
      expect((await ask('2001-01-01'))[0]?.answer).toBe(wanted);
      expect((await ask('2900-01-01'))[0]?.answer).toBe(false);
    });
  });

  test.each([
    ['an unknown kind', "('other', 'x', null, null)"],
    ['verified before it ended', "('physical', 'x', null, now())"],
  ])('cannot be told of a backup %s', async (_what, row) => {
    await asOwner(async (sql) => {
      await expectRefusal(sql, '23514', (inner) =>
        inner.unsafe(
          `insert into ops.backups (kind, location, finished_at, verified_at) values ${row}`,
        ),
      );
    });
  });
});
