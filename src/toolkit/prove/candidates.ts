import { createHash, randomUUID } from 'node:crypto';
import type { Check, Column } from './catalogue.ts';
import { sample } from './patterns.ts';

/**
 * A value to try for a column, as text; undefined leaves the column out. It is made from a
 * seed, a word that occurs nowhere else, so that the value can be recognised later.
 */
export type Candidate = (seed: string) => string | null | undefined;

/** Leaves the column to its default. */
export const omitted: Candidate = () => undefined;

const day = 86_400_000;
const dateIn = (days: number): string =>
  new Date(Date.now() + days * day).toISOString().slice(0, 10);
const always = (...values: string[]): Candidate[] => values.map((value) => () => value);
const sha = (seed: string): string => createHash('sha256').update(seed).digest('hex');

interface Hints {
  literals: string[];
  numbers: string[];
  patterns: string[];
  likes: string[];
}

/** The literals in the text of checks: what they allow is most often written there. */
function hintsOf(checks: Check[]): Hints {
  const text = checks.map(({ definition }) => definition).join('\n');
  const quoted = (expression: RegExp): string[] =>
    [...text.matchAll(expression)].map((found) => (found[1] ?? '').replaceAll("''", "'"));
  return {
    literals: [
      ...new Set(
        quoted(/'((?:[^']|'')*)'/g).flatMap((value) =>
          // An array that a column is compared with any of.
          /^\{.*\}$/.test(value) ? [...value.slice(1, -1).split(','), value] : [value],
        ),
      ),
    ],
    numbers: [...new Set([...text.matchAll(/-?\b\d+(\.\d+)?\b/g)].map(([number]) => number))],
    patterns: quoted(/ ~\*? '((?:[^']|'')*)'/g),
    likes: quoted(/ ~~\*? '((?:[^']|'')*)'/g),
  };
}

function textCandidates({ literals, numbers, patterns, likes }: Hints): Candidate[] {
  const lengths = numbers.map(Number).filter((n) => n >= 1 && n <= 5000 && Number.isInteger(n));
  const samples = patterns.map(
    (pattern): Candidate =>
      (seed) =>
        sample(pattern, seed.slice(2)),
  );
  return [
    (seed) => seed,
    ...always(...literals.filter((value) => !patterns.includes(value) && !likes.includes(value))),
    // Before the patterns, which are looser than what the application reads.
    (seed) => `${seed}@example.com`,
    // bcrypt, as a password's hash; its cost is the least.
    (seed) => `$2a$04$${sha(seed).slice(0, 53)}`,
    ...samples,
    ...likes.map(
      (like): Candidate =>
        (seed) =>
          like.replaceAll('%', seed).replaceAll('_', 'a'),
    ),
    (seed) => `https://${seed}.example.com/${seed}`,
    (seed) => `/${seed}`,
    (seed) => seed.toUpperCase(),
    (seed) => sha(seed),
    ...lengths.map(
      (n): Candidate =>
        (seed) =>
          seed.slice(-n).padEnd(n, 'x'),
    ),
    () => randomUUID(),
    ...always('x', '1', 'en', 'US', 'USD', 'usd', 'UTC', '12:00', '#a1b2c3', '+15550001111'),
    ...always(dateIn(0), '{}', '[]', ''),
  ];
}

function jsonCandidates({ literals }: Hints): Candidate[] {
  return [
    (seed) => JSON.stringify({ note: seed }),
    (seed) => JSON.stringify([seed]),
    (seed) => JSON.stringify(Object.fromEntries(literals.map((key) => [key, seed]))),
    ...always('{}', '[]'),
    (seed) => JSON.stringify([{ note: seed }]),
    (seed) => JSON.stringify(seed),
    ...always('1', 'true', 'null'),
  ];
}

