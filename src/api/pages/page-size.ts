import { type FieldArgs, lambda, type Step } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { refusals } from '../errors.ts';
import { limits } from '../limits.ts';

interface Pageable extends Step {
  setFirst(first: Step): unknown;
}

function canPageBackwards({ args }: { args?: object | (() => object) }): boolean {
  return 'last' in ((typeof args === 'function' ? args() : args) ?? {});
}

function firstOf([first, last]: readonly [unknown, unknown]): number | null {
  for (const asked of [first, last]) {
    if (asked != null && (Number(asked) < 0 || Number(asked) > limits.pageRows)) {
      throw new Error(refusals.pageSize);
    }
  }
  if (first != null) return Number(first);
  // "last" alone already limits the page.
  return last == null ? limits.pageRows : null;
}

/** Every connection returns at most 100 rows, and says so in its description. */
export const PageSizePlugin: GraphileConfig.Plugin = {
  name: 'PageSizePlugin',
  version: '1.0.0',
  schema: {
    hooks: {
      GraphQLObjectType_fields_field_args: {
        after: ['PgFirstLastBeforeAfterArgsPlugin'],
        callback(args, _build, { scope }) {
          const { first } = args;
          if (scope.isPgFieldConnection !== true || first === undefined) return args;
          // applyPlan would set it before the limit is known; the field's plan does it.
          first.applyPlan = () => {};
          first.description = `Only read the first n values, at most ${limits.pageRows}, which is the default.`;
          return args;
        },
      },
      GraphQLObjectType_fields_field(field, _build, { scope }) {
        const { plan } = field;
        if (scope.isPgFieldConnection !== true || plan === undefined) return field;
        field.plan = (parent: Step, args: FieldArgs, info) => {
          const connection = plan(parent, args, info) as Pageable;
          if (typeof connection?.setFirst === 'function') {
            // A function's connection has no "last".
            const names = canPageBackwards(field) ? ['first', 'last'] : ['first'];
            const asked = names.map((name) => args.getRaw(name));
            connection.setFirst(lambda(asked as [Step, Step], firstOf as never, true));
          }
          return connection;
        };
        return field;
      },
    },
  },
};
