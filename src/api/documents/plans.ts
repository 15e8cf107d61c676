import type { GraphQLSchema } from 'postgraphile/graphql';

/** Plans of one operation for different variables, such as those of @skip. */
const plansOfOperation = 4;

/**
 * Grafast keeps the plans of the last 500 operations, however large they are. Here they are kept
 * for as long as the document is, whose cache knows what it holds: its memory is the limit of both.
 */
export function boundPlans(schema: GraphQLSchema): void {
  const extensions = schema.extensions as { grafast?: object };
  const byOperation = new WeakMap<object, unknown>();
  extensions.grafast = new Proxy(
    Object.assign(extensions.grafast ?? {}, {
      operationOperationPlansCacheMaxLength: plansOfOperation,
    }),
    {
      get: (target, key) =>
        // Grafast's own symbol, which it does not export.
        typeof key === 'symbol' && key.description === 'cacheByOperation'
          ? byOperation
          : Reflect.get(target, key),
    },
  );
}
