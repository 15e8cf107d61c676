import { GraphQLError } from 'postgraphile/graphql';
import { refusals } from '../errors.ts';
import { limits } from '../limits.ts';
import { isLongerThan } from './sizes.ts';

/** Answers with an error in place of what is too long: a response, or an event of a subscription. */
export function withinLength<Result>(result: Result): Result | { errors: GraphQLError[] } {
  const { data } = (result ?? {}) as { data?: unknown };
  if (data == null || !isLongerThan(data, limits.responseBytes)) return result;
  const extensions = { code: 'RESPONSE_TOO_LARGE' };
  return { errors: [new GraphQLError(refusals.responseTooLarge, { extensions })] };
}
