import { depthLimit } from '@graphile/depth-limit';
import { LRUCache } from 'lru-cache';
import { SafeError } from 'postgraphile/grafast';
import type { ExecutionConfig } from 'postgraphile/grafserv';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import {
  type DocumentNode,
  type ExecutionArgs,
  GraphQLError,
  type GraphQLSchema,
  Kind,
  NoSchemaIntrospectionCustomRule,
  parse,
  Source,
  validate,
} from 'postgraphile/graphql';
import { type ErrorCode, refusals, withoutSuggestion } from '../errors.ts';
import { limits, signInFields } from '../limits.ts';
import { costOf } from './cost.ts';
import { boundPlans } from './plans.ts';
import { expand, longestChain } from './selections.ts';
import { isLongerThan, measureValue, nestingOf } from './sizes.ts';

type Parsed = ReturnType<ExecutionConfig['parseAndValidate']>;

const refusal = (code: ErrorCode, message: string, document?: DocumentNode): GraphQLError =>
  new GraphQLError(message, {
    extensions: { code },
    ...(document && { nodes: document.definitions[0] }),
  });

const tooComplex = (what: string, found: number, most: number, advice: string): GraphQLError =>
  refusal(
    'QUERY_TOO_COMPLEX',
    `${what}: ${Number.isFinite(found) ? found.toLocaleString('en') : 'too many'}, at most ${most.toLocaleString('en')}; ${advice}`,
  );

/** What is wrong with the text or variables of a request, before they are read. */
function refuseBody(query: unknown, variables: unknown): void {
  if (typeof query === 'string') {
    const bytes = Buffer.byteLength(query);
    if (bytes > limits.documentBytes) {
      throw new SafeError(
        `a document has at most ${limits.documentBytes} bytes, and this ${bytes}`,
        {
          statusCode: 413,
          code: 'QUERY_TOO_COMPLEX',
        },
      );
    }
    if (nestingOf(query) > limits.nesting) {
      throw new SafeError(`a document nests at most ${limits.nesting} brackets`, {
        statusCode: 400,
        code: 'QUERY_TOO_COMPLEX',
      });
    }
  }
  const { depth, count } = measureValue(variables);
  if (depth > limits.nesting || count > limits.variableValues) {
    throw new SafeError(
      `variables nest at most ${limits.nesting} deep and have at most ${limits.variableValues} values`,
      { statusCode: 400, code: 'QUERY_TOO_COMPLEX' },
    );
  }
}

/** An operation of a kind that the schema has not, which graphql-js notices only later. */
function missingRoot(schema: GraphQLSchema, document: DocumentNode): GraphQLError | undefined {
  const unknown = document.definitions.find(
    (node) => node.kind === Kind.OPERATION_DEFINITION && schema.getRootType(node.operation) == null,
  );
  if (unknown === undefined || unknown.kind !== Kind.OPERATION_DEFINITION) return undefined;
  return new GraphQLError(`the schema has no ${unknown.operation}s`, { nodes: unknown });
}

/** What is wrong with what an operation selects, before it is validated. */
function refuseSelections(document: DocumentNode): GraphQLError | undefined {
  const { selections, chain } = expand(document);
  if (chain > longestChain) {
    return tooComplex('fragments in fragments', chain, longestChain, 'write some of them out');
  }
  if (selections <= limits.selections) return undefined;
  const advice = 'a fragment counts as often as it is spread';
  return tooComplex('fields of a document', selections, limits.selections, advice);
}

/** What is wrong with what an operation asks for with its variables, before it is planned. */
function refuseCost(args: ExecutionArgs): GraphQLError | undefined {
  const { schema, document, operationName, variableValues } = args;
  const { rows, values, rootFields } = costOf(schema, document, operationName, variableValues);
  const isMutation = document.definitions.some(
    (node) =>
      node.kind === Kind.OPERATION_DEFINITION &&
      node.operation === 'mutation' &&
      (operationName == null || node.name?.value === operationName),
  );
  const most = isMutation ? limits.mutationFields : limits.rootFields;
  if (rootFields.length > most) {
    return tooComplex('fields of an operation', rootFields.length, most, 'send several requests');
  }
  const signIns = rootFields.filter((name) => signInFields.includes(name)).length;
  if (isMutation && signIns > limits.signIns) {
    return tooComplex('fields that sign in', signIns, limits.signIns, 'send several requests');
  }
  const fewer = 'give `first` to inner connections';
  if (rows > limits.rows) return tooComplex('rows asked for', rows, limits.rows, fewer);
  if (values > limits.values) return tooComplex('values asked for', values, limits.values, fewer);
  return undefined;
}

