import fc from 'fast-check';
import { type DocumentNode, Kind, parse, type SelectionSetNode } from 'graphql';
import { beforeAll, describe, expect, test } from 'vitest';
import { expand } from '../../src/api/documents/selections.ts';
import { nestingOf, passedLimit } from '../../src/api/documents/sizes.ts';
import { limits } from '../../src/api/limits.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);
let token: string;

beforeAll(async () => {
  token = (await api.register('documents@example.com')).accessToken;
});

/** Fragments that each spread the next twice. */
const doubling = (levels: number, type = 'Query', leaf = '__typename'): string =>
  `{ ...f0 } ${Array.from({ length: levels }, (_, level) =>
    level === levels - 1
      ? `fragment f${level} on ${type} { ${leaf} }`
      : `fragment f${level} on ${type} { ...f${level + 1} ...f${level + 1} }`,
  ).join(' ')}`;

const codes = (document: string, variables = {}) => api.codes(document, variables, token);

describe('what would cost much is refused before it does', () => {
  test.each([
    ['fragments that double', doubling(26)],
    ['fragments that double, of rows', doubling(26, 'Query', 'tasks { nodes { rowId } }')],
    ['aliases', `{ ${Array.from({ length: 2_000 }, (_, n) => `a${n}: __typename`).join(' ')} }`],
    ['one field, again and again', `{ ${'__typename '.repeat(4_000)} }`],
    [
      'one field, in a fragment that nobody spreads',
      `{ __typename } fragment f on Query { ${'__typename '.repeat(4_000)} }`,
    ],
    [
      'fragments in a long row',
      `{ ...f0 } ${Array.from({ length: 1_000 }, (_, n) => `fragment f${n} on Query { ...f${n + 1} }`).join(' ')}
        fragment f1000 on Query { __typename }`,
    ],
    ['braces', '{'.repeat(60_000)],
    ['braces that are closed', `${'{a'.repeat(10_000)}${'}'.repeat(10_000)}`],
    [
      'brackets of a value',
      `{ tasks(filter: ${'{not:'.repeat(5_000)}{}${'}'.repeat(5_000)}) { totalCount } }`,
    ],
    ['a long document', `{ __typename } # ${'x'.repeat(70_000)}`],
    [
      'pages in pages',
      '{ tasks { nodes { user { tasks { nodes { user { goals { nodes { title } } } } } } } } }',
    ],
    [
      'pages in pages, in fragments',
      `{ tasks { nodes { user { ...u } } } } fragment u on User { tasks { nodes { user { ...v } } } }
        fragment v on User { goals { nodes { title } } }`,
    ],
    [
      'many values a row',
      `{ tasks { nodes { user { tasks { nodes { ${Array.from({ length: 30 }, (_, n) => `t${n}: title`).join(' ')} } } } } } }`,
    ],
    [
      'mutations in a row',
      `mutation { ${Array.from({ length: 11 }, (_, n) => `c${n}: createTask(input: { task: { title: "t" } }) { clientMutationId }`).join(' ')} }`,
    ],
    [
      'guests in a row',
      'mutation { a: continueAsGuest(input: {}) { clientMutationId } b: continueAsGuest(input: {}) { clientMutationId } }',
    ],
    [
      'a login and a registration',
      `mutation { ...m ...n }
        fragment m on Mutation { login(input: { email: "a@b.c", password: "xxxxxxxx" }) { clientMutationId } }
        fragment n on Mutation { continueAsGuest(input: {}) { clientMutationId } }`,
    ],
    [
      'queries in a row',
      `{ ${Array.from({ length: 51 }, (_, n) => `t${n}: tasks(first: 1) { totalCount }`).join(' ')} }`,
    ],
  ])('%s', async (_, document) => {
    expect(await codes(document)).toEqual(['QUERY_TOO_COMPLEX']);
  });

  test.each([
    [
      'fields that have fields',
      `{ ${Array.from({ length: 40 }, (_, n) => `t${n}: tasks(first: 1) { nodes { rowId } edges { node { rowId } } pageInfo { hasNextPage } }`).join(' ')} }`,
    ],
    [
      'rows asked for',
      `{ a: tasks { nodes { list { tasks { nodes { rowId } } } } }
        b: tasks(first: 30) { nodes { list { tasks { nodes { rowId } } } } } }`,
    ],
  ])('and the limit that is passed is told: %s', async (limit, document) => {
    const { errors } = await api.query(document, {}, token);
    expect(errors.map(({ message }) => message)).toEqual([
      expect.stringMatching(new RegExp(`^${limit}: `)),
    ]);
  });

  test('fields deep in a fragment that nobody spreads', async () => {
    const document = `{ __typename } fragment f on Query { tasks { nodes { ${'title '.repeat(4_000)} } } }`;
    expect(await codes(document)).toEqual(['QUERY_TOO_COMPLEX']);
  });

  test('variables that nest deeply, or have very many values', async () => {
    const document = 'query ($filter: TaskFilter) { tasks(filter: $filter) { totalCount } }';
    let filter: object = { title: { equalTo: 'x' } };
    for (let depth = 0; depth < 3_000; depth += 1) filter = { not: filter };
    expect(await codes(document, { filter })).toEqual(['QUERY_TOO_COMPLEX']);
    const many = { or: Array.from({ length: 30_000 }, () => ({})) };
    expect(await codes(document, { filter: many })).toEqual(['QUERY_TOO_COMPLEX']);
  });

  test('a page whose length is a variable counts as long as it is', async () => {
    const document = `query ($n: Int = 2) { tasks(first: $n) { nodes { user { tasks(first: $n) { nodes {
      user { goals(first: $n) { nodes { title } } } } } } } } }`;
    expect(await codes(document)).toEqual([]);
    expect(await codes(document, { n: 10 })).toEqual([]);
    expect(await codes(document, { n: 100 })).toEqual(['QUERY_TOO_COMPLEX']);
    expect(await codes(document, { n: null })).toEqual(['QUERY_TOO_COMPLEX']);
  });

  test('a text to search for that is very long', async () => {
    const task = 'mutation { createTask(input: { task: { title: "t" } }) { clientMutationId } }';
    expect(await codes(task)).toEqual([]);
    const text = 'word '.repeat(180_000);
    const filter = 'query ($text: String) { tasks(filter: { search: $text }) { totalCount } }';
    expect(await codes(filter, { text })).toEqual(['VALIDATION_FAILED']);
    const search = 'query ($text: String!) { searchTasks(query: $text) { totalCount } }';
    expect(await codes(search, { text })).toEqual(['VALIDATION_FAILED']);
    const short = 'word '.repeat(200).trim();
    expect(await codes(filter, { text: short })).toEqual([]);
    expect(await codes(search, { text: short })).toEqual([]);
  });

  test('the refusal says how much it was, and what to do', async () => {
    const { errors } = await api.query(doubling(21), {}, token);
    expect(errors[0]?.message).toBe(
      'fields of a document: 1,048,617, at most 1,500; a fragment counts as often as it is spread',
    );
  });
});

