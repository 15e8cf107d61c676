import { expect } from 'vitest';
import type { Sql, Transaction } from '../../src/postgres/connect.ts';
import { createUser, type NewUser } from './database.ts';

export interface Step {
  at: Date | null;
  topic: string;
  detail: string;
}

export interface Planned extends NewUser {
  messageId: string;
  /** The local date of the message. */
  date: string;
}

/** The steps of an explanation. */
export const explain = async (
  sql: Sql | Transaction,
  user: string,
  date: string,
  type = 'BIRTHDAY',
): Promise<Step[]> => [
  ...(await sql<Step[]>`
    select at, topic, detail
    from ops.explain_message(${user}, ${type}, ${date}::text::date)
    order by step`),
];

/** What is said of a topic, in the order in which it is said. */
export const said = (steps: Step[], topic: string): string[] =>
  steps.filter((step) => step.topic === topic).map(({ detail }) => detail);

/** A user in UTC whose birthday is so many minutes from now. */
export async function bornAround(
  sql: Sql | Transaction,
  minutes: number,
  columns: Record<string, string | null> = {},
): Promise<NewUser & { date: string }> {
  const [due] = await sql<{ date: string; time: string; birthday: string }[]>`
    select at::date::text as date, to_char(at, 'HH24:MI:SS') as time,
      case when to_char(at, 'MM-DD') = '02-29' then '1988' else '1990' end
        || to_char(at, '-MM-DD') as birthday
    from (select now() at time zone 'UTC' + ${minutes}::integer * interval '1 minute')
      as moment (at)`;
  const { date = '', time = '', birthday = '' } = due ?? {};
  const user = await createUser(sql, { birthday_date: birthday, send_time: time, ...columns });
  return { ...user, date };
}

/** Such a user with the message planned, and queued when it is due. */
export async function planned(
  sql: Sql | Transaction,
  minutes = -1,
  columns: Record<string, string | null> = {},
): Promise<Planned> {
  const user = await bornAround(sql, minutes, columns);
  await sql`select app_private.plan_due_messages()`;
  const [row] = await sql<{ id: string }[]>`
    select id from app_public.message_logs where user_id = ${user.id}`;
  return { ...user, messageId: row?.id ?? 'not planned' };
}

/** Claims the message of a user as a worker does. */
export const claim = (sql: Sql | Transaction, user: NewUser) => sql`
  select claimed.*
  from (
    select jsonb_agg(jsonb_build_object('job_id', job_id, 'user_id', user_id,
      'message_id', id, 'scheduled_send_time', scheduled_send_time)) as jobs
    from app_public.message_logs
    where user_id = ${user.id}
      and job_id is not null
  ) as given
  cross join lateral app_private.claim_messages(given.jobs, 'http') as claimed`;

/** Claims the message of a user, and records what the receiver is to have answered. */
export async function attempt(
  sql: Sql | Transaction,
  user: NewUser,
  result: Record<string, string | number | boolean>,
): Promise<void> {
  const [claimed] = await claim(sql, user);
  if (claimed === undefined) throw new Error('nothing was claimed');
  const { job_id, user_id, message_id, scheduled_send_time, attempt: number } = claimed;
  const results = [
    { job_id, user_id, message_id, scheduled_send_time, attempt: number, ...result },
  ];
  await sql`select app_private.record_send_results(${sql.json(results)}, 'http')`;
}

/** Changes columns of a user, as the account's settings do. */
export const setUser = (sql: Transaction, id: string, columns: Record<string, string | boolean>) =>
  sql`update app_public.users set ${sql(columns)} where id = ${id}`;

/** Changes which messages a user wishes to get. */
export const setWishes = (
  sql: Transaction,
  id: string,
  columns: Record<string, string | boolean>,
) => sql`update app_public.user_settings set ${sql(columns)} where user_id = ${id}`;

/** The log of a user's message, and what persons have changed of it. */
export const logOf = async (sql: Transaction, user: Planned) => {
  const [row] = await sql`
    select message_logs.*, send_until > now() + interval '11 hours' as has_time,
      jsonb_path_query_array(attempts, '$[*] ? (exists (@.change))') as changes
    from app_public.message_logs where id = ${user.messageId}`;
  return row ?? {};
};

/** The jobs of a user's message. */
export const jobsOf = (sql: Transaction, user: Planned, queue = 'message-send') => sql`
  select id, state from pgboss.job
  where name = ${queue} and data ->> 'message_id' = ${user.messageId}`;

/** The message that a user's occasion belongs to. */
export const ledgerOf = (sql: Transaction, user: Planned) => sql`
  select message_id from app_private.message_ledger where user_id = ${user.id}`;

/** What the audit log said last. */
export const lastAudit = async (sql: Transaction) => {
  const [row] = await sql`select action, details from ops.audit_log order by id desc limit 1`;
  return row;
};

/** Makes a message wait for longer than any receiver remembers it. */
export async function lose(sql: Transaction, user: Planned): Promise<void> {
  await attempt(sql, user, { status: 'RETRYING', error: 'timed out', is_uncertain: true });
  await sql`
    update app_public.message_logs
    set uncertain_since = now() - interval '2 days' where id = ${user.messageId}`;
  expect(await claim(sql, user)).toEqual([]);
  expect(await logOf(sql, user)).toMatchObject({ status: 'UNKNOWN' });
}
