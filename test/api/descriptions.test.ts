import {
  buildSchema,
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
  isSpecifiedDirective,
  isSpecifiedScalarType,
} from 'graphql';
import { beforeAll, expect, test } from 'vitest';
import { dumpGraphql } from '../../src/api/print-schema.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
let schema: GraphQLSchema;

beforeAll(async () => {
  schema = buildSchema(await dumpGraphql(db.database));
});

interface Described {
  path: string;
  description: string | null | undefined;
}

/** Everything of the schema that GraphiQL documents. */
function* everything(): Generator<Described> {
  for (const type of Object.values(schema.getTypeMap())) {
    if (isIntrospectionType(type) || isSpecifiedScalarType(type)) continue;
    yield { path: type.name, description: type.description };
    if (isObjectType(type) || isInterfaceType(type)) {
      for (const field of Object.values(type.getFields())) {
        const path = `${type.name}.${field.name}`;
        yield { path, description: field.description };
        for (const { name, description } of field.args) {
          yield { path: `${path}(${name})`, description };
        }
      }
    } else if (isInputObjectType(type)) {
      for (const { name, description } of Object.values(type.getFields())) {
        yield { path: `${type.name}.${name}`, description };
      }
    } else if (isEnumType(type)) {
      for (const { name, description } of type.getValues()) {
        yield { path: `${type.name}.${name}`, description };
      }
    }
  }
  for (const directive of schema.getDirectives()) {
    if (isSpecifiedDirective(directive)) continue;
    yield { path: `@${directive.name}`, description: directive.description };
  }
}

test('everything in the API has a description', () => {
  const all = [...everything()];
  expect(all.length).toBeGreaterThan(2000);
  expect(all.filter(({ description }) => !description?.trim()).map(({ path }) => path)).toEqual([]);
});

test('descriptions that are made are short, and are sentences', () => {
  const made = [...everything()].filter(({ path }) =>
    /^[A-Za-z]+(OrderBy|GroupBy|Aggregates)\b/.test(path),
  );
  for (const { path, description } of made) {
    expect(description?.length, path).toBeLessThan(120);
    expect(description, path).toMatch(/^[A-Z]/);
  }
  const byPath = new Map(made.map(({ path, description }) => [path, description]));
  expect(byPath.get('TaskOrderBy.DUE_DATE_DESC')).toBe('By `dueDate`, descending.');
  expect(byPath.get('TaskGroupBy.STATUS')).toBe('A group for each `status`.');
});

test('an argument has the description of the column that it is compared with', () => {
  const [column, argument] = ['Task.rowId', 'Query.task(rowId)'].map(
    (path) => [...everything()].find((entry) => entry.path === path)?.description,
  );
  expect(argument).toBe(column);
});
