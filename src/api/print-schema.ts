// First: it corrects what the next ones load.
import './pages/repair.ts';

import { Pool } from 'pg';
import { makeSchema } from 'postgraphile';
import { lexicographicSortSchema, printSchema } from 'postgraphile/graphql';
import type { Database } from '../postgres/urls.ts';
import { makePreset } from './preset.ts';

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
    return `# Made by \`npm run gw -- schema --write\` from the migrations. Do not edit.\n\n${printSchema(lexicographicSortSchema(schema))}\n`;
  } finally {
    await pool.end();
  }
}