test('what clients send is within the limits', async () => {
  const fields = Array.from({ length: 20 }, (_, n) => `f${n}: title`).join(' ');
  const screens = `
    query { viewer { ...v } tasks { nodes { ...t goals { nodes { title } } } pageInfo { endCursor } } }
    fragment v on User { rowId email projects { nodes { name lists { totalCount } } } }
    fragment t on Task { rowId ${fields} list { name } project { name } }`;
  expect(await codes(screens)).toEqual([]);
});

/** What a document selects, with fragments written out as validation and planning do it. */
function naive(document: DocumentNode): number {
  const ofSet = (set: SelectionSetNode): number =>
    set.selections.reduce((sum, selection) => {
      if (selection.kind === Kind.FRAGMENT_SPREAD) {
        const fragment = document.definitions.find(
          (one) => one.kind === Kind.FRAGMENT_DEFINITION && one.name.value === selection.name.value,
        );
        return (
          sum + (fragment?.kind === Kind.FRAGMENT_DEFINITION ? ofSet(fragment.selectionSet) : 0)
        );
      }
      const own = selection.kind === Kind.FIELD ? 1 : 0;
      return sum + own + (selection.selectionSet === undefined ? 0 : ofSet(selection.selectionSet));
    }, 0);
  const [operation] = document.definitions;
  return operation?.kind === Kind.OPERATION_DEFINITION ? ofSet(operation.selectionSet) : 0;
}

