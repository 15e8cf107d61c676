import { type PgCondition, sqlValueWithCodec, TYPES } from 'postgraphile/@dataplan/pg';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { GraphQLString } from 'postgraphile/graphql';
import { type SQL, sql } from 'postgraphile/pg-sql2';

/**
 * A table with a column of type tsvector can be filtered by text, alone or with all else that
 * a filter has, in lists of related rows too. The function app_hidden.matching_<table> finds
 * where the caller's rows lie by an index: under row-level security none can serve the operator
 * @@. A place is good for one partition, the caller's, and for one statement.
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
          const { name: tableName, schemaName } = codec.extensions?.pg ?? {};
          if (tableName === undefined || schemaName === undefined) continue;
          const table = sql.identifier(schemaName, tableName);
          const matching = sql.identifier('app_hidden', `matching_${tableName}`);
          const fieldName = build.inflection.attribute({ codec: codec as never, attributeName });
          const field = fieldWithHooks({ fieldName }, () => ({
            description:
              'Matches words, as web searches do: quotes, or, and a minus sign; the last word may be its beginning. Null matches all.',
            type: GraphQLString,
            apply(condition: PgCondition, words: string | null | undefined) {
              if (words == null) return;
              const query = sqlValueWithCodec(words, TYPES.text);
              // Each in a query of its own, which runs once.
              const places = sql`(select ${matching}((select app_hidden.to_search_query(${query}, ${sql.literal(fieldName)}))))::tid[]`;
              const matches = (row: SQL) =>
                sql`(${row}.user_id = app_hidden.current_app_user_id() and ${row}.ctid = any (${places}))`;
              const { alias } = condition;
              const isTable = sql.getIdentifierSymbol(alias)?.description === tableName;
              const row = sql.identifier(Symbol('row'));
              condition.where(
                isTable
                  ? matches(alias)
                  : // The rows of a function lie nowhere.
                    sql`${alias}.id in (select ${row}.id from ${table} as ${row} where ${matches(row)})`,
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
