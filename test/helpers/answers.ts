import type { Sql, Transaction } from '../../src/database/connect.ts';
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
