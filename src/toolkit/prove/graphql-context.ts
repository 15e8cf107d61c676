import type { GraphQLSchema } from 'postgraphile/graphql';
import type { Sql } from '../../postgres/connect.ts';
import { changedSince } from './attempt.ts';
import type { Disguise } from './disguise.ts';
import type { GraphqlClient } from './graphql-client.ts';
import type { Json, JsonObject, Source } from './graphql-documents.ts';
import type { Report, Who } from './report.ts';
import type { Person } from './rows.ts';
import type { World } from './world.ts';

/** Everything that the calls of the API have in common. */
export interface Context {
  world: World;
  client: GraphqlClient;
  schema: GraphQLSchema;
  report: Report;
  sql: Sql;
  disguise: Disguise;
  /** What A sees of its own through the API, by type. */
  objects: Map<string, JsonObject[]>;
  /** The same of B. */
  objectsOfB: Map<string, JsonObject[]>;
  /** Where the server's log was when A's rows were last compared. */
  position: string;
  /** How many sources of values there were. */
  sources: number;
}

const camel = (name: string): string =>
  name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** A user's rows as the API would name their columns, by what it would call their type. */
export function rowsByType({ world }: Context, person: Person): Map<string, JsonObject> {
  return new Map(
    [...world.maker.rowsOf(person)].map(([table, row]) => {
      const name = camel(`_${table.replace(/^.*\./, '').replaceAll('"', '')}`);
      const values = Object.entries(row).map(([column, value]) => [
        column === 'id' ? 'rowId' : camel(column),
        value,
      ]);
      return [name.replace(/ies$/, 'y').replace(/s$/, ''), Object.fromEntries(values)] as const;
    }),
  );
}

/** A user's values by name: of the object itself, else of any it has, else of its rows. */
export function sourceFor(
  context: Context,
  object: JsonObject | undefined,
  person: Person = context.world.a,
  disguise: Disguise = context.disguise,
): Source {
  context.sources += 1;
  const daysBack = context.sources;
  const objects = person === context.world.a ? context.objects : context.objectsOfB;
  const all = [
    ...(object === undefined ? [] : [object]),
    ...[...objects.values()].flat(),
    ...rowsByType(context, person).values(),
  ];
  return {
    values: (name) =>
      name === 'userId' && object === undefined
        ? person.id
        : all.find((entry) => entry[name] != null)?.[name],
    disguise: (text) => disguise.apply(text),
    otherDay: (day) => {
      const instant = Date.parse(day);
      // Such as infinity.
      if (Number.isNaN(instant)) return day;
      return new Date(instant - daysBack * 86_400_000).toISOString().slice(0, 10);
    },
  };
}

/** The same value, in which A's marks have become what means nothing. */
export function disguised(value: Json, disguise: Disguise): Json {
  if (typeof value === 'string') return disguise.applyToId(value);
  if (Array.isArray(value)) return value.map((element) => disguised(element, disguise));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, disguised(inner, disguise)]),
  );
}

/** What a stranger must not be told: A's marks, and for nobody B's as well. */
export const forbiddenMarks = ({ world }: Context, as: string | null): Set<string> =>
  as === null ? new Set([...world.marks, ...world.marksOfB]) : world.marks;

/** The codes of a refusal, which tells nothing. */
export const refusals = /^(FORBIDDEN|UNAUTHENTICATED|NOT_FOUND)$/;

/** Whether a field was asked in a way that the API does not understand. */
export const isMisunderstood = (codes: string[]): boolean =>
  codes.some((code) =>
    /^(GRAPHQL_VALIDATION_FAILED|QUERY_TOO_COMPLEX|RESPONSE_TOO_LARGE|RATE_LIMITED|BAD_REQUEST|INTERNAL|)$/.test(
      code,
    ),
  );

/** Reports rows of A that have changed since the last call of this. */
export async function watchRows(
  context: Context,
  object: string,
  who: Who,
  what: string,
): Promise<void> {
  const [row] = await context.sql<{ position: string }[]>`
    select pg_current_wal_insert_lsn()::text as position`;
  if (row?.position === context.position) return;
  const changed = await changedSince(context.sql);
  if (changed.length > 0) {
    const detail = `changes rows of A in ${changed.join(', ')}: ${what}`;
    context.report.leak(object, who, 'change', detail, changed);
  }
  const [after] = await context.sql<{ position: string }[]>`
    select pg_current_wal_insert_lsn()::text as position`;
  context.position = after?.position ?? '';
}
