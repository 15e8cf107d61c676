import type { Sql, Transaction } from '../../src/postgres/connect.ts';
import type { NewUser } from './database.ts';

export interface LogRow {
  user_id: string;
  status: string;
  retry_count: number;
  api_response_code: number | null;
  api_response_body: string | null;
  error_message: string | null;
  idempotency_key: string;
}

/** A user whose message is due. */
export interface DueUser extends NewUser {
  /** The local date of the message. */
  date: string;
  /** What every attempt carries. */
  key: string;
}

/**
 * Makes users whose birthday is today in UTC, to be told a minute ago: Due0, Due1, …
 * Nothing is planned.
 */
export async function createDue(owner: Sql | Transaction, count: number): Promise<DueUser[]> {
  const users = await owner<(NewUser & { date: string })[]>`
    insert into app_public.users (email, first_name, birthday_date, send_time)
    select gen_random_uuid() || '@example.com', 'Due' || number - 1,
      ('1988' || to_char(at, '-MM-DD'))::date, date_trunc('minute', at)::time
    from generate_series(1, ${count}) as number
    cross join (select now() at time zone 'UTC' - interval '1 minute') as moment (at)
    returning id, email, (now() at time zone 'UTC' - interval '1 minute')::date::text as date`;
  await owner`
    insert into app_public.user_settings (user_id, weekly_digest)
    select id, false from unnest(${users.map(({ id }) => id)}::uuid[]) as made (id)`;
  return users.map((user) => ({ ...user, key: `${user.id}:BIRTHDAY:${user.date}` }));
}

/** Makes users whose messages are planned, and have been due for a minute. */
export async function planDue(owner: Sql | Transaction, count: number): Promise<DueUser[]> {
  const users = await createDue(owner, count);
  await owner`select app_private.plan_due_messages()`;
  return users;
}

/** One such user. */
export async function planOne(owner: Sql | Transaction): Promise<DueUser> {
  const [user] = await planDue(owner, 1);
  return user as DueUser;
}

export const logOf = async (owner: Sql, user: NewUser): Promise<LogRow> => {
  const [row] = await owner<LogRow[]>`
    select * from app_public.message_logs where user_id = ${user.id}`;
  return row as LogRow;
};

/** Makes retries and the discovery of dead workers quick. Jobs copy the queue's options. */
export async function hurryQueue(owner: Sql): Promise<void> {
  await owner`
    update app_private.message_settings set worker_grace = '1 second'`;
  await owner`
    update app_private.delivery_channels
    set retry_base = '100 milliseconds', retry_cap = '1 second'`;
}
