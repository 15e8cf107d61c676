import type { Sql } from '../../src/database/connect.ts';
import { createUser, type NewUser } from './database.ts';

export interface LogRow {
  user_id: string;
  status: string;
  retry_count: number;
  api_response_code: number | null;
  api_response_body: string | null;
  error_message: string | null;
  idempotency_key: string;
}

/** Makes users whose birthday is today in UTC and plans their messages, due already. */
export async function planDue(owner: Sql, count: number): Promise<NewUser[]> {
  const users: NewUser[] = [];
  for (let i = 0; i < count; i += 1) {
    users.push(
      await createUser(owner, {
        first_name: `Due${i}`,
        birthday_date: '1990-06-15',
        send_time: '09:00',
      }),
    );
  }
  await owner`select app_private.plan_due_messages('2026-06-15 09:30+00')`;
  // The planner was told another day; what it planned is due now.
  await owner`update pgboss.job set start_after = now() - interval '1 minute', keep_until = now() + interval '1 day'`;
  return users;
}

/** One such user. */
export async function planOne(owner: Sql): Promise<NewUser> {
  const [user] = await planDue(owner, 1);
  return user as NewUser;
}

export const logOf = async (owner: Sql, user: NewUser): Promise<LogRow> => {
  const [row] = await owner<LogRow[]>`
    select * from app_public.message_logs where user_id = ${user.id}`;
  return row as LogRow;
};

/** Makes retries and the discovery of dead workers quick; planned jobs copy these. */
export async function hurryQueue(owner: Sql): Promise<void> {
  await owner`
    update pgboss.queue
    set retry_delay = 1, retry_backoff = false, heartbeat_seconds = 2
    where name = 'message-send'`;
}
