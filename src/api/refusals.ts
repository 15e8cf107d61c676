import { SafeError, type Step, sideEffect, TRAP_INHIBITED, trap } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { wrapPlans } from 'postgraphile/utils';
import { refusals } from './errors.ts';

interface Payload extends Step {
  get(key: string): Step;
}

/** Fails the mutation, after its transaction has committed, when its result is null. */
function refuseNull(payload: Payload, message: string): Payload {
  // Without a row to look for, as of a global id that is none, it would not even begin.
  const $result = trap(payload.get('result'), TRAP_INHIBITED, { valueForInhibited: 'NULL' });
  sideEffect($result, (result) => {
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
        const isOfRow = scope.isPgUpdateMutation === true || scope.isPgDeleteMutation === true;
        if (!isOfRow || plan === undefined) return field;
        field.plan = (...args) => refuseNull(plan(...args) as never, refusals.notFound);
        return field;
      },
    },
  },
};
