import {
  type GraphQLInputObjectType,
  type GraphQLObjectType,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isObjectType,
} from 'postgraphile/graphql';
import type { GraphqlResponse } from './graphql-client.ts';
import {
  type Context,
  disguised,
  forbiddenMarks,
  isMisunderstood,
  refusals,
  rowsByType,
  sourceFor,
} from './graphql-context.ts';
import {
  argumentSets,
  type Field,
  type Json,
  type JsonObject,
  selection,
} from './graphql-documents.ts';
import type { Who } from './report.ts';

interface Question {
  argument: 'filter' | 'condition';
  type: string;
  value: JsonObject;
}

const isColumn = (type: GraphQLInputObjectType): boolean => 'equalTo' in type.getFields();

/** Equality with each of A's values that nobody else can have, of one type's columns. */
function equalities(context: Context, type: GraphQLInputObjectType): JsonObject[] {
  const name = type.name.replace(/(Filter|Condition)$/, '');
  const rows = [
    ...(context.objects.get(name) ?? []).slice(0, 1),
    rowsByType(context, context.world.a).get(name) ?? {},
  ];
  return Object.values(type.getFields()).flatMap((field) => {
    const inner = getNamedType(field.type);
    const isLeaf = isLeafType(inner);
    if (!isLeaf && !(isInputObjectType(inner) && isColumn(inner))) return [];
    const value = rows.map((row) => row[field.name]).find((found) => found != null);
    if (typeof value !== 'string' || disguised(value, context.disguise) === value) return [];
    return [{ [field.name]: isLeaf ? value : { equalTo: value } }];
  });
}

/** Filters that only A's rows match: by a column, or by a related row. */
function filtersOf(context: Context, type: GraphQLInputObjectType): JsonObject[] {
  const found = equalities(context, type);
  for (const field of Object.values(type.getFields())) {
    const inner = getNamedType(field.type);
    if (!isInputObjectType(inner) || inner === type || isColumn(inner)) continue;
    const { some } = inner.getFields();
    const related = some === undefined ? inner : getNamedType(some.type);
    if (!isInputObjectType(related)) continue;
    for (const [index, value] of equalities(context, related).entries()) {
      if (some === undefined) found.push({ [field.name]: value });
      else {
        const quantifiers = index === 0 ? ['some', 'every', 'none'] : ['some'];
        found.push(...quantifiers.map((name) => ({ [field.name]: { [name]: value } })));
      }
    }
  }
  return found;
}

/** One connection, as it is asked again and again. */
interface Connection {
  field: Field;
  object: string;
  /** What is asked of it, with its aggregates. */
  asked: string;
  /** Arguments that are the same each time. */
  fixed: JsonObject;
}

