import {
  type Change,
  type ChangeKind,
  merge,
  type Notification,
  partTopics,
  type Topic,
} from './events.ts';

/** Rows that wait for one subscriber; with more, it hears only that there are many. */
export const maxWaiting = 100;

const ended = { done: true, value: undefined } as const;

/**
 * The changes that one subscriber has not been sent yet. Changes of the same row become
 * one, so what waits is bounded by maxWaiting, however slowly it is read. The next is handed
 * out when ready() says so: Grafast would fetch, execute and queue all that it can get.
 */
export class Subscription implements AsyncIterableIterator<Change> {
  readonly topic: Topic;
  readonly userId: string;
  /** The only row that it is about, or the first part of its rows' keys; undefined for all. */
  readonly #only: string | undefined;
  readonly #onEnd: (subscription: Subscription) => void;
  readonly #waiting = new Map<string, ChangeKind>();
  #many = false;
  #isOver = false;
  #isReady = true;
  #wake: (() => void) | undefined;

  constructor(
    topic: Topic,
    userId: string,
    only: string | undefined,
    onEnd: (subscription: Subscription) => void,
  ) {
    this.topic = topic;
    this.userId = userId;
    this.#only = only;
    this.#onEnd = onEnd;
  }

  /** Takes note that rows changed; null when there are too many to name. */
  push(kind: ChangeKind, keys: readonly string[] | null): void {
    if (this.#isOver) return;
    if (keys === null) {
      // It is one of many, perhaps: whoever follows one row is told to look again.
      if (this.#only === undefined || partTopics.includes(this.topic)) this.#many = true;
      else this.#waiting.set(this.#only, 'UPDATE');
    } else {
      for (const key of keys) {
        if (this.#only !== undefined && key !== this.#only && !this.#isPart(key)) continue;
        const before = this.#waiting.get(key);
        this.#waiting.set(key, before === undefined ? kind : merge(before, kind));
      }
      if (this.#waiting.size > maxWaiting) this.#many = true;
    }
    // Many includes each.
    if (this.#many) this.#waiting.clear();
    if (this.#many || this.#waiting.size > 0) this.#wake?.();
  }

  #isPart(key: string): boolean {
    return partTopics.includes(this.topic) && key.startsWith(`${this.#only} `);
  }

  /** Says that what was handed out has been sent: the next may be. */
  ready(): void {
    this.#isReady = true;
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Change, undefined>> {
    while (!this.#isOver) {
      const change = this.#isReady ? this.#take() : undefined;
      if (change !== undefined) {
        this.#isReady = false;
        return { done: false, value: change };
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return ended;
  }

  #take(): Change | undefined {
    const { userId } = this;
    if (this.#many) {
      this.#many = false;
      return { userId, kind: 'MANY', key: null };
    }
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [key, kind] = first;
    this.#waiting.delete(key);
    return { userId, kind, key };
  }

  async return(): Promise<IteratorResult<Change, undefined>> {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#waiting.clear();
      this.#wake?.();
      this.#onEnd(this);
    }
    return ended;
  }

  async throw(): Promise<IteratorResult<Change, undefined>> {
    return this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** The subscriptions of this process, by user: one listening connection serves them all. */
export class Hub {
  readonly #byUser = new Map<string, Set<Subscription>>();

  /** How many subscriptions there are. */
  get size(): number {
    let size = 0;
    for (const subscriptions of this.#byUser.values()) size += subscriptions.size;
    return size;
  }

  hasUser(userId: string): boolean {
    return this.#byUser.has(userId);
  }

  /** @param only the key of the only row that it is about, or what its rows' keys begin with */
  subscribe(topic: Topic, userId: string, only?: string): Subscription {
    const subscription = new Subscription(topic, userId, only, (over) => this.#remove(over));
    const known = this.#byUser.get(userId);
    if (known === undefined) this.#byUser.set(userId, new Set([subscription]));
    else known.add(subscription);
    return subscription;
  }

  /** Passes a notification on to those whom it is about. */
  publish({ topic, event, users }: Notification): void {
    for (const [userId, keys] of users) {
      for (const subscription of this.#byUser.get(userId) ?? []) {
        if (subscription.topic === topic) subscription.push(event, keys);
      }
    }
  }

  /** Tells all subscriptions of a user to look again. */
  refresh(userId: string): void {
    for (const subscription of this.#byUser.get(userId) ?? []) subscription.push('MANY', null);
  }

  #remove(subscription: Subscription): void {
    const known = this.#byUser.get(subscription.userId);
    known?.delete(subscription);
    if (known?.size === 0) this.#byUser.delete(subscription.userId);
  }
}
