import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import type { Transaction } from '../../src/postgres/connect.ts';
import { hoursAround, offsetAt, transitionsOf } from './zones.ts';

/** The part of TC39's Temporal that is used here. */
interface Temporal {
  PlainDateTime: {
    from(text: string): {
      toZonedDateTime(
        zone: string,
        options?: { disambiguation: 'compatible' | 'later' },
      ): { epochMilliseconds: number };
    };
  };
}

/** Node 24 has Temporal behind a flag, which holds for contexts made after it is set. */
function loadTemporal(): Temporal {
  setFlagsFromString('--harmony-temporal');
  return runInNewContext('Temporal') as Temporal;
}
const temporal = loadTemporal();

/** A local time in a zone. */
export interface LocalTime {
  zone: string;
  /** As the instant at which a clock in UTC shows it, in milliseconds. */
  local: number;
}

export const textOf = (local: number): string => new Date(local).toISOString().slice(0, 19);

/** What Temporal makes of a local time, in milliseconds since 1970. */
export const temporalInstant = (
  { zone, local }: LocalTime,
  disambiguation: 'compatible' | 'later' = 'compatible',
): number =>
  temporal.PlainDateTime.from(textOf(local)).toZonedDateTime(zone, { disambiguation })
    .epochMilliseconds;

/** What the database makes of many local times, in one query. */
export async function instantsOf(sql: Transaction, cases: readonly LocalTime[]): Promise<number[]> {
  const rows = await sql<{ ms: number }[]>`
    select extract(epoch from app_hidden.local_to_instant(local::timestamp, zone))::float8 * 1000
      as ms
    from unnest(${cases.map(({ local }) => textOf(local))}::text[],
      ${cases.map(({ zone }) => zone)}::text[]) with ordinality as given (local, zone, number)
    order by number`;
  return rows.map(({ ms }) => ms);
}

/**
 * Whether the server's tzdata says the same as Node's of the hours around each local time.
 * Releases differ: only where both know the same rules can they agree.
 */
export async function agreements(
  sql: Transaction,
  cases: readonly LocalTime[],
): Promise<boolean[]> {
  const hours = cases.flatMap(({ zone, local }, index) =>
    hoursAround(local).map((at) => ({ index, zone, at })),
  );
  const rows = await sql<{ ms: number }[]>`
    select extract(epoch from instant at time zone zone - instant at time zone 'UTC')::float8 * 1000
      as ms
    from unnest(${hours.map(({ at }) => at / 1000)}::float8[],
      ${hours.map(({ zone }) => zone)}::text[]) with ordinality as given (epoch, zone, number)
    cross join lateral (select to_timestamp(epoch)) as moment (instant)
    order by number`;
  const agree = cases.map(() => true);
  hours.forEach(({ index, zone, at }, row) => {
    if (rows[row]?.ms !== offsetAt(zone, at)) agree[index] = false;
  });
  return agree;
}

/** Local times of 1970 to 2037: two of three within 26 hours of a transition of their zone. */
export const anyLocalTime = (zones: readonly string[]): fc.Arbitrary<LocalTime> =>
  fc.constantFrom(...zones).chain((zone) => {
    const anywhere = fc
      .integer({ min: 0, max: Date.UTC(2037, 11, 31) / 60_000 })
      .map((minutes) => ({ zone, local: minutes * 60_000 }));
    const changes = transitionsOf(zone);
    if (changes.length === 0) return anywhere;
    const near = fc
      .record({
        change: fc.constantFrom(...changes),
        distance: fc.oneof(
          { weight: 3, arbitrary: fc.integer({ min: -8, max: 8 }).map((n) => n * 15) },
          { weight: 1, arbitrary: fc.integer({ min: -1560, max: 1560 }) },
        ),
      })
      .map(({ change, distance }) => ({
        zone,
        local: Math.max(0, change + offsetAt(zone, change - 1000) + distance * 60_000),
      }));
    return fc.oneof(anywhere, near, near);
  });