function connectionOf(context: Context, field: Field): Connection | undefined {
  const type = getNamedType(field.type);
  if (!field.args.some(({ name }) => /^(filter|condition|orderBy)$/.test(name))) return undefined;
  if (!isObjectType(type) || type.getFields().nodes === undefined) return undefined;
  const plain = selection(context.schema, type, 0);
  const count = type.getFields().aggregates === undefined ? '' : 'aggregates { count } ';
  const [, all = {}] = argumentSets(field, sourceFor(context, undefined), false);
  const { condition: _, ...fixed } = all;
  const asked = plain.replace(/^\{ /, `{ ${count}`);
  return { field, object: `Query.${field.name}`, asked, fixed };
}

interface Part {
  name: string;
  /** Arguments, in GraphQL. */
  passed?: string;
  asked?: string;
}

/**
 * Asks a connection several things at once. What differs is in variables: a document that
 * the API has seen is planned already.
 */
async function askParts(
  context: Context,
  { field, fixed, asked }: Connection,
  as: string | null,
  parts: Part[],
  declared: string[] = [],
  given: JsonObject = {},
): Promise<GraphqlResponse> {
  const constant = field.args.filter(({ name }) => fixed[name] !== undefined);
  const variables = [...constant.map(({ name, type }) => `$${name}: ${type}`), ...declared];
  const body = parts.map((part) => {
    const own = part.passed === undefined ? [] : [part.passed];
    const args = [...constant.map(({ name }) => `${name}: $${name}`), ...own].join(', ');
    return `${part.name}: ${field.name}${args && `(${args})`} ${part.asked ?? asked}`;
  });
  const head = variables.length === 0 ? '' : `(${variables.join(', ')})`;
  const document = `query ${head} { ${body.join(' ')} }`;
  return context.client.ask(document, { ...fixed, ...given }, as);
}

/** Records what was answered; false when nothing more can be learnt in this way. */
function judge(
  context: Context,
  { object }: Connection,
  who: Who,
  as: string | null,
  response: GraphqlResponse,
  what: string,
): boolean {
  const { report } = context;
  if (isMisunderstood(response.codes)) {
    report.record(
      object,
      who,
      'infer',
      'cannot prove',
      `${response.errorMessages.join('; ')}: ${what}`,
    );
    return false;
  }
  const found = [...forbiddenMarks(context, as)].find((mark) => response.text.includes(mark));
  if (found !== undefined) report.leak(object, who, 'see', `returns ${found}: ${what}`);
  const isRefused = response.codes.some((code) => refusals.test(code));
  report.record(object, who, 'infer', isRefused ? 'refused' : 'empty');
  // Whoever may not read the table at all is refused whatever the filter.
  return !isRefused;
}

const partOf = (data: Json, name: string): Json =>
  typeof data === 'object' && data !== null && !Array.isArray(data) ? (data[name] ?? null) : null;

/** The same response must come whether a filter names A's row or a row that nobody has. */
async function proveFilters(
  context: Context,
  connection: Connection,
  who: Who,
  as: string | null,
): Promise<void> {
  const { field, object } = connection;
  const questions = field.args.flatMap((argument): Question[] => {
    const type = getNamedType(argument.type);
    const { name } = argument;
    if (!isInputObjectType(type) || (name !== 'filter' && name !== 'condition')) return [];
    const values = name === 'filter' ? filtersOf(context, type) : equalities(context, type);
    return values.map((value) => ({ argument: name, type: type.name, value }));
  });
  const parts = (argument: string): Part[] => [
    { name: 'theirs', passed: `${argument}: $theirs` },
    { name: 'nobodys', passed: `${argument}: $nobodys` },
  ];
  for (const { argument, type, value } of questions) {
    const declared = [`$theirs: ${type}`, `$nobodys: ${type}`];
    const given = { theirs: value, nobodys: disguised(value, context.disguise) };
    const response = await askParts(context, connection, as, parts(argument), declared, given);
    const what = `${argument} ${JSON.stringify(value)}`;
    if (!judge(context, connection, who, as, response, what)) return;
    const [theirs, nobodys] = ['theirs', 'nobodys'].map((name) =>
      JSON.stringify(partOf(response.data, name)),
    );
    if (theirs === nobodys) continue;
    const detail = `${what}: A's: ${theirs}; nobody's: ${nobodys}`;
    context.report.leak(object, who, 'infer', detail, [argument]);
  }
}

/** Every order must give the same rows, and none of A's. */
async function proveOrders(
  context: Context,
  connection: Connection,
  who: Who,
  as: string | null,
): Promise<void> {
  const argument = connection.field.args.find(({ name }) => name === 'orderBy');
  const type = argument && getNamedType(argument.type);
  if (!isEnumType(type)) return;
  for (const { name } of type.getValues()) {
    const declared = [`$order: [${type.name}!]`];
    const parts = [{ name: 'ordered', passed: 'orderBy: $order' }];
    const response = await askParts(context, connection, as, parts, declared, { order: [name] });
    if (!judge(context, connection, who, as, response, `order ${name}`)) return;
  }
}

/** What is counted must be what is seen, ungrouped and in every grouping. */
async function proveAggregates(
  context: Context,
  connection: Connection,
  who: Who,
  as: string | null,
): Promise<void> {
  const fields = (getNamedType(connection.field.type) as GraphQLObjectType).getFields();
  const { aggregates, groupedAggregates } = fields;
  const groups = groupedAggregates?.args.map(({ type }) => getNamedType(type)).find(isEnumType);
  if (aggregates === undefined) return;
  const all = selection(context.schema, getNamedType(aggregates.type));
  const parts = [
    { name: 'all', asked: `{ nodes { __typename } aggregates ${all} }` },
    ...(groups?.getValues() ?? []).map(({ name }) => ({
      name,
      asked: `{ groupedAggregates(groupBy: [${name}]) ${all} }`,
    })),
  ];
  const response = await askParts(context, connection, as, parts);
  if (!judge(context, connection, who, as, response, 'aggregates')) return;
  const nodes = partOf(partOf(response.data, 'all'), 'nodes');
  const seen = Array.isArray(nodes) ? nodes.length : 0;
  // A page has no more; what is beyond cannot be compared.
  if (seen >= 100) return;
  for (const { name } of parts) {
    const part = partOf(response.data, name);
    const found = partOf(part, name === 'all' ? 'aggregates' : 'groupedAggregates');
    const counted = (Array.isArray(found) ? found : [found])
      .map((group) => Number(partOf(group, 'count')))
      .reduce((sum, count) => sum + count, 0);
    if (counted === seen) continue;
    const detail = `aggregates (${name}) count ${counted} rows, and ${seen} are seen`;
    context.report.leak(connection.object, who, 'infer', detail, ['aggregates']);
  }
}

/** Looks at A's rows through the filters, orders and aggregates of a connection. */
export async function proveConnection(
  context: Context,
  field: Field,
  who: Exclude<Who, 'A'>,
  as: string | null,
): Promise<void> {
  const connection = connectionOf(context, field);
  if (connection === undefined) return;
  await proveFilters(context, connection, who, as);
  await proveOrders(context, connection, who, as);
  await proveAggregates(context, connection, who, as);
}