test('a document is never taken for smaller than it is written out', () => {
  const field = fc.constantFrom('a', 'b { c }', '... { d e }', 'g: f { ... on Query { h } }');
  const body = (from: number) =>
    fc.array(
      fc.oneof(
        field,
        fc.integer({ min: from, max: 5 }).map((n) => `...f${n}`),
      ),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
  // A fragment spreads later ones only.
  const fragments = fc.tuple(
    ...[1, 2, 3, 4, 5, 6].map((from) => (from > 5 ? fc.constant(['z']) : body(from))),
  );
  fc.assert(
    fc.property(body(0), fragments, (operation, bodies) => {
      const text = `{ ${operation.join(' ')} } ${bodies
        .map((one, index) => `fragment f${index} on Query { ${one.join(' ')} }`)
        .join(' ')}`;
      const document = parse(text);
      const { selections } = expand(document);
      expect(selections).toBeGreaterThanOrEqual(naive(document));
      const own = bodies.reduce((sum, { length }) => sum + length, 0);
      expect(selections).toBeLessThanOrEqual(naive(document) + own);
    }),
  );
});

test.each([
  ['{ a(b: [{ c: 1 }]) { d } }', 4],
  ['{ a(b: "{{{{ \\" {{{{") }', 2],
  ['# {{{{\n{ a }', 1],
  ['{ a(b: """ {{{ " {{ \\""" {{ """) }', 2],
  ['{ a(b: "{{{{', 2],
  ['{{{', 3],
  ['', 0],
])('the nesting of %j is %i', (text, depth) => {
  expect(nestingOf(text)).toBe(depth);
});

test('the size of a value is that of all in it', () => {
  const value = { a: [1, { b: 'text' }] };
  const limits = { depth: 3, count: 5, length: 4 };
  expect(passedLimit(undefined, { depth: 0, count: 1, length: 0 })).toBe(undefined);
  expect(passedLimit(value, limits)).toBe(undefined);
  expect(passedLimit(value, { ...limits, depth: 2 })).toMatchObject({ limit: 'depth' });
  expect(passedLimit(value, { ...limits, count: 4 })).toMatchObject({ limit: 'count' });
  expect(passedLimit(value, { ...limits, length: 3 })).toMatchObject({ limit: 'length' });
});

test('the limits of a document leave room for each other', () => {
  expect(limits.rows).toBeGreaterThan(limits.pageRows ** 2);
});

test('long documents are read in turns: of too many at once the last are refused', async () => {
  const ask = (query: string): Promise<Response> =>
    fetch(`${api.origin}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify({ query }),
    });
  const text = 'x'.repeat(60_000);
  const responses = await Promise.all(
    // None of them is ever planned, which has turns as well.
    Array.from({ length: 400 }, (_, n) => ask(`{ unknown${n} } # ${text}`)),
  );
  const refused = responses.filter(({ status }) => status !== 400);
  expect(refused.length).toBeGreaterThan(0);
  for (const response of refused) {
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '1']);
    const { errors } = (await response.json()) as { errors: { extensions: { code: string } }[] };
    expect(errors.map(({ extensions }) => extensions.code)).toEqual(['RATE_LIMITED']);
  }
});
