import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { rolledBack, useDatabase } from '../../helpers/database.ts';
import {
  agreements,
  anyLocalTime,
  instantsOf,
  type LocalTime,
  temporalInstant,
  textOf,
} from '../../helpers/instants.ts';
import { day, hour, isKnown, offsetAt, transitionsOf } from '../../helpers/zones.ts';

/*
 * The source of truth is Temporal as V8 has it: neither code nor data is PostgreSQL's. A
 * failure prints its seed; GW_TEST_SEED=… runs it again.
 */
const db = useDatabase();
const minute = 60_000;
const timeout = 180_000;

/** 5 batches of 500: 2,500 cases a property, each batch one query. */
const size = 500;
const options = {
  numRuns: 5,
  // A case that differs is shown alone: there is nothing to shrink.
  endOnFailure: true,
  ...(process.env.GW_TEST_SEED ? { seed: Number(process.env.GW_TEST_SEED) } : {}),
};
const batchOf = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.array(arbitrary, { minLength: size, maxLength: size });

const zones: string[] = [];

beforeAll(async () => {
  const rows = await db.as('owner')`select name from app_hidden.timezones order by name`;
  zones.push(...rows.map(({ name }) => name as string).filter(isKnown));
  expect(zones.length).toBeGreaterThan(400);
});

/** Fails a case that differs, unless it hangs on hours that the two tzdata read differently. */
class Comparison {
  seen = 0;
  skipped = 0;

  async check<T extends LocalTime>(
    sql: Transaction,
    cases: readonly T[],
    actual: readonly unknown[],
    wanted: readonly unknown[],
  ): Promise<void> {
    expect(actual).toHaveLength(cases.length);
    const differing = cases.flatMap((given, index) =>
      actual[index] === wanted[index]
        ? []
        : [{ ...given, at: textOf(given.local), actual: actual[index], wanted: wanted[index] }],
    );
    const agree = await agreements(sql, differing);
    this.seen += cases.length;
    this.skipped += agree.filter((same) => !same).length;
    expect(differing.filter((_, index) => agree[index])).toEqual([]);
  }

  /** Less than one in a hundred may be skipped. */
  end(atLeast: number): void {
    expect(this.seen).toBeGreaterThanOrEqual(atLeast);
    expect(this.skipped / this.seen).toBeLessThan(0.01);
  }
}

describe('local_to_instant', () => {
  test('is what Temporal says, for any zone and local time, whatever the session', {
    timeout,
  }, async () => {
    const comparison = new Comparison();
    await rolledBack(db.as('owner'), async (sql) => {
      const given = fc.tuple(fc.constantFrom(...zones), batchOf(anyLocalTime(zones)));
      await fc.assert(
        fc.asyncProperty(given, async ([sessionZone, cases]) => {
          await sql`select set_config('timezone', ${sessionZone}, true)`;
          const wanted = cases.map((one) => temporalInstant(one));
          await comparison.check(sql, cases, await instantsOf(sql, cases), wanted);
        }),
        options,
      );
    });
    comparison.end(2_500);
  });

  test.each([
    'Africa/Casablanca',
    'Africa/Monrovia',
    'America/Caracas',
    'America/Scoresbysund',
    'Antarctica/Troll',
    'Asia/Gaza',
    'Asia/Kathmandu',
    'Asia/Pyongyang',
    'Australia/Lord_Howe',
    'Europe/Dublin',
    'Pacific/Apia',
    'Pacific/Kwajalein',
  ])('is what Temporal says around each change of clocks in %s', { timeout }, async (zone) => {
    const distances = [-1560, -1440, -90, -60, -30, -1, 0, 1, 30, 45, 60, 90, 120, 1440, 1560];
    const all = transitionsOf(zone);
    // Rules repeat: of more than 40 changes the latest 40.
    const cases = all.slice(-40).flatMap((at) =>
      distances.map((minutes) => ({
        zone,
        local: at + offsetAt(zone, at - 1000) + minutes * minute,
      })),
    );
    await rolledBack(db.as('owner'), async (sql) => {
      const wanted = cases.map((one) => temporalInstant(one));
      await new Comparison().check(sql, cases, await instantsOf(sql, cases), wanted);
    });
    expect(all.length).toBeGreaterThan(0);
  });

  test.each([
    ['Pacific/Apia', Date.UTC(2011, 11, 30)],
    ['Pacific/Kwajalein', Date.UTC(1993, 7, 21)],
  ])('is what Temporal says each half hour of the day that %s left out', async (zone, missing) => {
    const cases = Array.from({ length: 144 }, (_, half) => ({
      zone,
      local: missing - day + half * 30 * minute,
    }));
    await rolledBack(db.as('owner'), async (sql) => {
      const actual = await instantsOf(sql, cases);
      expect(actual).toEqual(cases.map((one) => temporalInstant(one)));
    });
  });
});

