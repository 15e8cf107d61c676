import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { projectRoot } from '../project.ts';
import { type DumpedObject, dumpObjects, dumpRows } from './dump.ts';
import { fixturesFolder } from './includes.ts';

/** Something that two databases do not have alike. */
export interface Difference {
  /** Such as "function app_public.login(text, text)". */
  object: string;
  /** Where migrations/fixtures speaks of it, as file:line; undefined where nothing does. */
  place: string | undefined;
  /** What the migrations make of it; undefined when they make none. */
  committed: string | undefined;
  /** What migrations/fixtures/schema.sql makes of it. */
  fixtures: string | undefined;
}

interface Side {
  objects: Map<string, DumpedObject>;
  rows: Map<string, string[]>;
}

const described = ({ type, schema, name }: DumpedObject): string =>
  `${type.toLowerCase()} ${schema === '-' ? '' : `${schema}.`}${name}`;

const sourceFiles = (): string[] =>
  readdirSync(fixturesFolder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.sql') && !file.startsWith('pgboss'))
    .sort()
    .map((file) => join(fixturesFolder, file));

/** The first line of migrations/fixtures that matches, as file:line. */
function find(pattern: RegExp, files = sourceFiles()): string | undefined {
  for (const file of files) {
    const index = readFileSync(file, 'utf8')
      .split('\n')
      .findIndex((line) => pattern.test(line));
    if (index !== -1) return `${relative(projectRoot, file)}:${index + 1}`;
  }
  return undefined;
}

/** Where an object of a dump is written. */
function placeOf({ type, schema, name }: DumpedObject): string | undefined {
  // "FUNCTION login(email text)", "COLUMN tasks.title", "tasks _100_timestamps", "tasks_pkey".
  const isFunction = type === 'FUNCTION' || /^(FUNCTION|PROCEDURE) /.test(name);
  const bare = name.replace(/^[A-Z ]+ (?=\S)/, '').replace(/\(.*$/s, '');
  if (isFunction) {
    const file = join(fixturesFolder, 'functions', schema, `${bare}.sql`);
    if (existsSync(file)) return `${relative(projectRoot, file)}:1`;
  }
  const words = bare.split(/[ .]/).filter((word) => /^\w+$/.test(word));
  for (const word of words.toReversed()) {
    const place =
      find(new RegExp(`create .*\\b${word}\\b`)) ??
      find(new RegExp(`constraint ${word}\\b`)) ??
      find(new RegExp(`\\b${schema}\\.${word}\\b`));
    if (place !== undefined) return place;
  }
  return undefined;
}

/** The first line in which two texts differ. */
function firstDifference(left: string, right: string): [string, string] {
  const [old, now] = [left.split('\n'), right.split('\n')];
  const index = old.findIndex((line, i) => line !== now[i]);
  const at = index === -1 ? old.length : index;
  return [(old[at] ?? '').trim() || '(nothing)', (now[at] ?? '').trim() || '(nothing)'];
}

/** Every object and every table's rows that two databases do not have alike. */
export function differences(committed: Side, fixtures: Side): Difference[] {
  const found: Difference[] = [];
  for (const key of new Set([...committed.objects.keys(), ...fixtures.objects.keys()])) {
    const [left, right] = [committed.objects.get(key), fixtures.objects.get(key)];
    if (left?.text === right?.text) continue;
    const some = (right ?? left) as DumpedObject;
    const [old, now] =
      left && right ? firstDifference(left.text, right.text) : [left?.text, right?.text];
    found.push({
      object: described(some),
      place: placeOf(some),
      committed: old?.split('\n')[0],
      fixtures: now?.split('\n')[0],
    });
  }
  for (const table of new Set([...committed.rows.keys(), ...fixtures.rows.keys()])) {
    const [left, right] = [committed.rows.get(table) ?? [], fixtures.rows.get(table) ?? []];
    const old = left.find((row) => !right.includes(row));
    const now = right.find((row) => !left.includes(row));
    if (old === undefined && now === undefined && left.length === right.length) continue;
    const place = find(new RegExp(`(insert into|update) ${table.replace('.', '\\.')}\\b`));
    found.push({ object: `a row of ${table}`, place, committed: old, fixtures: now });
  }
  // A partition repeats what its parent says.
  const isPartition = ({ object }: Difference): boolean => / app_partitions\./.test(object);
  const kind = ({ object }: Difference): string | undefined => object.split(' ')[0];
  const said = new Set(found.filter((each) => !isPartition(each)).map(kind));
  return found.filter((each) => !isPartition(each) || !said.has(kind(each)));
}

/** What a comparison looks at, of one database. */
export async function sideOf(bin: string, superuserUrl: string): Promise<Side> {
  return { objects: await dumpObjects(bin, superuserUrl), rows: await dumpRows(superuserUrl) };
}
