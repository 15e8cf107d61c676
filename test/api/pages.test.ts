import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { type GraphQLSchema, isEnumType } from 'graphql';
import { beforeAll, describe, expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { argumentsOf, giveEverything, idOf } from '../helpers/everything.ts';
import { patience } from '../helpers/patience.ts';
import {
  type Ask,
  type Connection,
  clientSchema,
  connectionsOf,
  type Node,
  type Page,
  type Walk,
  walkAll,
} from '../helpers/walks.ts';

const db = useDatabase();
const api = useApi(db);
let token: string;
let userId: string;
let schema: GraphQLSchema;
/** The values of each enum, in order. */
let enums: string[][];

beforeAll(async () => {
  ({ accessToken: token, userId } = await api.register('everything@example.com'));
  await giveEverything(db.as('superuser', 1), userId);
  schema = await clientSchema(api);
  enums = Object.values(schema.getTypeMap())
    .filter((type) => isEnumType(type))
    .map((type) => type.getValues().map(({ name }) => name));
}, patience(60_000));

async function ask<Data>(document: string, variables = {}): Promise<Data> {
  const { data, errors } = await api.query<Data>(document, variables, token);
  expect(errors, document.slice(0, 500)).toEqual([]);
  return data;
}

/** Asks for a connection of the row of its parent that has most of it. */
async function asker({ parent, field }: Connection): Promise<Ask> {
  const askWithin = async (
    path: string[],
    id: string | undefined,
    selections: string,
    cursors: (string | null)[],
  ): Promise<Record<string, Page>> => {
    const variables = Object.fromEntries(cursors.map((cursor, index) => [`c${index}`, cursor]));
    const declared = [
      ...cursors.map((_, index) => `$c${index}: Cursor`),
      ...(id === undefined ? [] : ['$id: ID!']),
    ];
    const document = `query (${declared.join(', ')}) { ${path.join(' { ')} {
      ${selections} ${'}'.repeat(path.length)} }`;
    const data = await ask<Record<string, Record<string, Page>>>(
      path.length === 0 ? `query (${declared.join(', ')}) { ${selections} }` : document,
      { ...variables, ...(id === undefined ? {} : { id }) },
    );
    return (path.length === 0 ? data : (data.viewer ?? data.node)) as Record<string, Page>;
  };
  if (parent === 'Query') return (...given) => askWithin([], undefined, ...given);
  if (parent === 'User') return (...given) => askWithin(['viewer'], undefined, ...given);
  const parents = connectionsOf(schema).find(
    ({ parent: user, row }) => user === 'User' && row === parent,
  );
  type Parents = Record<string, { nodes: { id: string; child: { totalCount: number } }[] }>;
  const { viewer } = await ask<{ viewer: Parents }>(
    `{ viewer { ${parents?.field} { nodes { id child: ${field} { totalCount } } } } }`,
  );
  const [most] = (viewer[parents?.field ?? '']?.nodes ?? []).sort(
    (one, other) => other.child.totalCount - one.child.totalCount,
  );
  return (...given) => askWithin(['node(id: $id)', `... on ${parent}`], most?.id, ...given);
}

const camel = (name: string): string =>
  name.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** What PostgreSQL says the order of values is, and of an enum's the API. */
async function sorted(values: unknown[], direction: string): Promise<unknown[]> {
  const isText = values.every((value) => value === null || typeof value === 'string');
  const list = isText
    ? enums.find((names) => values.every((value) => names.includes(String(value))))
    : undefined;
  if (list !== undefined) {
    const place = (value: unknown) => list.indexOf(String(value));
    return values.toSorted((one, other) =>
      direction.toLowerCase() === 'asc' ? place(one) - place(other) : place(other) - place(one),
    );
  }
  const rows = await db.as('superuser', 1).unsafe(
    `select value from unnest($1::${isText ? 'text' : 'numeric'}[]) as value
      order by value ${direction}`,
    [values as string[]],
  );
  return rows.map(({ value }) => (isText || value === null ? value : Number(value)));
}

/** What is wrong with a walk; nothing when it met each row once, in its order. */
async function faultsOf({ order, nodes, totalCount, error }: Walk): Promise<string[]> {
  if (error !== undefined) return [error];
  const distinct = new Set(nodes.map((node) => JSON.stringify(node))).size;
  const faults =
    distinct === totalCount && nodes.length === totalCount
      ? []
      : [`${nodes.length} rows, ${distinct} of them distinct, of ${totalCount}`];
  const [, column = '', direction = ''] = /^(.+)_(ASC|DESC)$/.exec(order ?? '') ?? [];
  const field = camel(column);
  if (nodes[0]?.[field] === undefined) return faults;
  const values = nodes.map((node) => node[field]);
  if (JSON.stringify(values) !== JSON.stringify(await sorted(values, direction))) {
    faults.push(`not in order: ${values.join(', ')}`);
  }
  return faults;
}

test('every order of every connection, walked both ways, has each row once, in its order', {
  timeout: patience(240_000),
}, async () => {
  const faults: string[] = [];
  const lengths: Record<string, number> = {};
  const connections = connectionsOf(schema);
  for (const connection of connections) {
    const given = argumentsOf(userId)[connection.field];
    const walks = await walkAll(connection, given, await asker(connection));
    for (const walk of walks) {
      lengths[connection.name] = walk.totalCount;
      for (const fault of await faultsOf(walk)) {
        faults.push(
          `${connection.name} ${walk.order ?? 'without order'} ${walk.direction}: ${fault}`,
        );
      }
    }
  }
  expect(faults).toEqual([]);
  // Whoever adds a table gives it rows, too: a walk of one page shows nothing.
  const short = Object.entries(lengths).filter(([, length]) => length < 4);
  expect(Object.fromEntries(short)).toEqual({
    'Query.myActivitySummaries': 1,
    'Query.userSettings': 1,
    'Query.userSubscriptions': 1,
    'Query.users': 1,
  });
});

describe('rows that come and go between pages', () => {
  const walkTasks = async (change: (page: number, nodes: Node[]) => Promise<void>) => {
    const seen: string[] = [];
    let after: string | null = null;
    for (let page = 0; ; page += 1) {
      const { tasks }: { tasks: Page } = await ask(
        `query ($after: Cursor) { tasks(first: 3, after: $after, orderBy: DUE_DATE_ASC) {
          nodes { rowId } pageInfo { endCursor startCursor hasNextPage hasPreviousPage } totalCount } }`,
        { after },
      );
      seen.push(...tasks.nodes.map(({ rowId }) => String(rowId)));
      if (!tasks.pageInfo.hasNextPage) return seen;
      after = tasks.pageInfo.endCursor;
      await change(page, tasks.nodes);
    }
  };

  test('a walk goes on behind a row that was deleted, with and without a value', async () => {
    const { userId: other, accessToken } = await api.register('comes-and-goes@example.com');
    const mine = token;
    token = accessToken;
    try {
      await giveEverything(db.as('superuser', 1), other);
      const seen = await walkTasks(async (_, nodes) => {
        const last = String(nodes.at(-1)?.rowId);
        await db.as('owner')`
          delete from app_public.tasks where user_id = ${other} and id = ${last}`;
      });
      const all = Array.from({ length: 8 }, (_, index) => idOf(other, 'task', index + 1));
      expect([...seen].sort()).toEqual(all.sort());
    } finally {
      token = mine;
    }
  });
});

test('a connection that is asked for no order comes in that of its table', async () => {
  const { chatMessages, snapshots } = await ask<Record<string, { nodes: Node[] }>>(
    '{ chatMessages { nodes { content createdAt } } snapshots { nodes { takenAt } } }',
  );
  const times = chatMessages?.nodes.map(({ createdAt }) => createdAt) ?? [];
  expect(times).toHaveLength(8);
  expect(times).toEqual(await sorted(times, 'asc'));
  const taken = snapshots?.nodes.map(({ takenAt }) => takenAt) ?? [];
  expect(taken).toEqual(await sorted(taken, 'desc'));
});

test('a cursor of another order is refused', async () => {
  const { tasks } = await ask<{ tasks: Page }>(
    '{ tasks(first: 2, orderBy: DUE_DATE_ASC) { pageInfo { endCursor } } }',
  );
  const document =
    'query ($after: Cursor) { tasks(after: $after, orderBy: PRIORITY_ASC) { totalCount nodes { rowId } } }';
  for (const after of [tasks.pageInfo.endCursor, 'nonsense', 'WyJhIl0=']) {
    expect(await api.codes(document, { after }, token), String(after)).toEqual([
      'VALIDATION_FAILED',
    ]);
  }
});

test('@dataplan/pg still has the faults that src/api/pages/repair.ts corrects', () => {
  // When this fails, a release has mended them: take the repair away.
  const require = createRequire(import.meta.url);
  const steps = join(dirname(require.resolve('@dataplan/pg')), 'steps');
  const text = (file: string): string => readFileSync(join(steps, file), 'utf8');
  expect(text('pgSelect.js')).toMatch(/\(nullsFirst && beforeOrAfter === "after"\) \|\|/);
  expect(text('pgCursor.js')).toContain('cursorTuple.push(codec.fromPg(orderVal))');
});