const policies = ['feb28', 'mar1', 'skip'] as const;
type Policy = (typeof policies)[number];

const isLeap = (year: number): boolean => new Date(Date.UTC(year, 1, 29)).getUTCDate() === 29;

/** The day on which a yearly date is kept in a year, or null. */
function kept(date: string, year: number, policy: Policy): string | null {
  const monthDay = date.slice(5);
  if (monthDay !== '02-29' || isLeap(year)) return `${year}-${monthDay}`;
  if (policy === 'skip') return null;
  return `${year}-${policy === 'feb28' ? '02-28' : '03-01'}`;
}

const anyDate = fc
  .oneof(
    fc.integer({ min: Date.UTC(1920, 0, 1) / day, max: Date.UTC(2024, 0, 1) / day }),
    fc.integer({ min: 1920, max: 2020 }).map((year) => Date.UTC(year, 2, 0) / day),
    fc.constant(Date.UTC(2000, 1, 29) / day),
  )
  .map((days) => textOf(days * day).slice(0, 10));

test('occurrence_in_year keeps each date in each year as its policy says', async () => {
  const given = fc.record({
    date: anyDate,
    year: fc.integer({ min: 1900, max: 2400 }),
    policy: fc.constantFrom(...policies),
  });
  await fc.assert(
    fc.asyncProperty(batchOf(given), async (cases) => {
      const rows = await db.as('owner')<{ kept: string | null }[]>`
        select app_hidden.occurrence_in_year(date::date, year, policy)::text as kept
        from unnest(${cases.map(({ date }) => date)}::text[],
          ${cases.map(({ year }) => year)}::integer[],
          ${cases.map(({ policy }) => policy)}::text[])
          with ordinality as given (date, year, policy, number)
        order by number`;
      expect(rows.map((row) => row.kept)).toEqual(
        cases.map(({ date, year, policy }) => kept(date, year, policy)),
      );
    }),
    options,
  );
});

interface QuietCase extends LocalTime {
  /** The instant asked about. */
  at: number;
  /** Milliseconds after midnight. */
  from: number;
  until: number;
}

/** The end of the quiet hours that a clock on the wall is in: theirs of that day, or the day before. */
function quietUntil({ zone, at, from, until }: QuietCase): number | null {
  const wall = at + offsetAt(zone, at);
  const today = Math.floor(wall / day) * day;
  for (const date of [today - day, today]) {
    const end = date + until + (until < from ? day : 0);
    if (wall < date + from || wall >= end) continue;
    const first = temporalInstant({ zone, local: end });
    // Where the clock shows the end twice, it may have shown it once already.
    return first > at ? first : temporalInstant({ zone, local: end }, 'later');
  }
  return null;
}

test('quiet_until is the next time that the clock shows the end, and never past', {
  timeout,
}, async () => {
  const comparison = new Comparison();
  const around = fc.integer({ min: -9, max: 9 }).map((n) => n * 15 * minute);
  const given = fc
    .record({ near: anyLocalTime(zones), later: fc.boolean(), from: around, until: around })
    .filter(({ from, until }) => from !== until)
    .map(({ near, later, from, until }): QuietCase => {
      const ofDay = (local: number) => ((local % day) + day) % day;
      return {
        ...near,
        at: temporalInstant(near, later ? 'later' : 'compatible'),
        from: ofDay(Math.floor(near.local / minute) * minute + from),
        until: ofDay(Math.floor(near.local / minute) * minute + until),
      };
    });
  let quiet = 0;
  await rolledBack(db.as('owner'), async (sql) => {
    await fc.assert(
      fc.asyncProperty(batchOf(given), async (cases) => {
        const rows = await sql<{ ms: number | null }[]>`
          select extract(epoch from app_hidden.quiet_until(
            to_timestamp(at), zone, start::time, until::time))::float8 * 1000 as ms
          from unnest(${cases.map(({ at }) => at / 1000)}::float8[],
            ${cases.map(({ zone }) => zone)}::text[],
            ${cases.map(({ from }) => textOf(from).slice(11))}::text[],
            ${cases.map(({ until }) => textOf(until).slice(11))}::text[])
            with ordinality as given (at, zone, start, until, number)
          order by number`;
        const actual = rows.map(({ ms }) => ms);
        const wanted = cases.map(quietUntil);
        quiet += wanted.filter((end) => end !== null).length;
        await comparison.check(sql, cases, actual, wanted);
        expect(cases.filter(({ at }, index) => (actual[index] ?? Infinity) <= at)).toEqual([]);
      }),
      options,
    );
  });
  comparison.end(2_500);
  expect(quiet).toBeGreaterThan(500);
});

