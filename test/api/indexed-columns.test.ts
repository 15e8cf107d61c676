import {
  buildSchema,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isObjectType,
} from 'graphql';
import { beforeAll, expect, test } from 'vitest';
import { dumpGraphql } from '../../src/api/print-schema.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
let schema: GraphQLSchema;
/** Columns that an index serves, by the name of the API's list of the table's rows. */
const indexed = new Map<string, string[]>();

const camel = (name: string): string =>
  name.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

beforeAll(async () => {
  schema = buildSchema(await dumpGraphql(db.database));
  const rows = await db.as('superuser')<{ name: string; columns: string[] }[]>`
    select coalesce(substring(obj_description(pg_class.oid, 'pg_class') from '@name ([a-z_]+)'),
        relname::text) as name,
      case relkind
        when 'v' then string_to_array(
          substring(obj_description(pg_class.oid, 'pg_class') from '@primaryKey ([a-z_,]+)'), ',')
        else array(
          select distinct attname::text from pg_index
          inner join pg_attribute on attrelid = indrelid and attnum = any(indkey)
          where indrelid = pg_class.oid
          -- Or a comment says that few rows are left when it is looked at.
          union
          select attname::text from pg_attribute
          where attrelid = pg_class.oid and attnum > 0
            and col_description(attrelid, attnum) like '@isIndexed%')
      end as columns
    from pg_class
    where relnamespace = 'app_public'::regnamespace and relkind in ('r', 'p', 'v')`;
  for (const { name, columns } of rows) {
    // The API calls a column "id" rowId: id is the node id of an object.
    // The API has lists of all tables in the plural.
    const list = camel(name).replace(/y$/, 'ies');
    indexed.set(list, ['primaryKey', 'natural', ...(columns ?? []).map(toField)]);
  }
});

const toField = (column: string): string => (column === 'id' ? 'rowId' : camel(column));

/** Every connection of rows of a table: in Query and, by relations, in every other type. */
function* connections(): Generator<{ path: string; table: string; args: [string, string[]][] }> {
  const query = schema.getQueryType() as GraphQLObjectType;
  const tables = new Map(
    Object.values(query.getFields())
      .filter(({ type }) => rowType(type) !== '')
      .filter(({ args }) => args.some(({ name }) => name === 'orderBy'))
      .map(({ name, type }) => [rowType(type), name]),
  );
  for (const type of Object.values(schema.getTypeMap()).filter(isObjectType)) {
    for (const { name, type: answer, args } of Object.values(type.getFields())) {
      const table = tables.get(rowType(answer));
      if (table === undefined || !args.some((argument) => argument.name === 'orderBy')) continue;
      yield {
        path: `${type.name}.${name}`,
        table,
        args: args.map((argument) => [
          argument.name,
          columnsOf(getNamedType(argument.type).name, argument.name),
        ]),
      };
    }
  }
}

function rowType(type: GraphQLOutputType): string {
  const named = getNamedType(type);
  if (!isObjectType(named)) return '';
  const { nodes } = named.getFields();
  return nodes === undefined ? '' : getNamedType(nodes.type).name;
}

/** The columns that an orderBy, filter or condition has, under their field names. */
function columnsOf(typeName: string, argument: string): string[] {
  const type = schema.getType(typeName);
  if (argument === 'orderBy' && isEnumType(type)) {
    return type.getValues().map(({ name }) => camel(name.replace(/_(ASC|DESC)$/, '')));
  }
  if (!isInputObjectType(type)) return [];
  return Object.values(type.getFields()).flatMap(({ name, type: inner }) => {
    const value = getNamedType(inner);
    if (argument === 'condition') return [name];
    // Relations, and, or, not hold filters of tables; a column's has equalTo.
    return isInputObjectType(value) && 'equalTo' in value.getFields() ? [name] : [];
  });
}

test('filters, conditions and orders are on columns that an index serves, on every table', () => {
  const all = [...connections()];
  expect(all.length).toBeGreaterThan(40);
  for (const { path, table, args } of all) {
    for (const [argument, columns] of args) {
      for (const column of columns) {
        expect(indexed.get(table), `${path}(${argument}: ${column})`).toContain(column);
      }
    }
  }
});

test('and every table of the API can be filtered and ordered', () => {
  const found = [...connections()].filter(({ path }) => path.startsWith('Query.'));
  for (const table of ['tasks', 'messageLogs', 'userActivities', 'weeklySummaries']) {
    const args = found.find(({ path }) => path === `Query.${table}`)?.args ?? [];
    for (const wanted of ['filter', 'orderBy']) {
      const columns = args.find(([name]) => name === wanted)?.[1] ?? [];
      expect(columns.length, `${table} ${wanted}`).toBeGreaterThan(0);
    }
  }
});
