import fc from 'fast-check';
import { expect, test } from 'vitest';
import { rolledBack, useDatabase } from '../../helpers/database.ts';
import { plan } from '../../helpers/planner.ts';
import { compatibleInstant, day, hour, offsetAt, transitionsOf } from '../../helpers/zones.ts';

const db = useDatabase();

const zones = [
  'America/New_York',
  'Asia/Kathmandu',
  'Australia/Lord_Howe',
  'Europe/Dublin',
  'Pacific/Kiritimati',
  'Pacific/Pago_Pago',
  'UTC',
];
const [start, end] = [Date.UTC(2022, 0, 1), Date.UTC(2034, 0, 1)];
const minute = 60_000;

/** The moment around which the planner runs, and the zone whose clocks change then. */
interface Occasion {
  at: number;
  zone?: string;
}

const changes: Occasion[] = zones.flatMap((zone) =>
  transitionsOf(zone).flatMap((at) => (at > start && at < end ? [{ at, zone }] : [])),
);

/** Any day, the end of a February, or a change of clocks. */
const occasions: fc.Arbitrary<Occasion> = fc.oneof(
  fc.integer({ min: start / day, max: end / day }).map((days) => ({ at: days * day })),
  fc.integer({ min: 2022, max: 2033 }).map((year) => ({ at: Date.UTC(year, 2, 1) })),
  fc.constantFrom(...changes),
);

interface Person {
  timezone: string;
  birthday: string;
  /** When messages are sent, in milliseconds after local midnight. */
  sendTime: number;
  policy: string;
}

const isoDate = (local: number): string => new Date(local).toISOString().slice(0, 10);

/** Somebody who celebrates about then: on another day, on a leap day, or as clocks change. */
const people = ({ at, zone }: Occasion): fc.Arbitrary<Person> =>
  fc
    .record({
      kind: fc.constantFrom('day', 'leap day', 'change'),
      timezone: fc.constantFrom(...zones),
      days: fc.integer({ min: -3, max: 3 }),
      minutes: fc.integer({ min: 0, max: 1439 }),
      aroundChange: fc.integer({ min: -75, max: 75 }),
      policy: fc.constantFrom('feb28', 'mar1', 'skip'),
    })
    .map(({ kind, timezone, days, minutes, aroundChange, policy }) => {
      const today = Math.floor(at / day) * day;
      if (kind === 'leap day') {
        return { timezone, birthday: '2000-02-29', sendTime: minutes * minute, policy };
      }
      const local =
        kind === 'change' && zone
          ? at + offsetAt(zone, at - 1000) + aroundChange * minute
          : today + days * day + minutes * minute;
      return {
        timezone: kind === 'change' && zone ? zone : timezone,
        birthday: `1996${isoDate(local).slice(4)}`,
        sendTime: local - Math.floor(local / day) * day,
        policy,
      };
    });

const scenarios = occasions.chain((occasion) =>
  fc.record({
    now: fc
      .integer({ min: -2160, max: 2160 })
      .map((minutes) => Math.floor(occasion.at / minute + minutes) * minute),
    drawn: fc.array(people(occasion), { minLength: 60, maxLength: 60 }),
  }),
);

const isLeap = (year: number): boolean => new Date(Date.UTC(year, 1, 29)).getUTCDate() === 29;

/** Every message of a person that is due, by the rules as a reader would apply them. */
function messagesOf(person: Person, now: number): string[] {
  const thisYear = new Date(now).getUTCFullYear();
  return [thisYear - 1, thisYear, thisYear + 1].flatMap((year) => {
    const isMoved = person.birthday.endsWith('02-29') && !isLeap(year);
    if (isMoved && person.policy === 'skip') return [];
    const movedTo = person.policy === 'feb28' ? '02-28' : '03-01';
    const date = `${year}-${isMoved ? movedTo : person.birthday.slice(5)}`;
    const instant = compatibleInstant(person.timezone, Date.parse(date) + person.sendTime);
    const isDue = instant > now - 12 * hour && instant <= now + 24 * hour;
    return isDue ? [`${date} ${instant / 1000}`] : [];
  });
}

test('who is due, and when, is what a plain reading of the rules says', async () => {
  let planned = 0;
  await fc.assert(
    fc.asyncProperty(scenarios, async ({ now, drawn }) => {
      await rolledBack(db.as('owner'), async (sql) => {
        const rows = drawn.map((person, number) => ({
          ...person,
          number,
          sendTime: new Date(person.sendTime).toISOString().slice(11, 19),
        }));
        await sql`
          insert into app_public.users (email, first_name, timezone, birthday_date, send_time,
            leap_day_policy)
          select number || '@example.com', number, timezone, birthday, "sendTime", policy
          from jsonb_to_recordset(${sql.json(rows)}) as given (number int, timezone text,
            birthday date, "sendTime" time, policy text)`;
        await sql`
          insert into app_public.user_settings (user_id, weekly_digest)
          select id, false from app_public.users`;
        planned += await plan(sql, new Date(now).toISOString());
        const actual = await sql<{ message: string }[]>`
          select concat_ws(' ', first_name, delivery_date,
            extract(epoch from scheduled_send_time)::bigint) as message
          from app_public.message_logs inner join app_public.users on users.id = user_id`;
        const wanted = drawn.flatMap((person, number) =>
          messagesOf(person, now).map((message) => `${number} ${message}`),
        );
        expect(actual.map(({ message }) => message).sort()).toEqual(wanted.sort());
      });
    }),
    { numRuns: 25 },
  );
  expect(planned).toBeGreaterThan(50);
});