/** Validates documents of one schema, and remembers the latest as far as its memory reaches. */
function makeParser(
  schema: GraphQLSchema,
  rules: Parameters<typeof validate>[2],
  showsSchema: boolean,
): (text: string) => Parsed {
  const cache = new LRUCache<string, Parsed & object>({
    maxSize: limits.documentMemoryBytes,
    sizeCalculation: ({ document }, text) =>
      200 + 3 * text.length + (document === undefined ? 0 : planBytes(document, text)),
  });
  const read = (text: string): Parsed & object => {
    let document: DocumentNode;
    try {
      document = parse(new Source(text, 'GraphQL request'), { maxTokens: limits.tokens });
    } catch (error) {
      return { errors: [error as GraphQLError] };
    }
    const fault = refuseSelections(document) ?? missingRoot(schema, document);
    const errors = fault === undefined ? validate(schema, document, rules) : [fault];
    return errors.length > 0 ? { errors } : { document };
  };
  return (text) => {
    const known = cache.get(text);
    if (known !== undefined) return known;
    const result = read(text);
    for (const error of result.errors ?? []) {
      error.extensions.code ??= 'GRAPHQL_VALIDATION_FAILED';
      if (!showsSchema) error.message = withoutSuggestion(error.message);
    }
    cache.set(text, result);
    return result;
  };
}

/** What a document and its plans take in memory, as measured: its syntax tree, and a few steps a field. */
const planBytes = (document: DocumentNode, text: string): number =>
  100 * text.length + 8_000 * expand(document).selections;

const isAsync = (value: unknown): value is PromiseLike<unknown> =>
  typeof (value as PromiseLike<unknown> | undefined)?.then === 'function';

/** Turns what is thrown into an error of the response, which maskError then sees whole. */
const asError = (error: unknown): { errors: GraphQLError[] } => ({
  errors: [
    error instanceof GraphQLError
      ? error
      : new GraphQLError('the operation failed', {
          originalError: error instanceof Error ? error : new Error(String(error)),
        }),
  ],
});

/** Answers with an error in place of what is too long. */
function withinLength<Result>(result: Result): Result | { errors: GraphQLError[] } {
  const { data } = (result ?? {}) as { data?: unknown };
  if (data == null || !isLongerThan(data, limits.responseBytes)) return result;
  return { errors: [refusal('RESPONSE_TOO_LARGE', refusals.responseTooLarge)] };
}

type Run = ExecutionConfig['execute'];

function bounded(run: Run): Run {
  return ((args: ExecutionArgs) => {
    const fault = refuseCost(args);
    if (fault !== undefined) return { errors: [fault] };
    try {
      const result = run(args as never);
      return isAsync(result)
        ? Promise.resolve(result).then(withinLength, asError)
        : withinLength(result);
    } catch (error) {
      return asError(error);
    }
  }) as Run;
}

/** Gives the errors of a JSON response the code that they lack. */
function addCode(response: Buffer, code: string): Buffer {
  let body: { errors?: { extensions?: { code?: string; statusCode?: number } }[] };
  try {
    body = JSON.parse(response.toString());
  } catch {
    return response;
  }
  if (!Array.isArray(body.errors)) return response;
  for (const error of body.errors) {
    const { statusCode: _, ...extensions } = error.extensions ?? {};
    error.extensions = { code, ...extensions };
  }
  return Buffer.from(JSON.stringify(body));
}

/**
 * Reads documents within limits. Each is applied before the step that would cost without it: the
 * length and nesting before parsing, the number of selections before validation, and the rows and
 * values, which depend on variables, before planning.
 *
 * @param showsSchema whether callers may ask for the schema, and are told of names like theirs
 */
export const documentPlugin = (showsSchema: boolean): GraphileConfig.Plugin => ({
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
          ...(showsSchema ? [] : [NoSchemaIntrospectionCustomRule]),
        );
        const { getExecutionConfig, validationRules } = event;
        let schema: GraphQLSchema | undefined;
        let parseAndValidate: (text: string) => Parsed = () => ({ errors: [] });
        event.getExecutionConfig = async function withinLimits(context) {
          const config = await getExecutionConfig.call(this, context);
          if (config.schema !== schema) {
            ({ schema } = config);
            boundPlans(schema);
            parseAndValidate = makeParser(schema, validationRules, showsSchema);
          }
          const execute = bounded(config.execute);
          return {
            ...config,
            parseAndValidate,
            execute,
            subscribe: bounded(config.subscribe as never) as never,
          };
        };
        return next();
      },
      async processGraphQLRequestBody(next, { body }) {
        // Before and after: a persisted operation has no text yet.
        refuseBody(body.query, body.variableValues);
        await next();
      },
      // What grafserv refuses before there is a document: too long, not JSON, no query.
      async processRequest(next) {
        const result = await next();
        if (result === null || result.type !== 'buffer' || result.statusCode < 400) return result;
        const code = result.statusCode === 413 ? 'BODY_TOO_LARGE' : 'BAD_REQUEST';
        const buffer = addCode(result.buffer, code);
        const headers = { ...result.headers, 'content-length': String(buffer.length) };
        return { ...result, buffer, headers };
      },
    },
  },
});
