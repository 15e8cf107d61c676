// First: it corrects what the next ones load.
import './pages/repair.ts';

import { Pool } from 'pg';
import { makeSchema } from 'postgraphile';
import {
  type GraphQLSchema,
  isEnumType,
  lexicographicSortSchema,
  printSchema,
} from 'postgraphile/graphql';
import type { Database } from '../postgres/urls.ts';
import { makePreset } from './preset.ts';

/** Sorted, so that it compares well; but the order of an enum's values has a meaning. */
function print(schema: GraphQLSchema): string {
  const sorted = lexicographicSortSchema(schema);
  for (const type of Object.values(sorted.getTypeMap())) {
    const original = schema.getType(type.name);
    if (!isEnumType(type) || !isEnumType(original) || /(OrderBy|GroupBy)$/.test(type.name))
      continue;
    const names = original.getValues().map(({ name }) => name);
    (type.getValues() as unknown as { name: string }[]).sort(
      (one, other) => names.indexOf(one.name) - names.indexOf(other.name),
    );
  }
  return printSchema(sorted);
}

/** The GraphQL schema in SDL, as the API serves it. */
export async function dumpGraphql(database: Database): Promise<string> {
  const pool = new Pool({ connectionString: database.urls.authenticator });
  try {
    const { schema } = await makeSchema(
      makePreset({
        pool,
        jwtSecret: 'not used: nothing is signed here',
        claimsOf: () => undefined,
        maskError: (error) => error,
      }),
    );
    return `# Made by \`npm run gw -- schema --write\` from the migrations. Do not edit.\n\n${print(schema)}\n`;
  } finally {
    await pool.end();
  }
}