/** Every day of a week, the first of a month, and days of other years. */
const dates = [
  ...[0, 1, -1, 2, 3, 4, 5, 6, 7, -7].map(dateIn),
  ...[`${dateIn(0).slice(0, 8)}01`, '2000-02-29', '1990-01-01'],
];
const byType: Record<string, Candidate[]> = {
  uuid: [() => randomUUID()],
  boolean: always('false', 'true'),
  date: always(...dates),
  'time without time zone': always('09:00', '10:00', '00:00', '23:59'),
  'time with time zone': always('09:00+00', '10:00+00'),
  interval: always('1 day', '1 hour', '1 mon', '0'),
  bytea: [(seed) => `\\x${sha(seed)}`, (seed) => `\\x${sha(seed).slice(0, 32)}`, () => ''],
  inet: always('192.0.2.1'),
  cidr: always('192.0.2.0/24'),
  macaddr: always('08:00:2b:01:02:03'),
  int4range: always('[1,5)'),
  int8range: always('[1,5)'),
  numrange: always('[1,5)'),
  daterange: always(`[${dateIn(0)},${dateIn(1)})`),
  tsrange: always(`[${dateIn(0)},${dateIn(1)})`),
  tstzrange: always(`[${dateIn(0)},${dateIn(1)})`),
  tsvector: [(seed) => seed],
  tsquery: [(seed) => seed],
  point: always('(1,1)'),
  xml: [(seed) => `<x>${seed}</x>`],
  regclass: always('pg_catalog.pg_class'),
  pg_lsn: always('0/1'),
};

/** Values of a type that a column may take, the likeliest first. */
export function candidatesFor(
  column: Pick<Column, 'type' | 'baseType' | 'labels'> & { name?: string },
  checks: Check[],
): Candidate[] {
  const hints = hintsOf(checks);
  const type = column.baseType.replace(/^(?:public|extensions)\./, '').replace(/^"(.*)"$/, '$1');
  if (column.labels.length > 0) return always(...column.labels);
  if (type.endsWith('[]')) {
    const inner = candidatesFor(
      { ...column, type: type.slice(0, -2), baseType: type.slice(0, -2) },
      [],
    );
    const elements = [...always(...hints.literals), ...inner.slice(0, 3)];
    return [
      ...elements.map(
        (make): Candidate =>
          (seed) =>
            `{${JSON.stringify(make(seed) ?? '')}}`,
      ),
      () => '{}',
    ];
  }
  const vector = /^(half|sparse)?vec(?:tor)?(?:\((\d+)\))?$/.exec(type);
  if (vector) {
    const size = Number(vector[2] ?? 3);
    if (vector[1] === 'sparse') return always(`{1:0.1}/${size}`);
    return [0.1, 0, 1].map((value) => () => `[${Array(size).fill(value).join(',')}]`);
  }
  const plain = type.replace(/\(.*\)/, '');
  if (/^(text|character varying|character|citext|name|"char"|bpchar)$/.test(plain)) {
    const most = Number(/\((\d+)\)/.exec(type)?.[1] ?? Infinity);
    const all = textCandidates(hints);
    if (most === Infinity) return all;
    const end: Candidate = (seed) => seed.slice(-most);
    return [end, ...all].map(
      (make): Candidate =>
        (seed: string) =>
          make(seed)?.slice(0, most),
    );
  }
  if (plain === 'json' || plain === 'jsonb') return jsonCandidates(hints);
  if (/^(smallint|integer|bigint|numeric|real|double precision|money|oid)$/.test(plain)) {
    const whole = !/^(numeric|real|double precision)$/.test(plain);
    const near = hints.numbers.map(Number).flatMap((n) => [n, n + 1, n - 1]);
    const numbers = [1, 2, 3, 4, 5, 0, ...near, 10, 100, 0.5, -1];
    const unique = [...new Set(numbers)].filter((n) => !whole || Number.isInteger(n));
    return always(...unique.map(String));
  }
  const days = always(...hints.literals.filter((text) => /^\d{4}-\d\d-\d\d/.test(text)));
  if (plain.startsWith('timestamp')) {
    // What has expired may be cleared away by anybody at any time.
    const first = /expire|until/.test(column.name ?? '') ? [7, 0, 1, -1] : [0, 1, -1, 7];
    const moments = first.map((n) => new Date(Date.now() + n * day).toISOString());
    const midnights = dates.map((text) => `${text}T00:00:00Z`);
    return [...always(...moments, ...midnights), ...days];
  }
  if (plain === 'date') return [...always(...dates), ...days];
  if (plain === 'interval') return [...always(...hints.literals), ...always('1 day', '1 mon', '0')];
  return byType[plain] ?? [];
}
