import { access, type Step } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { parse } from 'postgraphile/graphql';
import { extendSchema } from 'postgraphile/utils';
import type { Change, Topic } from './events.ts';
import { followOnly, keyOf, plan, query, userOf } from './follow.ts';

/** Tables of the API whose rows have an id and are followed, by their topic. */
const tables = {
  task: 'tasks',
  goal: 'goals',
  habit: 'habits',
  reflection: 'reflections',
} as const;

/** Subscriptions to one of these: taskChanged, goalChanged, and so on. */
const rowPlugin = (topic: Topic, table: string): GraphileConfig.Plugin =>
  extendSchema((build) => {
    const resources = build.pgResources as Record<string, (typeof build.pgResources)['tasks']>;
    const resource = resources[table];
    if (resource === undefined) throw new Error(`${table} is not in the schema`);
    const type = build.inflection.tableType(resource.codec);
    const change = `${type}Change`;
    return {
      typeDefs: parse(`
        extend type Subscription {
          """
          Your ${table} that were made, changed or deleted, as they are now; with rowId, that
          ${topic} alone.
          """
          ${topic}Changed(
            "The ${topic} to hear of; all of yours when it is left out."
            rowId: UUID
          ): ${change}
        }

        """
        A ${topic} changed.
        """
        type ${change} {
          """
          What happened.
          """
          event: ChangeEvent!
          """
          Which ${topic}; null when event is MANY.
          """
          rowId: UUID
          """
          The ${topic} as it is now; null when there is none any more.
          """
          ${topic}: ${type}
          """
          Everything else, read at the same moment.
          """
          query: Query
        }`),
      objects: {
        Subscription: {
          plans: {
            [`${topic}Changed`]: {
              subscribePlan: (_$root: Step, args: { $rowId: Step }) =>
                followOnly(topic, args.$rowId),
              plan,
            },
          },
        },
        [change]: {
          plans: {
            event: ($change: Step<Change>) => access($change, 'kind'),
            rowId: ($change: Step<Change>) => keyOf($change),
            [topic]: ($change: Step<Change>) =>
              resource.get({ user_id: userOf($change), id: keyOf($change) } as never),
            query,
          },
        },
      },
    } as never;
  }, `Live${topic}Plugin`);

export const liveRowPlugins = Object.entries(tables).map(([topic, table]) =>
  rowPlugin(topic as Topic, table),
);
