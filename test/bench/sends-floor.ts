import process from 'node:process';
import { connect } from '../../src/postgres/connect.ts';
import type { Message } from '../../src/worker/channels/channel.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';

/*
 * The least that a sender can do by hand: claim a batch with FOR UPDATE SKIP LOCKED and
 * commit that, make the calls, write the results in one statement. No retries, no limits, no
 * look at the user's wishes, nothing that notices a dead worker.
 */
const [url = '', vendorUrl = ''] = process.argv.slice(2);
const lanes = 3;
const sql = connect(url, { max: lanes });
const channel = new HttpChannel(vendorUrl, { concurrency: 32, timeoutMs: 10_000 });

async function lane(): Promise<void> {
  for (;;) {
    const messages = await sql<Message[]>`
      with due as (
        select user_id, id, scheduled_send_time from app_public.message_logs
        where stage = 'open' and status = 'SCHEDULED'
          and scheduled_send_time <= now() and scheduled_send_time > now() - interval '1 year'
        order by scheduled_send_time
        limit 500
        for update skip locked
      )
      update app_public.message_logs
      set status = 'SENDING', attempted_at = clock_timestamp()
      from due
      inner join app_public.users on users.id = due.user_id
      where message_logs.user_id = due.user_id and message_logs.id = due.id
        and message_logs.scheduled_send_time = due.scheduled_send_time
      returning message_logs.id as message_id, message_logs.user_id,
        message_logs.scheduled_send_time::text, message_logs.message_type,
        message_logs.delivery_date::text, users.email, users.first_name as full_name,
        message_logs.message_subject, message_logs.message_content,
        message_logs.idempotency_key, message_logs.retry_count as attempt,
        false as was_attempted, true as is_optional`;
    if (messages.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      continue;
    }
    const attempts = await channel.deliver(messages);
    const results = messages.map(({ user_id, message_id, scheduled_send_time }, index) => ({
      user_id,
      message_id,
      scheduled_send_time,
      ...attempts[index],
    }));
    await sql`
      update app_public.message_logs
      set status = result.status, api_response_code = result.code,
        api_response_body = result.body, actual_send_time = clock_timestamp()
      from jsonb_to_recordset(${sql.json(results)}) as result (
        user_id uuid, message_id uuid, scheduled_send_time timestamptz, status text,
        code integer, body text)
      where message_logs.user_id = result.user_id and message_logs.id = result.message_id
        and message_logs.scheduled_send_time = result.scheduled_send_time`;
  }
}

process.on('disconnect', () => process.exit(0));
await sql`select 1`;
process.send?.('ready');
await Promise.all(Array.from({ length: lanes }, lane));
