import { execute } from 'postgraphile/grafast';
import { type GraphQLSchema, getNamedType, parse, validate } from 'postgraphile/graphql';

/** A page of each connection of the schema, as frontends ask for it. */
function typicalDocument(schema: GraphQLSchema): string {
  const fields = Object.values(schema.getQueryType()?.getFields() ?? {});
  const pages = fields.filter(
    ({ type, args }) =>
      getNamedType(type).name.endsWith('Connection') &&
      args.every(({ type: argument }) => !String(argument).endsWith('!')),
  );
  const page = 'nodes { __typename } pageInfo { hasNextPage endCursor } totalCount';
  return `{ ${pages.map(({ name }) => `${name}(first: 1) { ${page} }`).join(' ')} }`;
}

/**
 * Plans a document before the first request does: until then none of the planner's code was ever
 * run, and it takes twice as long. Nothing is asked of the database: the steps of the plan fail for
 * want of a connection, which nobody sees.
 */
export async function warmUp(schema: GraphQLSchema): Promise<void> {
  const document = parse(typicalDocument(schema));
  if (validate(schema, document).length > 0) return;
  await execute({ schema, document, contextValue: {} });
}
