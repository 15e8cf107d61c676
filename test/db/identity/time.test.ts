import { describe, expect, test } from 'vitest';
import { rolledBack, useDatabase } from '../../helpers/database.ts';
import { instantsOf } from '../../helpers/instants.ts';
import { compatibleInstant, day, hour, transitionsOf } from '../../helpers/zones.ts';

const db = useDatabase();

describe('local_to_instant', () => {
  test.each([
    ['America/New_York', '2026-03-08 02:30', '2026-03-08T07:30:00Z', 'in a gap'],
    ['America/New_York', '2026-03-08 03:00', '2026-03-08T07:00:00Z', 'at the end of a gap'],
    ['America/New_York', '2026-11-01 01:30', '2026-11-01T05:30:00Z', 'in an overlap'],
    ['America/New_York', '2026-11-01 02:00', '2026-11-01T07:00:00Z', 'after an overlap'],
    ['Australia/Lord_Howe', '2026-04-05 01:45', '2026-04-04T14:45:00Z', 'in half an hour twice'],
    ['Australia/Lord_Howe', '2026-10-04 02:15', '2026-10-03T15:45:00Z', 'in half an hour missing'],
    ['Europe/Dublin', '2026-03-29 01:30', '2026-03-29T01:30:00Z', 'in a gap to standard time'],
    ['Europe/Dublin', '2026-10-25 01:30', '2026-10-25T00:30:00Z', 'in an overlap to winter time'],
    ['Pacific/Apia', '2011-12-30 12:00', '2011-12-30T22:00:00Z', 'in a day that never was'],
    ['Pacific/Apia', '2011-12-31 00:00', '2011-12-30T10:00:00Z', 'after that day'],
    ['Africa/Casablanca', '2024-03-10 02:30', '2024-03-10T01:30:00Z', 'as Ramadan begins'],
    ['Africa/Casablanca', '2024-04-14 02:30', '2024-04-14T02:30:00Z', 'as Ramadan ends'],
    ['America/Scoresbysund', '2024-03-31 00:30', '2024-03-31T01:30:00Z', 'as two changes cancel'],
    ['Asia/Pyongyang', '2018-05-04 23:45', '2018-05-04T15:15:00Z', 'in half an hour missing'],
    ['Asia/Kathmandu', '2026-06-01 09:00', '2026-06-01T03:15:00Z', 'at 45 minutes'],
    ['Africa/Monrovia', '1971-06-01 09:00', '1971-06-01T09:44:30Z', 'at odd seconds'],
    ['UTC', '2026-06-01 09:00', '2026-06-01T09:00:00Z', 'in UTC'],
  ])('reads %s %s as %s, %s', async (zone, local, instant) => {
    await rolledBack(db.as('owner'), async (sql) => {
      for (const sessionZone of ['UTC', 'Pacific/Apia']) {
        await sql`select set_config('timezone', ${sessionZone}, true)`;
        const [actual] = await instantsOf(sql, [{ zone, local: Date.parse(`${local}Z`) }]);
        expect(new Date(actual ?? Number.NaN)).toEqual(new Date(instant));
      }
    });
  });

  test('is null for null and refuses a zone that does not exist', async () => {
    const sql = db.as('owner');
    const [row] = await sql`select app_hidden.local_to_instant(null, 'UTC') as instant`;
    expect(row).toEqual({ instant: null });
    await expect(
      sql`select app_hidden.local_to_instant(timestamp '2026-01-01', 'Mars/Olympus')`,
    ).rejects.toMatchObject({ code: '22023' });
  });
});

describe('the source of comparison', () => {
  test('finds the transitions of a zone', () => {
    const of2026 = transitionsOf('America/New_York').filter(
      (at) => new Date(at).getUTCFullYear() === 2026,
    );
    expect(of2026).toEqual([Date.UTC(2026, 2, 8, 7), Date.UTC(2026, 10, 1, 6)]);
    expect(transitionsOf('UTC')).toEqual([]);
  });

  test('resolves as Temporal does', () => {
    const local = Date.UTC(2026, 2, 8, 2, 30);
    expect(compatibleInstant('America/New_York', local)).toBe(local + 5 * hour);
    const twice = Date.UTC(2026, 10, 1, 1, 30);
    expect(compatibleInstant('America/New_York', twice)).toBe(twice + 4 * hour);
    const never = Date.UTC(2011, 11, 30);
    expect(compatibleInstant('Pacific/Apia', never)).toBe(never + 10 * hour);
    expect(compatibleInstant('Pacific/Apia', never + day)).toBe(never + 10 * hour);
  });
});