interface Person {
  zone: string;
  date: string;
  policy: Policy;
  /** Milliseconds after midnight. */
  sendTime: number;
  wanted: boolean;
}

/** The first occasion that is not 12 hours past, as "date instant". */
function nextOf({ zone, date, policy, sendTime, wanted }: Person, now: number): LocalTime | null {
  if (!wanted) return null;
  const thisYear = new Date(now).getUTCFullYear();
  for (let year = thisYear - 1; year <= thisYear + 9; year += 1) {
    const on = kept(date, year, policy);
    if (on === null || on <= date) continue;
    const local = Date.parse(on) + sendTime;
    // An instant is within 15 hours of what a clock in UTC shows.
    if (local < now - 2 * day) continue;
    if (temporalInstant({ zone, local }) > now - 12 * hour) return { zone, local };
  }
  return null;
}

test('the schedule holds the next occasion of each, whoever they are and whenever it is', {
  timeout,
}, async () => {
  const comparison = new Comparison();
  const dateAround = (now: number) =>
    fc.integer({ min: -3, max: 3 }).map((days) => `1996${textOf(now + days * day).slice(4, 10)}`);
  const personOf = (now: number): fc.Arbitrary<Person> =>
    fc.record({
      zone: fc.constantFrom(...zones),
      date: fc.oneof(anyDate, dateAround(now)),
      policy: fc.constantFrom(...policies),
      sendTime: fc.integer({ min: 0, max: 1439 }).map((minutes) => minutes * minute),
      wanted: fc.boolean(),
    });
  const given = fc
    .oneof(
      fc.integer({ min: Date.UTC(2024, 0, 1) / minute, max: Date.UTC(2027, 0, 1) / minute }),
      fc
        .record({
          year: fc.integer({ min: 2024, max: 2028 }),
          // The end of a February, or of a year.
          month: fc.constantFrom(2, 12),
          minutes: fc.integer({ min: -3000, max: 3000 }),
        })
        .map(({ year, month, minutes }) => Date.UTC(year, month, 1) / minute + minutes),
    )
    .chain((minutes) =>
      fc.record({ at: fc.constant(minutes * minute), people: batchOf(personOf(minutes * minute)) }),
    );
  await fc.assert(
    fc.asyncProperty(given, async ({ at, people }) => {
      await rolledBack(db.as('owner'), async (sql) => {
        const rows = people.map((one, number) => ({
          ...one,
          number,
          sendTime: textOf(one.sendTime).slice(11),
        }));
        await sql`
          with made as (
            insert into app_public.users (email, first_name, timezone, birthday_date, send_time,
              leap_day_policy)
            select number || '@example.com', number, zone, date, "sendTime", policy
            from jsonb_to_recordset(${sql.json(rows)}) as given (number int, zone text,
              date date, "sendTime" time, policy text)
            returning id, first_name
          )
          insert into app_public.user_settings (user_id, birthday_messages)
          select made.id, given.wanted
          from made
          inner join jsonb_to_recordset(${sql.json(rows)}) as given (number text, wanted boolean)
            on given.number = made.first_name`;
        await sql`delete from app_private.message_schedule`;
        await sql`
          select app_private.schedule_messages(array_agg(id), ${textOf(at)}::text::timestamp
            at time zone 'UTC')
          from app_public.users`;
        const found = await sql<{ number: string; next: string }[]>`
          select first_name as number, concat_ws(' ', delivery_date,
            extract(epoch from scheduled_send_time)::bigint) as next
          from app_private.message_schedule
          inner join app_public.users on users.id = user_id
          where message_type = 'BIRTHDAY'`;
        const actual = new Map(found.map(({ number, next }) => [Number(number), next]));
        const wanted = people.map((one) => nextOf(one, at));
        await comparison.check(
          sql,
          people.map((one, number) => ({ ...one, local: wanted[number]?.local ?? at })),
          people.map((_, number) => actual.get(number)),
          wanted.map((next) =>
            next?.local === undefined
              ? undefined
              : `${textOf(next.local).slice(0, 10)} ${temporalInstant(next) / 1000}`,
          ),
        );
      });
    }),
    options,
  );
  comparison.end(2_500);
});
