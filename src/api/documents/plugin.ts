import type { IncomingMessage } from 'node:http';
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
  getOperationAST,
  Kind,
  NoSchemaIntrospectionCustomRule,
  parse,
  Source,
  validate,
} from 'postgraphile/graphql';
import { type ErrorCode, withoutSuggestion } from '../errors.ts';
import { limits, signInFields } from '../limits.ts';
import type { CountSignIns } from '../rates.ts';
import { Turns } from '../turns.ts';
import { tellAllViolations, type Violations } from '../violations.ts';
import { type Cost, costOf } from './cost.ts';
import { withinLength } from './length.ts';
import { explain, noNullBytes, refuseNullBytes } from './literals.ts';
import { boundPlans } from './plans.ts';
import { expand, longestChain } from './selections.ts';
import { nestingOf, passedLimit } from './sizes.ts';

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
  const passed = passedLimit(variables, {
    depth: limits.nesting,
    count: limits.variableValues,
    length: limits.textLength,
  });
  if (passed === undefined) return;
  const { limit, field } = passed;
  const sentences = {
    depth: `variables nest at most ${limits.nesting} deep`,
    count: `variables have at most ${limits.variableValues} values`,
    length: `a text has at most ${limits.textLength} characters`,
    nulls: noNullBytes,
  };
  const isText = limit === 'length' || limit === 'nulls';
  throw new SafeError(sentences[limit], {
    statusCode: 400,
    code: isText ? 'VALIDATION_FAILED' : 'QUERY_TOO_COMPLEX',
    ...(isText && field !== undefined ? { field } : {}),
  });
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
export function refuseSelections(document: DocumentNode): GraphQLError | undefined {
  const { objects, chain, ...counted } = expand(document);
  const selections = Math.max(counted.selections, counted.inFragments);
  if (chain > longestChain) {
    return tooComplex('fragments in fragments', chain, longestChain, 'write some of them out');
  }
  const advice = 'a fragment counts as often as it is spread';
  if (objects > limits.objects) {
    return tooComplex('fields that have fields', objects, limits.objects, advice);
  }
  if (selections <= limits.selections) return undefined;
  return tooComplex('fields of a document', selections, limits.selections, advice);
}

const countOfSignIns = (cost: Cost): number =>
  cost.rootFields.filter((name) => signInFields.includes(name)).length;

/** What is wrong with what an operation asks for with its variables, before it is planned. */
function refuseCost(args: ExecutionArgs, cost: Cost): GraphQLError | undefined {
  const { document, operationName } = args;
  const { rows, values, rootFields } = cost;
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
  const signIns = countOfSignIns(cost);
  if (signIns > limits.signIns) {
    return tooComplex('fields that sign in', signIns, limits.signIns, 'send several requests');
  }
  const fewer = 'give `first` to inner connections';
  if (rows > limits.rows) return tooComplex('rows asked for', rows, limits.rows, fewer);
  if (values > limits.values) return tooComplex('values asked for', values, limits.values, fewer);
  return undefined;
}

interface Parser {
  /** Whether a document was read before, and is remembered. */
  knows(text: string): boolean;
  read(text: string): Parsed;
}

/** Validates documents of one schema, and remembers the latest as far as its memory reaches. */
function makeParser(
  schema: GraphQLSchema,
  rules: Parameters<typeof validate>[2],
  showsSchema: boolean,
): Parser {
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
    const errors =
      fault === undefined
        ? [
            ...explain(document, validate(schema, document, rules)),
            ...(/\\u|\0/.test(text) ? refuseNullBytes(document) : []),
          ]
        : [fault];
    return errors.length > 0 ? { errors } : { document };
  };
  return {
    knows: (text) => cache.has(text),
    read(text) {
      const known = cache.get(text);
      if (known !== undefined) return known;
      const result = read(text);
      for (const error of result.errors ?? []) {
        error.extensions.code ??= 'GRAPHQL_VALIDATION_FAILED';
        if (!showsSchema) error.message = withoutSuggestion(error.message);
      }
      cache.set(text, result);
      return result;
    },
  };
}

/** What a document and its plans take in memory, as measured: its syntax tree, and a few steps a field. */
function planBytes(document: DocumentNode, text: string): number {
  const { selections, objects } = expand(document);
  return 100 * text.length + 500 * selections + 40_000 * objects;
}

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

type Run = ExecutionConfig['execute'];

/** What an object costs to plan and to ask for, in values that are written out. */
const valuesOfObject = 200;

/** The requests of an operation, or of the socket that it came by. */
type Context = Pick<Partial<Grafast.RequestContext>, 'node' | 'ws'>;

const contextOf = (args: ExecutionArgs): Context =>
  (args as { requestContext?: Context }).requestContext ?? {};

interface Bounds {
  violations?: Violations | undefined;
  countSignIns?: CountSignIns | undefined;
  turns: Turns;
  callerOf: (context: Context) => string;
  /** Operations that have been planned; another plan of one, for other variables, is rare. */
  planned: WeakSet<object>;
}

