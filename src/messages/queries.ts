import type { Sql } from '../postgres/connect.ts';
import { lineWidth } from '../terminal/output.ts';
import { type Column, formatColumns, formatTable } from '../terminal/table.ts';
import { stamp } from '../terminal/values.ts';
import { type Filters, findUser } from './filters.ts';

export interface Step {
  step: number;
  at: Date | null;
  topic: string;
  detail: string;
}

/** Why a user's message of a type and local date was, will be, or was not sent. */
export const explain = async (
  sql: Sql,
  userId: string,
  type: string,
  date: string,
): Promise<Step[]> => [
  ...(await sql<Step[]>`
    select step, at, topic, detail
    from ops.explain_message(${userId}, ${type}, ${date}::text::date)
    order by step`),
];

export const formatSteps = (steps: Step[]): string =>
  formatColumns(
    steps.map(({ at, topic, detail }) => [stamp(at), topic, detail]),
    lineWidth(),
  );

export interface Listed {
  message_id: string;
  user_id: string;
  message_type: string;
  delivery_date: string;
  status: string;
  scheduled_send_time: Date;
  actual_send_time: Date | null;
  retry_count: number;
  api_response_code: number | null;
  error_message: string | null;
}

/** Messages, the latest first; addresses in errors are hidden. */
export async function list(sql: Sql, filters: Filters, limit: number): Promise<Listed[]> {
  const userId = filters.user === undefined ? null : await findUser(sql, filters.user);
  if (filters.type !== undefined) await sql`select app_private.check_message_type(${filters.type})`;
  return [
    ...(await sql<Listed[]>`
      select id as message_id, user_id, message_type, delivery_date::text, status,
        scheduled_send_time, actual_send_time, retry_count, api_response_code,
        app_private.without_addresses(error_message, 500) as error_message
      from app_private.find_messages(${filters.status ?? null}, ${filters.type ?? null},
        ${filters.date ?? null}::text::date, ${userId}, ${filters.since ?? null},
        ${filters.message ?? null})
      order by scheduled_send_time desc, user_id, id
      limit ${limit}`),
  ];
}

const listColumns: Column<Listed>[] = [
  { title: 'due', value: (row) => stamp(row.scheduled_send_time) },
  { title: 'type', value: (row) => row.message_type },
  { title: 'date', value: (row) => row.delivery_date },
  { title: 'status', value: (row) => row.status },
  { title: 'tries again', value: (row) => String(row.retry_count), isNumber: true },
  { title: 'message', value: (row) => row.message_id },
  { title: 'user', value: (row) => row.user_id, isFlexible: true },
  { title: 'error', value: (row) => row.error_message ?? '', isFlexible: true },
];

export const formatList = (rows: Listed[]): string => formatTable(rows, listColumns);

export interface Simulated {
  /** With changes: whether it is so only before them, or only after. */
  difference: 'before' | 'after' | null;
  /** The start of an hour; for one user the instant. */
  at: Date;
  timezone: string;
  message_type: string;
  delivery_date: string;
  messages: number;
  /** Of these, those whose address takes none. */
  suppressed: number;
  held: number;
  planned: number;
  sent: number;
  stopped: number;
}

/**
 * What goes out by the rules between two instants.
 *
 * @param changes what of the user would be other, by the names of columns
 */
export const simulate = async (
  sql: Sql,
  range: { from: Date; to: Date },
  userId: string | null,
  changes: Record<string, string | null>,
): Promise<Simulated[]> => [
  ...(await sql<Simulated[]>`
    select difference, at, timezone, message_type, delivery_date::text,
      messages::integer, suppressed::integer, held::integer, planned::integer, sent::integer, stopped::integer
    from ops.simulate_messages(${range.from}, ${range.to}, ${userId}, ${sql.json(changes)})`),
];

const count = (title: string, value: (row: Simulated) => number): Column<Simulated> => ({
  title,
  value: (row) => String(value(row)),
  isNumber: true,
});

export function formatSimulated(rows: Simulated[]): string {
  const columns: Column<Simulated>[] = [
    ...(rows.some(({ difference }) => difference !== null)
      ? [{ title: 'only', value: (row: Simulated) => row.difference ?? '' }]
      : []),
    { title: 'goes out', value: ({ at }) => stamp(at) },
    { title: 'zone', value: (row) => row.timezone, isFlexible: true },
    { title: 'type', value: (row) => row.message_type },
    { title: 'date', value: (row) => row.delivery_date },
    count('messages', (row) => row.messages),
    count('suppressed', (row) => row.suppressed),
    count('held', (row) => row.held),
    count('planned', (row) => row.planned),
    count('sent', (row) => row.sent),
    count('stopped', (row) => row.stopped),
  ];
  const total = (value: (row: Simulated) => number): number =>
    rows.reduce((sum, row) => sum + value(row), 0);
  const types = [...new Set(rows.map((row) => row.message_type))].sort();
  const ofType = (type: string): string =>
    `  ${type}: ${total((row) => (row.message_type === type ? row.messages : 0))}\n`;
  const ends = rows.some(({ difference }) => difference !== null)
    ? `${total((row) => (row.difference === 'before' ? row.messages : 0))} only before, ` +
      `${total((row) => (row.difference === 'after' ? row.messages : 0))} only after\n`
    : `${total((row) => row.messages)} messages: ${total((row) => row.planned)} planned, ` +
      `${total((row) => row.sent)} sent, ${total((row) => row.stopped)} stopped, ` +
      `${total((row) => row.suppressed)} to suppressed addresses\n` +
      (types.length > 1 ? types.map(ofType).join('') : '');
  return `${rows.length === 0 ? '' : formatTable(rows, columns)}${ends}`;
}

export interface ChannelState {
  channel: string;
  messages_per_second: number | null;
  max_attempts: number;
  circuit: string;
  failures: number;
  open_since: Date | null;
  next_probe: Date | null;
  /** Limits of its own for the addresses of a domain, as example.com 20/s. */
  domains: string | null;
}

/** The limits and circuits of all channels. */
export const channels = async (sql: Sql): Promise<ChannelState[]> => [
  ...(await sql<ChannelState[]>`
    select name as channel, messages_per_second, max_attempts, circuit, failures,
      opened_at as open_since, probe_after as next_probe,
      (
        select string_agg(domain || ' ' || domain_limits.messages_per_second || '/s', ', '
          order by domain)
        from app_private.domain_limits
        where domain_limits.channel = delivery_channels.name
      ) as domains
    from app_private.delivery_channels
    order by name`),
];

export const formatChannels = (rows: ChannelState[]): string =>
  formatTable(rows, [
    { title: 'channel', value: (row) => row.channel },
    {
      title: 'per second',
      value: (row) => String(row.messages_per_second ?? 'no limit'),
      isNumber: true,
    },
    { title: 'attempts', value: (row) => String(row.max_attempts), isNumber: true },
    { title: 'circuit', value: (row) => row.circuit },
    { title: 'failures', value: (row) => String(row.failures), isNumber: true },
    { title: 'open since', value: (row) => stamp(row.open_since) },
    { title: 'next probe', value: (row) => stamp(row.next_probe) },
    { title: 'domains', value: (row) => row.domains ?? '' },
  ]);
