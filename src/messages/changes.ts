import type { Sql, Transaction } from '../postgres/connect.ts';
import { takenBack } from '../postgres/taken-back.ts';
import { formatTable } from '../terminal/table.ts';
import { stamp } from '../terminal/values.ts';
import { type Filters, findUser } from './filters.ts';

/** Messages that have this in common, and what was or would be done to them. */
export interface Group {
  status: string;
  message_type: string;
  /** Why nothing was done to them; null when something was. */
  refusal: string | null;
  messages: number;
}

const values = async (sql: Sql | Transaction, filters: Filters) => ({
  userId: filters.user === undefined ? null : await findUser(sql, filters.user),
  type: filters.type ?? null,
  date: filters.date ?? null,
  since: filters.since ?? null,
  message: filters.message ?? null,
});

/** Sends messages again. Without statuses: FAILED and EXPIRED, or whatever a message is. */
export async function redrive(
  sql: Sql | Transaction,
  filters: Filters,
  evenUnknown: boolean,
): Promise<Group[]> {
  const { userId, type, date, since, message } = await values(sql, filters);
  const chosen =
    filters.status ??
    (message === null ? ['FAILED', 'EXPIRED', ...(evenUnknown ? ['UNKNOWN'] : [])] : null);
  return [
    ...(await sql<Group[]>`
      select status, message_type, refusal, count(*)::integer as messages
      from ops.redrive_messages(p_statuses => ${chosen}, p_message_type => ${type},
        p_date => ${date}::text::date, p_user_id => ${userId}, p_since => ${since},
        p_message_id => ${message}, p_even_unknown => ${evenUnknown})
      group by status, message_type, refusal
      order by refusal nulls first, status, message_type`),
  ];
}

/** Cancels messages that have not gone out, for good. */
export async function cancel(
  sql: Sql | Transaction,
  filters: Filters,
  reason: string,
): Promise<Group[]> {
  const { userId, type, date, since, message } = await values(sql, filters);
  return [
    ...(await sql<Group[]>`
      select status, message_type, refusal, count(*)::integer as messages
      from ops.cancel_messages(p_reason => ${reason},
        p_statuses => ${filters.status ?? null}, p_message_type => ${type},
        p_date => ${date}::text::date, p_user_id => ${userId}, p_since => ${since},
        p_message_id => ${message})
      group by status, message_type, refusal
      order by refusal nulls first, status, message_type`),
  ];
}

/** How many messages of the groups something was done to. */
export const countDone = (groups: Group[]): number =>
  groups.reduce((sum, { refusal, messages }) => sum + (refusal === null ? messages : 0), 0);

export const countRefused = (groups: Group[]): number =>
  groups.reduce((sum, { refusal, messages }) => sum + (refusal === null ? 0 : messages), 0);

export const formatGroups = (groups: Group[], done: string): string =>
  formatTable(groups, [
    { title: 'messages', value: (row) => String(row.messages), isNumber: true },
    { title: 'status', value: (row) => row.status },
    { title: 'type', value: (row) => row.message_type },
    {
      title: 'outcome',
      value: ({ refusal }) => (refusal === null ? done : `refused: ${refusal}`),
      isFlexible: true,
    },
  ]);

/** Says of an UNKNOWN message what became of it. */
export const resolve = (sql: Sql, messageId: string, outcome: string) =>
  sql`select from ops.resolve_message(${messageId}, ${outcome})`;

/** Sends a copy of a message that was sent. @returns the id of the copy */
export async function resend(
  sql: Sql,
  userId: string,
  messageId: string,
  reason: string,
): Promise<string> {
  const [row] = await sql<{ copy: string }[]>`
    select ops.resend_message(${userId}, ${messageId}, ${reason}) as copy`;
  return row?.copy ?? '';
}

/** Limits a channel. @param perSecond null for no limit @param domain only to its addresses */
export const limitChannel = (
  sql: Sql,
  channel: string,
  perSecond: number | null,
  domain: string | null,
) => sql`select ops.limit_channel(${channel}, ${perSecond}, ${domain})`;

/** Messages that the zones' rules now put elsewhere. */
export interface Moved {
  timezone: string;
  status: string;
  stored_time: Date;
  rule_time: Date;
  messages: number;
}

export interface Scope {
  userId: string | null;
  zone: string | null;
}

/** What a replan would move, and where to. */
export const findMoved = async (sql: Sql, { userId, zone }: Scope): Promise<Moved[]> => [
  ...(await sql<Moved[]>`
    select timezone, status, stored_time, rule_time, count(*)::integer as messages
    from ops.find_moved_messages(${userId}, ${zone})
    group by timezone, status, stored_time, rule_time
    order by timezone, stored_time, rule_time, status`),
];

export const formatMoved = (rows: Moved[]): string =>
  formatTable(rows, [
    { title: 'zone', value: (row) => row.timezone, isFlexible: true },
    { title: 'from', value: (row) => stamp(row.stored_time) },
    { title: 'to', value: (row) => stamp(row.rule_time) },
    { title: 'status', value: (row) => row.status },
    { title: 'messages', value: (row) => String(row.messages), isNumber: true },
  ]);

export interface Replanned {
  /** Zones that tzdata has brought. */
  zones: number;
  users: number;
  changes: number;
}

interface Chunk {
  last_id: string | null;
  users: number;
  changed: number;
}

/**
 * Brings what has not gone out up to date, some thousand users at a time, each time in a
 * transaction of its own. Safe to stop and to repeat.
 *
 * @param dryRun takes each of these transactions back
 */
export async function replan(
  sql: Sql,
  { userId, zone }: Scope,
  dryRun: boolean,
  progress: (users: number) => void,
): Promise<Replanned> {
  const work = dryRun
    ? <Result>(act: (transaction: Transaction) => Promise<Result>) => takenBack(sql, act)
    : <Result>(act: (sql: Sql | Transaction) => Promise<Result>) => act(sql);
  const sync = async (on: Sql | Transaction): Promise<number> => {
    const [synced] = await on<{ zones: number }[]>`select app_hidden.sync_timezones() as zones`;
    return synced?.zones ?? 0;
  };
  const done = { zones: await work(sync), users: 0, changes: 0 };
  for (let after: string | null = null; ; ) {
    const chunk: Chunk | undefined = await work(async (on) => {
      // The zones that were taken back.
      if (dryRun) await sync(on);
      const [row] = await on<Chunk[]>`
        select last_id, users, changed
        from ops.replan_users(p_after => ${after}, p_timezone => ${zone}, p_user_id => ${userId})`;
      return row;
    });
    if (chunk === undefined || chunk.last_id === null) return done;
    after = chunk.last_id;
    done.users += chunk.users;
    done.changes += chunk.changed;
    progress(done.users);
  }
}