function bounded(run: Run, { countSignIns, violations, turns, callerOf, planned }: Bounds): Run {
  const telling = async (args: ExecutionArgs) => {
    const result = (await run(args as never)) as { errors?: readonly GraphQLError[] };
    if (result.errors === undefined || violations === undefined) return result;
    return { ...result, errors: await tellAllViolations(result.errors, args, violations) };
  };
  const attempt = async (args: ExecutionArgs) => {
    const { schema, document, operationName, variableValues } = args;
    const cost = costOf(schema, document, operationName, variableValues);
    const fault = refuseCost(args, cost);
    if (fault !== undefined) return { errors: [fault] };
    const signIns = countOfSignIns(cost);
    // A socket's operation has no request of its own.
    const request = contextOf(args).node?.req;
    if (signIns > 0 && request !== undefined) {
      const refused = await countSignIns?.(request, signIns);
      if (refused !== undefined) {
        const extensions = { code: 'RATE_LIMITED', retryAfter: refused.seconds };
        return { errors: [new GraphQLError(refused.message, { extensions })] };
      }
    }
    const key = callerOf(contextOf(args));
    const operation = getOperationAST(document, operationName);
    const work = async () => {
      if (operation != null && !planned.has(operation)) {
        await turns.plan(key);
        planned.add(operation);
      }
      return withinLength(await telling(args));
    };
    // A step for a value, and many for an object.
    const weight = cost.values + cost.objects * valuesOfObject;
    return weight < limits.largeValues ? work() : turns.run(key, weight, work);
  };
  return ((args: ExecutionArgs) => attempt(args).catch(asError)) as Run;
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

export interface DocumentOptions {
  /** Whether callers may ask for the schema, and are told of names like theirs. */
  showsSchema: boolean;
  countSignIns: CountSignIns | undefined;
  violations: Violations | undefined;
  /** Who asks: a user; all who are none are one caller, as they are for connections. */
  callerOf: (request: IncomingMessage | undefined) => string;
}

/** The length from which a document is read when it is its caller's turn: about half a millisecond. */
const longText = 1_000;

/** Whether there is enough of a text that reading it is worth a turn, and not too much to be read. */
const isWorthTurn = (text: unknown): text is string =>
  typeof text === 'string' && text.length > longText && text.length <= limits.documentBytes;

const clientIsGone = (context: Context): boolean => context.node?.res.destroyed === true;

/**
 * Reads documents within limits. Each is applied before the step that would cost without it: the
 * length and nesting before parsing, the number of selections before validation, and the rows and
 * values, which depend on variables, before planning.
 */
export function documentPlugin(options: DocumentOptions): GraphileConfig.Plugin {
  const { showsSchema, countSignIns, violations } = options;
  const callerOf = ({ node, ws }: Context): string => options.callerOf(node?.req ?? ws?.request);
  const turns = new Turns(limits.values);
  const planned = new WeakSet<object>();
  let parser: Parser | undefined;
  return {
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
          event.getExecutionConfig = async function withinLimits(context) {
            const config = await getExecutionConfig.call(this, context);
            if (config.schema !== schema) {
              ({ schema } = config);
              boundPlans(schema);
              parser = makeParser(schema, validationRules, showsSchema);
            }
            const bounds = { turns, callerOf, planned };
            return {
              ...config,
              parseAndValidate: (text) => parser?.read(text) ?? { errors: [] },
              execute: bounded(config.execute, { ...bounds, countSignIns, violations }),
              subscribe: bounded(config.subscribe as never, bounds) as never,
            };
          };
          return next();
        },
        async processGraphQLRequestBody(next, { body, request, graphqlWsContext }) {
          const { query } = body;
          if (isWorthTurn(query) && parser?.knows(query) !== true) {
            const ws = graphqlWsContext?.extra as Context['ws'];
            const context: Context = { ...request?.requestContext, ...(ws && { ws }) };
            // It is parsed and validated before the next turn of the event loop.
            await turns.plan(callerOf(context)).catch(({ message, extensions }: SafeError) => {
              throw new SafeError(message, { ...extensions, statusCode: 400 });
            });
            if (clientIsGone(context))
              throw new SafeError('the client is gone', { statusCode: 400 });
          }
          // A persisted operation may have no text yet: the parser's limits are for it as well.
          refuseBody(body.query, body.variableValues);
          await next();
        },
        // What grafserv refuses before there is a document: too long, not JSON, no query.
        async processRequest(next, { requestDigest: { method } }) {
          const result = await next();
          if (result === null || result.type !== 'buffer' || result.statusCode < 400) return result;
          const code = result.statusCode === 413 ? 'BODY_TOO_LARGE' : 'BAD_REQUEST';
          const buffer = addCode(result.buffer, code);
          const headers: Record<string, string> = {
            ...result.headers,
            'content-length': String(buffer.length),
          };
          // Of what GET may ask, only a query may.
          if (result.statusCode === 405) headers.allow = method === 'GET' ? 'POST' : 'GET, POST';
          return { ...result, buffer, headers };
        },
      },
    },
  };
}
