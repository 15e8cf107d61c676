import type { Sql, Transaction } from '../../src/postgres/connect.ts';

export interface Planned {
  type: string;
  /** The local date that it belongs to. */
  date: string;
  /** The instant at which it is due, as 2026-03-08T07:30:00Z. */
  at: string;
}

/**
 * Plans as if it were that instant, and as if nothing had been scheduled before it; resolves
 * with how many messages that made.
 */
export async function plan(sql: Sql | Transaction, now: string): Promise<number> {
  await sql`delete from app_private.message_schedule`;
  await sql`
    select app_private.schedule_messages(array_agg(id), ${now}::text::timestamptz)
    from app_public.users`;
  const [row] = await sql`
    select app_private.plan_due_messages(${now}::text::timestamptz) as count`;
  return row?.count;
}

/** What is planned for a user. */
export const plannedFor = async (sql: Sql | Transaction, userId: string): Promise<Planned[]> => [
  ...(await sql<Planned[]>`
    select message_type as type, delivery_date::text as date,
      to_char(scheduled_send_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as at
    from app_public.message_logs
    where user_id = ${userId}
    order by delivery_date, message_type`),
];

/** How many rows each place has that a message leaves a row in. */
export async function traces(sql: Sql | Transaction) {
  const [row] = await sql`
    select (select count(*)::int from app_private.message_ledger) as ledger,
      (select count(*)::int from app_public.message_logs) as logs,
      (select count(*)::int from pgboss.job where name = 'message-send') as jobs`;
  return row;
}
