import { GraphQLError, type GraphQLSchema, parse, validate } from 'postgraphile/graphql';
import { limits } from '../limits.ts';
import type { Operations } from '../operations.ts';
import { refuseSelections } from './plugin.ts';
import { nestingOf } from './sizes.ts';

/** An operation that the API would refuse. */
export interface UnfitOperation {
  hash: string;
  /** The name of its first operation, if it has one. */
  name: string | undefined;
  problems: string[];
}

function problemsOf(schema: GraphQLSchema, text: string): { name?: string; problems: string[] } {
  if (nestingOf(text) > limits.nesting) return { problems: ['it nests too deeply'] };
  try {
    const document = parse(text);
    const [operation] = document.definitions;
    const name = operation !== undefined && 'name' in operation ? operation.name?.value : undefined;
    const fault = refuseSelections(document);
    const problems = fault === undefined ? validate(schema, document) : [fault];
    return {
      ...(name === undefined ? {} : { name }),
      problems: problems.map(({ message }) => message),
    };
  } catch (error) {
    return { problems: [error instanceof GraphQLError ? error.message : String(error)] };
  }
}

/** The operations of a list that do not fit a schema. */
export const checkOperations = (schema: GraphQLSchema, operations: Operations): UnfitOperation[] =>
  Object.entries(operations)
    .map(([hash, text]) => ({ hash, name: undefined, ...problemsOf(schema, text) }))
    .filter(({ problems }) => problems.length > 0);
