import { depthLimit } from '@graphile/depth-limit';
import { type FieldArgs, lambda, SafeError, type Step, sideEffect } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { type DocumentNode, GraphQLError, type GraphQLSchema, Kind } from 'postgraphile/graphql';
import { wrapPlans } from 'postgraphile/utils';
import { refusals } from './errors.ts';
import { limits } from './limits.ts';

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

interface Payload extends Step {
  get(key: string): Step;
}

/** Fails the mutation, after its transaction has committed, when its result is null. */
function refuseNull(payload: Payload, message: string): Payload {
  sideEffect(payload.get('result'), (result) => {
    if (result == null) throw new SafeError(message);
  });
  return payload;
}

/** login() and refreshSession() return null when they refuse; a frontend gets an error. */
export const RefusalPlugin = wrapPlans({
  Mutation: {
    login: (plan) => refuseNull(plan() as never, refusals.login),
    refreshSession: (plan) => refuseNull(plan() as never, refusals.refreshSession),
  },
});

/** An update or delete that finds no row (or may not see it) is an error, not a null. */
export const NotFoundPlugin: GraphileConfig.Plugin = {
  name: 'NotFoundPlugin',
  version: '1.0.0',
  schema: {
    hooks: {
      GraphQLObjectType_fields_field(field, _build, { scope }) {
        const { plan } = field;
        // A delete fails by itself; it has the same message in maskError.
        if (scope.isPgUpdateMutation !== true || plan === undefined) return field;
        field.plan = (...args) => refuseNull(plan(...args) as never, refusals.notFound);
        return field;
      },
    },
  },
};

type ParseResult = { document: DocumentNode; errors?: undefined } | ParseErrors;
interface ParseErrors {
  errors: readonly GraphQLError[];
  document?: undefined;
}

/** An operation of a kind that the schema has not, which graphql-js notices only later. */
function withoutRoot(schema: GraphQLSchema, result: ParseResult): ParseResult {
  const unknown = result.document?.definitions.find(
    (node) => node.kind === Kind.OPERATION_DEFINITION && schema.getRootType(node.operation) == null,
  );
  if (unknown === undefined || unknown.kind !== Kind.OPERATION_DEFINITION) return result;
  return {
    errors: [new GraphQLError(`the schema has no ${unknown.operation}s`, { nodes: unknown })],
  };
}

/** Gives the errors of a JSON response the code that they lack. */
function addCode(response: Buffer, code: string): Buffer {
  let body: { errors?: { extensions?: { code?: string } }[] };
  try {
    body = JSON.parse(response.toString());
  } catch {
    return response;
  }
  if (!Array.isArray(body.errors)) return response;
  for (const error of body.errors) error.extensions = { code, ...error.extensions };
  return Buffer.from(JSON.stringify(body));
}

/** Deeply nested documents are refused before they are planned. */
export const DocumentPlugin: GraphileConfig.Plugin = {
  name: 'DocumentPlugin',
  version: '1.0.0',
  grafserv: {
    middleware: {
      setPreset(next, event) {
        event.validationRules.push(
          depthLimit({
            maxDepth: limits.depth,
            maxListDepth: limits.listDepth,
            maxSelfReferentialDepth: limits.selfDepth,
            maxIntrospectionDepth: limits.introspectionDepth,
            maxDepthByFieldCoordinates: { '__Type.ofType': 9 },
            // The limits are in docs/reference/graphql.md; whoever hits one should not have to guess which.
            revealDetails: true,
          }),
        );
        const { getExecutionConfig } = event;
        // Syntax and validation errors do not pass maskError; they get their code here.
        event.getExecutionConfig = async function withCodes(context) {
          const config = await getExecutionConfig.call(this, context);
          return {
            ...config,
            parseAndValidate(query) {
              const result = withoutRoot(config.schema, config.parseAndValidate(query));
              for (const error of result.errors ?? []) {
                error.extensions.code ??= 'GRAPHQL_VALIDATION_FAILED';
              }
              return result;
            },
          };
        };
        return next();
      },
      // What grafserv refuses before there is a document: too long, not JSON, no query.
      async processRequest(next) {
        const result = await next();
        if (result === null || result.type !== 'buffer' || result.statusCode < 400) return result;
        const code = result.statusCode === 413 ? 'BODY_TOO_LARGE' : 'BAD_REQUEST';
        const buffer = addCode(result.buffer, code);
        const headers = { ...result.headers, 'Content-Length': String(buffer.length) };
        return { ...result, buffer, headers };
      },
    },
  },
};
