import {
  access,
  constant,
  context,
  type GrafastSubscriber,
  lambda,
  listen,
  type Step,
} from 'postgraphile/grafast';
import { withinLength } from '../documents/length.ts';
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
      next: async () => {
        this.#subscription?.ready();
        const { done, value } = await results.next();
        return done ? { done, value } : { done, value: withinLength(value) as Result };
      },
      return: async (value) => (await results.return?.(value)) ?? { done: true, value },
      [Symbol.asyncIterator]: () => paced,
    };
    return paced;
  }
}

export const follow = (topic: Step<string> | Topic) =>
  listen<Record<string, Change>, string, Step<Change>>(
    context().get('live') as Step<LiveSource>,
    topic,
    ($change) => $change,
  );

/** Rows of one key alone when it is given, otherwise all of the topic. */
export const followOnly = (topic: Topic, $only: unknown) =>
  follow(
    lambda($only as Step<string | null | undefined>, (id) =>
      id == null ? topic : `${topic} ${id.toLowerCase()}`,
    ),
  );

export const keyOf = ($change: Step<Change>) => access<string | null>($change, 'key');
export const userOf = ($change: Step<Change>) => access<string>($change, 'userId');

/** A key of two columns: a message's instant, which its partition needs; a habit's day. */
export const partOfKey = ($change: Step<Change>, index: 0 | 1) =>
  lambda(keyOf($change), (key) => key?.split(' ')[index] ?? null, true);

export const plan = <Parent>($change: Parent): Parent => $change;
export const query = () => constant(true);
