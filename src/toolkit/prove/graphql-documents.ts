import { randomUUID } from 'node:crypto';
import {
  type GraphQLField,
  type GraphQLInputType,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
} from 'postgraphile/graphql';

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };
export type Field = GraphQLField<unknown, unknown>;

const needsNothing = (field: Field): boolean => !field.args.some(isRequiredArgument);

/** Rows of a page that has pages within it, and of those: an API limits all of them together. */
const outerRows = 25;
const innerRows = 10;

/** What to ask of a type: its own values, and those of what it is related to. */
export function selection(schema: GraphQLSchema, type: GraphQLNamedType, depth = 1): string {
  if (isLeafType(type)) return '';
  if (isInterfaceType(type)) {
    const parts = schema.getPossibleTypes(type).map((possible) => {
      const leaves = Object.values(possible.getFields()).filter(
        (field) => needsNothing(field) && isLeafType(getNamedType(field.type)),
      );
      const asked = leaves.map(({ name }) => `${possible.name}_${name}: ${name}`);
      return `... on ${possible.name} { ${asked.join(' ')} }`;
    });
    return `{ __typename ${parts.join(' ')} }`;
  }
  if (!isObjectType(type)) return '{ __typename }';
  const fields = type.getFields();
  const nodes = fields.nodes;
  if (nodes !== undefined) {
    const count = fields.totalCount === undefined ? '' : 'totalCount';
    return `{ ${count} nodes ${selection(schema, getNamedType(nodes.type), depth)} }`;
  }
  const asked = Object.values(fields).flatMap((field) => {
    const inner = getNamedType(field.type);
    if (!needsNothing(field) || inner === schema.getQueryType()) return [];
    if (isLeafType(inner)) return [field.name];
    if (depth === 0) return [];
    const page = field.args.some(({ name }) => name === 'first') ? `(first: ${innerRows})` : '';
    return [`${field.name}${page} ${selection(schema, inner, depth - 1)}`];
  });
  return `{ __typename ${asked.join(' ')} }`;
}

/** The type of the rows that a field returns or changes, below connection and payload. */
export function rowType(schema: GraphQLSchema, field: Field): string {
  const type = getNamedType(field.type);
  if (!isObjectType(type)) return type.name;
  const fields = type.getFields();
  if (fields.nodes !== undefined) return getNamedType(fields.nodes.type).name;
  if (!type.name.endsWith('Payload')) return type.name;
  const inside = Object.values(fields).find(({ type: inner }) => {
    const named = getNamedType(inner);
    return isObjectType(named) && named !== schema.getQueryType();
  });
  return inside === undefined ? type.name : getNamedType(inside.type).name;
}

/** Where the arguments' values come from: A's objects, by type and by name. */
export interface Source {
  /** A's values for a name, of the object that the field is about if it has one. */
  values: (name: string) => Json | undefined;
  /** Makes words of A's into others, where a copy of A's text would be mistaken for it. */
  disguise: (text: string) => string;
  /** Makes a day another one, which no other source gives. */
  otherDay: (day: string) => string;
}

const defaults: Record<string, () => Json> = {
  UUID: () => randomUUID(),
  ID: () => Buffer.from('["nothing"]').toString('base64'),
  Int: () => 1,
  Float: () => 1.5,
  BigInt: () => '1',
  BigFloat: () => '1',
  Boolean: () => true,
  Datetime: () => new Date().toISOString(),
  Date: () => new Date().toISOString().slice(0, 10),
  Time: () => '09:00',
  JSON: () => ({}),
};

const ignored = /^(clientMutationId|first|last|offset|after|before|orderBy|filter)$/;

function fits(value: Json, typeName: string): Json | undefined {
  if (typeName === 'Int' || typeName === 'Float') {
    return value !== null && Number.isFinite(Number(value)) ? Number(value) : undefined;
  }
  if (typeName === 'Boolean') return value === true || value === 'true';
  if (typeName === 'JSON') return value;
  return typeof value === 'object' ? undefined : String(value);
}

/** A value for an argument or an input field; undefined leaves it out. */
export function inputValue(
  type: GraphQLInputType,
  name: string,
  source: Source,
  isCopy = false,
): Json | undefined {
  if (isNonNullType(type)) {
    return inputValue(type.ofType, name, source, isCopy) ?? defaults.String?.() ?? 'x';
  }
  if (isListType(type)) {
    const found = source.values(name);
    if (Array.isArray(found)) return found;
    const value = inputValue(type.ofType, name, source, isCopy);
    return value === undefined ? undefined : [value];
  }
  if (isInputObjectType(type)) {
    const values = Object.values(type.getFields()).flatMap((field) => {
      const copies = isCopy || field.name !== 'patch';
      const isNew = copies && isInputObjectType(getNamedType(field.type));
      // The key of a copy is its own.
      if (isCopy && /^(rowId|id)$/.test(field.name) && !isNonNullType(field.type)) return [];
      const value = ignored.test(field.name)
        ? undefined
        : inputValue(field.type, field.name, source, isNew || isCopy);
      return value === undefined ? [] : [[field.name, value] as const];
    });
    return Object.fromEntries(values);
  }
  if (isEnumType(type)) {
    const found = source.values(name);
    const names = type.getValues().map((value) => value.name);
    return typeof found === 'string' && names.includes(found) ? found : names[0];
  }
  const found = source.values(name);
  const value = found == null ? undefined : fits(found, type.name);
  if (isCopy && type.name === 'Date') {
    return source.otherDay(String(value ?? new Date().toISOString().slice(0, 10)));
  }
  if (value !== undefined) {
    return isCopy && typeof value === 'string' && type.name !== 'UUID'
      ? source.disguise(value)
      : value;
  }
  return (defaults[type.name] ?? (() => `x${randomUUID().slice(0, 8)}`))();
}

/** A document that calls one field with variables for the arguments that are given. */
export function documentFor(
  schema: GraphQLSchema,
  kind: 'query' | 'mutation' | 'subscription',
  field: Field,
  given: JsonObject,
  depth = 1,
): string {
  const used = field.args.filter(({ name }) => given[name] !== undefined);
  const declared = used.map(({ name, type }) => `$${name}: ${type}`).join(', ');
  const passed = used.map(({ name }) => `${name}: $${name}`).join(', ');
  const type = getNamedType(field.type);
  const call = `${field.name}${passed && `(${passed})`}`;
  const isPage = depth > 0 && field.args.some(({ name }) => name === 'first');
  // All rows by themselves, and some with what they are related to.
  const asked = isPage
    ? `${call} ${selection(schema, type, 0)} related: ${field.name}(${[
        passed,
        `first: ${outerRows}`,
      ]
        .filter(Boolean)
        .join(', ')}) ${selection(schema, type, depth)}`
    : `${call} ${selection(schema, type, depth)}`;
  return `${kind} ${declared && `(${declared})`} { ${asked} }`;
}

/** The arguments of a field: only those that it needs, and all that can say something. */
export function argumentSets(field: Field, source: Source, isMutation: boolean): JsonObject[] {
  const fill = (all: boolean): JsonObject =>
    Object.fromEntries(
      field.args.flatMap((argument) => {
        if (!all && !isRequiredArgument(argument)) return [];
        if (ignored.test(argument.name)) return [];
        const value = inputValue(argument.type, argument.name, source);
        return value === undefined ? [] : [[argument.name, value] as const];
      }),
    );
  const [needed, all] = [fill(false), fill(true)];
  return isMutation || JSON.stringify(needed) === JSON.stringify(all) ? [all] : [needed, all];
}
