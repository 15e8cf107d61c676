import { buildSchema } from 'postgraphile/graphql';
import { expect, test } from 'vitest';
import { warmUp } from '../../src/api/warm-up.ts';

test.each([
  ['without a page', 'type Query { one: Int }'],
  [
    'whose pages have nothing that is usual',
    'type Query { ones(first: Int): OnesConnection } type OnesConnection { n: Int }',
  ],
  [
    'whose pages need an argument',
    'type Query { ones(of: Int!): OnesConnection } type OnesConnection { n: Int }',
  ],
])('a schema %s does not keep an API from starting', async (_, text) => {
  await expect(warmUp(buildSchema(text))).resolves.toBeUndefined();
});
