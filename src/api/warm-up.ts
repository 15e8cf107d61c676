import { execute } from 'postgraphile/grafast';
import { type GraphQLSchema, getNamedType, parse, validate } from 'postgraphile/graphql';

/** So many pages run all of the planner's code that matters, however large the schema is. */
const mostPages = 25;

/** A page of connections of the schema, as frontends ask for it; undefined where it has none. */
function typicalDocument(schema: GraphQLSchema): string | undefined {
  const fields = Object.values(schema.getQueryType()?.getFields() ?? {});
  const pages = fields.filter(
    ({ type, args }) =>
      getNamedType(type).name.endsWith('Connection') &&
      args.every(({ type: argument }) => !String(argument).endsWith('!')),
  );
  const page = 'nodes { __typename } pageInfo { hasNextPage endCursor } totalCount';
  if (pages.length === 0) return undefined;
  const asked = pages.slice(0, mostPages).map(({ name }) => `${name}(first: 1) { ${page} }`);
  return `{ ${asked.join(' ')} }`;
}

/**
 * Plans a document before the first request does: until then none of the planner's code was ever
 * run, and it takes twice as long. Nothing is asked of the database: the steps of the plan fail for
 * want of a connection, which nobody sees.
 */
export async function warmUp(schema: GraphQLSchema): Promise<void> {
  const text = typicalDocument(schema);
  if (text === undefined) return;
  const document = parse(text);
  if (validate(schema, document).length > 0) return;
  await execute({ schema, document, contextValue: {} });
}
