import { TYPES } from 'postgraphile/@dataplan/pg';
import {
  access,
  constant,
  context,
  type GrafastSubscriber,
  lambda,
  listen,
  type Step,
} from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { GraphQLError, getOperationAST } from 'postgraphile/graphql';
import { extendSchema, gql } from 'postgraphile/utils';
import type { Change, Topic } from './events.ts';
import type { Hub, Subscription } from './hub.ts';

declare global {
  namespace Grafast {
    interface Context {
      /** Where this user's changes come from; only a socket of a user has it. */
      live?: LiveSource | undefined;
    }
  }
}

/** The most days that dashboardChanged reads again at once. */
export const maxDays = 31;

/** The changes of one user, for Grafast's listen() in one operation; a topic is "task" or "task <key>". */
export class LiveSource implements GrafastSubscriber<Record<string, Change>> {
  readonly #hub: Hub;
  readonly #userId: string;
  #subscription: Subscription | undefined;

  constructor(hub: Hub, userId: string) {
    this.#hub = hub;
    this.#userId = userId;
  }

  subscribe(topic: string): Subscription {
    const [name, only] = topic.split(' ', 2);
    this.#subscription = this.#hub.subscribe(name as Topic, this.#userId, only);
    return this.#subscription;
  }

  /** Paces an operation: a change is handed out when the one before has been sent. */
  pace<Result>(results: AsyncIterableIterator<Result>): AsyncIterableIterator<Result> {
    const paced: AsyncIterableIterator<Result> = {
      next: () => {
        this.#subscription?.ready();
        return results.next();
      },
      return: async (value) => (await results.return?.(value)) ?? { done: true, value },
      [Symbol.asyncIterator]: () => paced,
    };
    return paced;
  }
}

const follow = (topic: Step<string> | Topic) =>
  listen<Record<string, Change>, string, Step<Change>>(
    context().get('live') as Step<LiveSource>,
    topic,
    ($change) => $change,
  );

const keyOf = ($change: Step<Change>) => access<string | null>($change, 'key');
const userOf = ($change: Step<Change>) => access<string>($change, 'userId');

/** A message's key is its id and its instant, which its partition needs. */
const partOfKey = ($change: Step<Change>, index: 0 | 1) =>
  lambda(keyOf($change), (key) => key?.split(' ')[index] ?? null, true);

const plan = <Parent>($change: Parent): Parent => $change;
const query = () => constant(true);

/**
 * The subscriptions. An event names a row; the row is read again, in a transaction of the
 * subscriber's own with row-level security in force, so a notification shows nobody more
 * than they may see.
 */
export const LivePlugin: GraphileConfig.Plugin = extendSchema((build) => {
  const { sql } = build;
  const { tasks, user_dashboard_aggregates: days, message_logs: messages } = build.pgResources;
  if (tasks === undefined || days === undefined || messages === undefined) {
    throw new Error('a table that has subscriptions is not in the schema');
  }
  return {
    typeDefs: gql`
      extend type Subscription {
        """
        Your days whose counts changed, as they are now.
        """
        dashboardChanged: DashboardChange
        """
        Your tasks that were made, changed or deleted, as they are now; with rowId, that task
        alone.
        """
        taskChanged(
          "The task to hear of; all of yours when it is left out."
          rowId: UUID
        ): TaskChange
        """
        Your messages whose status changed, as they are now.
        """
        messageStatusChanged: MessageStatusChange
      }

      """
      Counts of a day, or of many days, changed.
      """
      type DashboardChange {
        """
        The day that changed; null when more than can be told have: all days are to be read
        again.
        """
        aggDate: Date
        """
        That day as it is now; when aggDate is null, the latest 31 days. Empty when there is
        none any more.
        """
        aggregates: [UserDashboardAggregate!]!
        """
        Everything else, read at the same moment.
        """
        query: Query
      }

      """
      What happened to a task.
      """
      enum TaskChangeEvent {
        """
        It was made.
        """
        INSERT
        """
        It was changed, perhaps more than once, or may have been.
        """
        UPDATE
        """
        It was deleted.
        """
        DELETE
        """
        So many tasks changed that they are not named: all are to be read again.
        """
        MANY
      }

      """
      A task changed.
      """
      type TaskChange {
        """
        What happened.
        """
        event: TaskChangeEvent!
        """
        Which task; null when event is MANY.
        """
        rowId: UUID
        """
        The task as it is now; null when there is none any more.
        """
        task: Task
        """
        Everything else, read at the same moment.
        """
        query: Query
      }

      """
      The status of a message changed.
      """
      type MessageStatusChange {
        """
        Which message; null when more than can be told have changed: all are to be read again.
        """
        rowId: UUID
        """
        The message as it is now.
        """
        messageLog: MessageLog
        """
        Everything else, read at the same moment.
        """
        query: Query
      }
    `,
    objects: {
      Subscription: {
        plans: {
          dashboardChanged: { subscribePlan: () => follow('dashboard'), plan },
          taskChanged: {
            subscribePlan: (_$root, { $rowId }) =>
              follow(
                lambda($rowId as Step<string | null | undefined>, (id) =>
                  id == null ? 'task' : `task ${id.toLowerCase()}`,
                ),
              ),
            plan,
          },
          messageStatusChanged: { subscribePlan: () => follow('message'), plan },
        },
      },
      DashboardChange: {
        plans: {
          aggDate: ($change: Step<Change>) => keyOf($change),
          aggregates($change: Step<Change>) {
            const $days = days.find({ user_id: userOf($change) } as never);
            const $day = $days.placeholder(keyOf($change) as never, TYPES.date as never);
            $days.where(sql`(${$day} is null or ${$days.alias}.agg_date = ${$day})`);
            $days.orderBy({ attribute: 'agg_date', direction: 'DESC' });
            $days.setFirst(constant(maxDays));
            return $days;
          },
          query,
        },
      },
      TaskChange: {
        plans: {
          event: ($change: Step<Change>) => access($change, 'kind'),
          rowId: ($change: Step<Change>) => keyOf($change),
          task: ($change: Step<Change>) =>
            tasks.get({ user_id: userOf($change), id: keyOf($change) } as never),
          query,
        },
      },
      MessageStatusChange: {
        plans: {
          rowId: ($change: Step<Change>) => partOfKey($change, 0),
          messageLog: ($change: Step<Change>) =>
            messages.get({
              user_id: userOf($change),
              id: partOfKey($change, 0),
              scheduled_send_time: partOfKey($change, 1),
            } as never),
          query,
        },
      },
    },
  };
}, 'LivePlugin');

/** Over HTTP there are queries and mutations; a subscription is told where to go. */
export const SubscriptionTransportPlugin: GraphileConfig.Plugin = {
  name: 'SubscriptionTransportPlugin',
  version: '1.0.0',
  grafserv: {
    middleware: {
      setPreset(next, event) {
        const { getExecutionConfig } = event;
        event.getExecutionConfig = async function withoutSubscriptions(context) {
          const config = await getExecutionConfig.call(this, context);
          if (context.http === undefined) return config;
          return {
            ...config,
            execute(args) {
              const operation = getOperationAST(args.document, args.operationName);
              if (operation?.operation !== 'subscription') return config.execute(args);
              const error = new GraphQLError('subscriptions are made over WebSocket', {
                nodes: operation,
                extensions: { code: 'GRAPHQL_VALIDATION_FAILED' },
              });
              return { errors: [error] };
            },
          };
        };
        return next();
      },
    },
  },
};
