import type { Sql, Transaction } from '../postgres/connect.ts';
import { type Column, formatTable } from '../terminal/table.ts';
import { stamp } from '../terminal/values.ts';

/** Which messages are held; what is undefined does not limit. */
export interface HoldOptions {
  type?: string;
  channel?: string;
  zone?: string;
  until?: Date;
  reason: string;
}

/** Stops messages from being sent. @returns the number of the hold */
export async function hold(sql: Sql, options: HoldOptions): Promise<number> {
  const { type = null, channel = null, zone = null, until = null, reason } = options;
  const [row] = await sql<{ id: number }[]>`
    select ops.hold_messages(${reason}, ${type}, ${channel}, ${zone}, ${until}) as id`;
  return row?.id ?? 0;
}

export const afterwards = ['send', 'skip', 'next-morning'] as const;

/** Ends a hold. @returns how many messages it held */
export async function release(
  sql: Sql | Transaction,
  id: number,
  then: (typeof afterwards)[number],
): Promise<number> {
  const [row] = await sql<{ messages: number }[]>`
    select ops.release_messages(${id}, ${then}) as messages`;
  return row?.messages ?? 0;
}

export interface Hold {
  hold: number;
  message_type: string | null;
  channel: string | null;
  timezone: string | null;
  held_at: Date;
  held_until: Date | null;
  held_by: string;
  reason: string;
  messages: number;
}

/** The holds in force. */
export const holds = async (sql: Sql): Promise<Hold[]> => [
  ...(await sql<Hold[]>`
    select hold, message_type, channel, timezone, held_at, held_until, held_by, reason,
      messages::integer
    from ops.message_holds_status()`),
];

const holdColumns: Column<Hold>[] = [
  { title: 'hold', value: (row) => String(row.hold), isNumber: true },
  { title: 'type', value: (row) => row.message_type ?? 'all' },
  { title: 'channel', value: (row) => row.channel ?? 'all' },
  { title: 'zone', value: (row) => row.timezone ?? 'all' },
  { title: 'since', value: (row) => stamp(row.held_at) },
  { title: 'until', value: (row) => stamp(row.held_until) },
  { title: 'held so far', value: (row) => String(row.messages), isNumber: true },
  { title: 'by', value: (row) => row.held_by },
  { title: 'reason', value: (row) => row.reason, isFlexible: true },
];

export const formatHolds = (rows: Hold[]): string =>
  rows.length === 0 ? 'nothing is held\n' : formatTable(rows, holdColumns);

export interface Suppression {
  state: string | null;
  reason: string | null;
  changed_at: Date | null;
  /** What was turned off by a link. */
  unsubscribed_from: { type: string; since: string }[];
}

/** What is known of an address; the state is null when messages may be sent there. */
export async function suppressionOf(sql: Sql, address: string): Promise<Suppression> {
  const [row] = await sql<Suppression[]>`
    select address_states.state, address_states.reason, address_states.changed_at,
      array(
        select jsonb_build_object('type', message_type, 'since', unsubscribed_at)
        from app_private.address_optouts
        where address_optouts.address_hash = known.hash
        order by message_type
      ) as unsubscribed_from
    from (select app_private.address_hash(${address})) as known (hash)
    left join app_private.address_states on address_states.address_hash = known.hash`;
  if (row === undefined) throw new Error('one row was expected');
  return row;
}

/** What is known of an address, for people. */
export function describeSuppression(row: Suppression): string {
  const state =
    row.state === null
      ? `messages are sent there${row.reason === null ? '' : `: ${row.reason}`}`
      : `${row.state} since ${stamp(row.changed_at)}: ${row.reason}`;
  const types = row.unsubscribed_from.map(
    ({ type, since }) => `unsubscribed from ${type} since ${stamp(new Date(since))}`,
  );
  return `${[state, ...types].join('\n')}\n`;
}

export const suppress = (sql: Sql, address: string, reason: string) =>
  sql`select ops.suppress_address(${address}, ${reason})`;

export const lift = (sql: Sql, address: string, reason: string, type: string | undefined) =>
  sql`select ops.lift_suppression(${address}, ${reason}, ${type ?? null})`;
