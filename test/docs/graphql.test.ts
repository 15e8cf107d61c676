import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { buildSchema, isEnumType, isObjectType, parse, validate } from 'postgraphile/graphql';
import { describe, expect, test } from 'vitest';
import { limits } from '../../src/api/limits.ts';
import { variables } from '../../src/config.ts';
import { projectRoot } from '../../src/project.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, readPage, readTable } from '../helpers/reference.ts';

const db = useDatabase();
const api = useApi(db);
const schema = buildSchema(readFileSync(join(projectRoot, 'docs', 'schema.graphql'), 'utf8'));
const inCode = (names: readonly string[]): string => names.map(code).join(', ');

/** The documents of a page: its blocks of GraphQL, and the query of its script. */
const documentsOf = (page: string): { page: string; text: string }[] =>
  [...readPage(page).matchAll(/```graphql\n([^`]*)```|const query = '([^']+)'/g)].map(
    ([, block, query]) => ({ page, text: block ?? query ?? '' }),
  );

describe('documents', () => {
  const documents = ['graphql', 'live'].flatMap(documentsOf);

  test('there are some', () => {
    expect(documents.length).toBeGreaterThan(8);
  });

  test.each(documents)('of the page are valid: $text', ({ text }) => {
    expect(validate(schema, parse(text))).toEqual([]);
  });

  test('that need no variables are answered without errors', async () => {
    const { accessToken } = await api.register('reader@example.com');
    for (const { page, text } of documents) {
      if (/^((query|mutation) \(|subscription|mutation {\n {2}register)/.test(text)) continue;
      expect((await api.query(text, {}, accessToken)).errors, `${page}: ${text}`).toEqual([]);
    }
  });
});

test('tokens are good for as long as the page says, and have its claims', async () => {
  const { data } = await api.query<{
    register: { result: { accessToken: string; expiresAt: string } };
  }>(`mutation {
    register(input: { email: "tokens@example.com", password: "correct horse", firstName: "T" }) {
      result { accessToken expiresAt }
    }
  }`);
  const { accessToken, expiresAt } = data.register.result;
  const claims = decodeJwt(accessToken);
  const minutes = Math.round(((claims.exp ?? 0) - (claims.iat ?? 0)) / 60);
  const days = Math.round((Date.parse(expiresAt) - Date.now()) / 86_400_000);
  expectTable('graphql', 'Logging in', [
    { token: 'access token', 'good for': `${minutes} minutes` },
    { token: 'refresh token', 'good for': `${days} days` },
  ]);
  expectTable(
    'graphql',
    'Claims of an access token',
    Object.keys(claims).map((claim) => ({ claim: code(claim) })),
  );
  const named = readTable('graphql', 'Claims of an access token').map(({ is }) => is);
  expect(named).toEqual(expect.arrayContaining([code(claims.iss ?? ''), code(`${claims.aud}`)]));
});

test('login refuses after as many wrong passwords, for as long, as the page says', async () => {
  const [row] = await db.as('owner')<{ source: string }[]>`
    select prosrc as source from pg_proc where oid = 'app_public.login(text, text)'::regprocedure`;
  const [, tries] = /failed_attempts >= (\d+)/.exec(row?.source ?? '') ?? [];
  const [, pause] = /is_locked := [^;]*interval '([^']+)'/.exec(row?.source ?? '') ?? [];
  expect(readPage('graphql').replaceAll('\n', ' ')).toContain(
    `After ${tries} wrong passwords, \`login\` refuses for ${pause}.`,
  );
});

test('what answers without a token is on the page', async () => {
  const functions = await db.as('owner')<{ name: string }[]>`
    select proname as name from pg_proc
    where pronamespace = 'app_public'::regnamespace
      and has_function_privilege('app_anonymous', oid, 'execute')
    order by name`;
  const [, said = ''] =
    /Without a token only (.*?) answer/.exec(readPage('graphql').replaceAll('\n', ' ')) ?? [];
  const names = functions.map(({ name }) =>
    code(name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())),
  );
  expect(said.split(/, | and /).sort()).toEqual(names.sort());
});

test('what can be grouped and summed up is on the page', () => {
  const types = schema.getTypeMap();
  const columnsOf = (name: string): string[] => {
    const type = types[name];
    return isObjectType(type) ? Object.keys(type.getFields()) : [];
  };
  const connections = Object.entries(schema.getQueryType()?.getFields() ?? {});
  const rows = Object.values(types)
    .filter(isEnumType)
    .filter(({ name }) => name.endsWith('GroupBy'))
    .map((type) => {
      const row = type.name.replace(/GroupBy$/, '');
      const names = connections.filter(([, field]) => String(field.type) === `${row}Connection`);
      return {
        connection: inCode(names.map(([name]) => name).sort()),
        groups: inCode(type.getValues().map(({ name }) => name)),
        sums: inCode(columnsOf(`${row}SumAggregates`)),
        averages: inCode(columnsOf(`${row}AverageAggregates`)),
      };
    });
  expectTable('graphql', 'Aggregates', rows);
});

test('the limits are those of the page', () => {
  expectTable(
    'graphql',
    'Limits',
    Object.entries(limits).map(([name, value]) => ({
      limit: code(name),
      value: value.toLocaleString('en'),
    })),
  );
  const defaults = variables.parse({});
  expectTable(
    'graphql',
    'Limits by a setting',
    (
      [
        ...['GW_POOL_SIZE', 'GW_MAX_SUBSCRIPTIONS', 'GW_RATE_LIMIT_ANONYMOUS'],
        ...['GW_RATE_LIMIT_SIGN_IN', 'GW_RATE_LIMIT_USER'],
      ] as (keyof typeof defaults)[]
    ).map((setting) => ({
      setting: code(setting),
      default: Number(defaults[setting]).toLocaleString('en'),
    })),
  );
  const page = readPage('graphql').replaceAll('\n', ' ');
  expect(page).toContain(`take 0 to ${limits.pageRows}, and ${limits.pageRows} is the default`);
});
