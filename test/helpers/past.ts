import type { Sql, Transaction } from '../../src/postgres/connect.ts';

/** Runs statements of a superuser without triggers: these would set created_at to now. */
async function withoutTriggers(sql: Transaction, work: () => PromiseLike<unknown>): Promise<void> {
  await sql`set local session_replication_role = replica`;
  await work();
  await sql`set local session_replication_role = origin`;
}

/** As if the user had joined then: 2026-06-08T09:00Z. */
export async function joinedAt(sql: Transaction, userId: string, at: string): Promise<void> {
  await withoutTriggers(
    sql,
    () => sql`update app_public.users set created_at = ${at}::text::timestamptz
      where id = ${userId}`,
  );
}

export interface PastTask {
  created: string;
  done?: string;
}

/** Tasks that were made, and done, at instants of the past. Resolves with their ids. */
export async function pastTasks(
  sql: Transaction,
  userId: string,
  tasks: readonly PastTask[],
): Promise<string[]> {
  let ids: string[] = [];
  await withoutTriggers(sql, async () => {
    const rows = await sql<{ id: string }[]>`
      insert into app_public.tasks (user_id, title, status, created_at, completed_at, updated_at)
      select ${userId}, 'Task', case when done is null then 'todo' else 'done' end, created, done,
        coalesce(done, created)
      from jsonb_to_recordset(${sql.json(tasks.map((task) => ({ ...task })))})
        as given (created timestamptz, done timestamptz)
      returning id`;
    ids = rows.map(({ id }) => id);
  });
  return ids;
}

/** Lets a user have the weekly digest. */
export const wantDigest = (sql: Sql | Transaction, userId: string) => sql`
  update app_public.user_settings set weekly_digest = true where user_id = ${userId}`;
