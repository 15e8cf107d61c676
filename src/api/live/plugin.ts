import { TYPES } from 'postgraphile/@dataplan/pg';
import { access, constant, type Step } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { GraphQLError, getOperationAST } from 'postgraphile/graphql';
import { extendSchema, gql } from 'postgraphile/utils';
import type { Change } from './events.ts';
import { follow, followOnly, keyOf, partOfKey, plan, query, userOf } from './follow.ts';

/** The most days that dashboardChanged reads again at once. */
export const maxDays = 31;

/**
 * The subscriptions. An event names a row; the row is read again, in a transaction of the
 * subscriber's own with row-level security in force, so a notification shows nobody more
 * than they may see.
 */
export const LivePlugin: GraphileConfig.Plugin = extendSchema((build) => {
  const { sql } = build;
  const resourceOf = (name: string) => {
    const resource = build.pgResources[name as keyof typeof build.pgResources];
    if (resource !== undefined) return resource as (typeof build.pgResources)['tasks'];
    throw new Error(`${name} has subscriptions, and is not in the schema`);
  };
  const days = resourceOf('user_dashboard_aggregates');
  const messages = resourceOf('message_logs');
  const chatMessages = resourceOf('chat_messages');
  const logs = resourceOf('habit_logs');
  return {
    typeDefs: gql`
      extend type Subscription {
        """
        Your days whose counts changed, as they are now.
        """
        dashboardChanged: DashboardChange
        """
        Your messages whose status changed, or that were read, as they are now.
        """
        messageStatusChanged: MessageStatusChange
        """
        Your days of habits that were made, changed or deleted, as they are now; with habitId,
        those of that habit alone.
        """
        habitLogChanged(
          "The habit whose days are told; all of yours when it is left out."
          habitId: UUID
        ): HabitLogChange
        """
        Your messages of chats that were added; with chatId, those of that chat alone.
        """
        chatMessageAdded(
          "The chat whose messages are told; all of yours when it is left out."
          chatId: UUID
        ): ChatMessageAddition
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
      What happened to a row.
      """
      enum ChangeEvent {
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
        So many rows changed that they are not named: all are to be read again.
        """
        MANY
      }

      """
      A day of a habit changed.
      """
      type HabitLogChange {
        """
        What happened.
        """
        event: ChangeEvent!
        """
        Of which habit; null when event is MANY.
        """
        habitId: UUID
        """
        Which day; null when event is MANY.
        """
        logDate: Date
        """
        The day as it is now; null when there is none any more.
        """
        habitLog: HabitLog
        """
        Everything else, read at the same moment.
        """
        query: Query
      }

      """
      A message was added to a chat.
      """
      type ChatMessageAddition {
        """
        Which chat; null when more than can be told were added: they are to be read again.
        """
        chatId: UUID
        """
        Which message; null when more than can be told were added.
        """
        rowId: UUID
        """
        The message; null when it has been deleted since.
        """
        chatMessage: ChatMessage
        """
        Everything else, read at the same moment.
        """
        query: Query
      }

      """
      The status of a message changed, or it was read.
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
          habitLogChanged: {
            subscribePlan: (_$root, { $habitId }) => followOnly('habit_log', $habitId),
            plan,
          },
          chatMessageAdded: {
            subscribePlan: (_$root, { $chatId }) => followOnly('chat_message', $chatId),
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
      HabitLogChange: {
        plans: {
          event: ($change: Step<Change>) => access($change, 'kind'),
          habitId: ($change: Step<Change>) => partOfKey($change, 0),
          logDate: ($change: Step<Change>) => partOfKey($change, 1),
          habitLog: ($change: Step<Change>) =>
            logs.get({
              user_id: userOf($change),
              habit_id: partOfKey($change, 0),
              log_date: partOfKey($change, 1),
            } as never),
          query,
        },
      },
      ChatMessageAddition: {
        plans: {
          chatId: ($change: Step<Change>) => partOfKey($change, 0),
          rowId: ($change: Step<Change>) => partOfKey($change, 1),
          chatMessage: ($change: Step<Change>) =>
            chatMessages.get({ user_id: userOf($change), id: partOfKey($change, 1) } as never),
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
