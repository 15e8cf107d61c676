import { type PgCondition, sqlValueWithCodec, TYPES } from 'postgraphile/@dataplan/pg';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { GraphQLString } from 'postgraphile/graphql';
import { sql } from 'postgraphile/pg-sql2';

/**
 * A table with a column of type tsvector can be filtered by text, alone or with all else that
 * a filter has, in lists of related rows too. The function app_hidden.matching_<table> finds the
 * ids of the caller's rows by an index: under row-level security none can serve the operator @@.
 */
export const SearchFilterPlugin: GraphileConfig.Plugin = {
  name: 'SearchFilterPlugin',
  version: '1.0.0',
  after: ['PgConnectionArgFilterAttributesPlugin'],
  schema: {
    hooks: {
      GraphQLInputObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        const { isPgConnectionFilter, pgCodec: codec } = scope;
        if (isPgConnectionFilter !== true || codec?.attributes === undefined) return fields;
        for (const [attributeName, attribute] of Object.entries(codec.attributes)) {
          if (attribute.codec !== TYPES.tsvector) continue;
          const matching = sql.identifier('app_hidden', `matching_${codec.extensions?.pg?.name}`);
          const fieldName = build.inflection.attribute({ codec: codec as never, attributeName });
          const field = fieldWithHooks({ fieldName }, () => ({
            description:
              'Matches words, as web searches do: quotes, or, and a minus sign; the last word may be its beginning. Null matches all.',
            type: GraphQLString,
            apply(condition: PgCondition, words: string | null | undefined) {
              if (words == null) return;
              const query = sqlValueWithCodec(words, TYPES.text);
              condition.where(
                // Each in a query of its own, which runs once.
                sql`${condition.alias}.id = any ((select ${matching}((select app_hidden.to_search_query(${query}, ${sql.literal(fieldName)}))))::uuid[])`,
              );
            },
          }));
          build.extend(fields, { [fieldName]: field }, 'SearchFilterPlugin adds a field');
        }
        return fields;
      },
    },
  },
};
