import { createHash } from 'node:crypto';
import type { Sql } from '../../src/postgres/connect.ts';

/** The id of the nth row of a kind, such as "task", that giveEverything() makes. */
export const idOf = (userId: string, what: string, n: number): string =>
  createHash('md5')
    .update(`${userId} ${what} ${n}`)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

/** What the connections are asked with that are functions. */
export const argumentsOf = (userId: string): Record<string, string> => ({
  insights: 'weeks: 12',
  searchTasks: 'query: "task"',
  searchChatVectors: `queryEmbedding: [${Array(1_536).fill(1)}], matchCount: 100`,
  compareSnapshots: `beforeId: "${idOf(userId, 'snapshot', 1)}", afterId: "${idOf(userId, 'snapshot', 2)}"`,
});

/**
 * Gives a user eight rows in every table whose rows they may read. Of each column that may be
 * empty some are, and instants come twice each: pages have nulls and ties to pass.
 *
 * @param sql a superuser's: rows that only triggers and jobs make are written, too
 */
export async function giveEverything(sql: Sql, userId: string): Promise<void> {
  const made = (what: string, n = 'n'): string => `md5('${userId} ${what} ' || ${n})::uuid`;
  // Whole weeks back, for the weekly figures.
  const at = `date_trunc('day', now()) + interval '0.123456 s' - n / 2 * interval '7 days'`;
  const day = `date '2030-05-01' + n`;
  const some = (value: string): string => `case when n % 2 = 0 then ${value} end`;
  const rows = (table: string, columns: string, values: string): string =>
    `insert into app_public.${table} (user_id, ${columns})
    select '${userId}', ${values} from generate_series(1, 8) as n;`;
  const all = [
    rows(
      'projects',
      'id, name, archived_at, created_at, updated_at',
      `${made('project')}, 'P ' || n, ${some(at)}, ${at}, ${at}`,
    ),
    rows(
      'lists',
      'id, name, project_id, list_order, created_at',
      `${made('list')}, 'L ' || n, ${some(made('project', '1'))}, n / 3, ${at}`,
    ),
    rows(
      'tasks',
      'id, title, project_id, list_id, position_in_list, due_date, status, priority, completed_at, created_at, updated_at',
      `${made('task')}, 'Task ' || n % 3, ${some(made('project', '1'))}, ${some(made('list', '1'))},
      ${some('n / 4')}, ${some(`date '2030-05-01' + n / 4`)},
      case when n % 2 = 0 then 'done' else 'todo' end,
      (array['low', 'medium', 'high', 'urgent'])[1 + n % 4], ${some(at)}, ${at}, ${at}`,
    ),
    rows(
      'goals',
      'id, title, status, target_date, created_at',
      `${made('goal')}, 'G ' || n, case when n > 4 then 'active' else 'paused' end,
      ${some(day)}, ${at}`,
    ),
    rows(
      'habits',
      'id, name, archived_at, created_at',
      `${made('habit')}, 'H ' || n, ${some(at)}, ${at}`,
    ),
    rows(
      'habit_logs',
      'habit_id, log_date, created_at',
      `${made('habit', 'n % 2')}, ${day}, ${at}`,
    ),
    rows(
      'reflections',
      'id, reflection_date, kind, mood_score, created_at',
      `${made('reflection')}, date '2030-05-01' + n / 3,
      (array['daily', 'morning', null])[1 + n % 3], ${some('1 + n % 5')}, ${at}`,
    ),
    rows(
      'goals_tasks',
      'goal_id, task_id, created_at',
      `${made('goal', '1')}, ${made('task')}, ${at}`,
    ),
    rows(
      'goals_tasks',
      'goal_id, task_id, created_at',
      `${made('goal', 'n + 1')}, ${made('task', '1')}, ${at}`,
    ),
    ...['task', 'goal', 'habit'].flatMap((of) => [
      rows(
        `reflection_${of}s`,
        `reflection_id, ${of}_id, created_at`,
        `${made('reflection', '1')}, ${made(of)}, ${at}`,
      ),
      rows(
        `reflection_${of}s`,
        `reflection_id, ${of}_id, created_at`,
        `${made('reflection', 'n + 1')}, ${made(of, '1')}, ${at}`,
      ),
    ]),
    rows(
      'user_activity',
      'activity_date, occurred_at, action, entity_type, entity_id',
      `date '2030-05-01' + n / 3, ${at}, 'created', 'task', ${made('task')}`,
    ),
    rows(
      'user_dashboard_aggregates',
      'agg_date, tasks_created, last_updated',
      `${day}, n / 3, ${at}`,
    ),
    rows(
      'user_endpoints',
      'id, kind, address, label, created_at',
      `${made('endpoint')}, 'sms', gen_random_uuid()::text, 'E ' || n, ${at}`,
    ),
    rows(
      'snapshots',
      'id, name, content, taken_at',
      `${made('snapshot')}, 'S ' || n, jsonb_build_object('a', 1, 'b', 2, 'c', 3, 'd', 4), ${at}`,
    ),
    rows(
      'integrations',
      'provider, credential_reference, created_at',
      `'provider-' || n, 'vault://secrets/' || n, ${at}`,
    ),
    rows('chats', 'id, title, created_at, updated_at', `${made('chat')}, 'C ' || n, ${at}, ${at}`),
    rows(
      'chat_messages',
      'id, chat_id, role, content, created_at',
      `${made('message')}, ${made('chat', '1')}, 'user', 'M ' || n, ${at}`,
    ),
    rows(
      'chat_vectors',
      'chat_id, message_id, content, embedding, created_at',
      `${made('chat', '1')}, ${some(made('message', '2'))}, 'V ' || n,
      array_fill(n::real, array[1536])::public.vector, ${at}`,
    ),
    rows('workspaces', 'name, created_at, updated_at', `'W ' || n, ${at}, ${at}`),
    rows(
      'project_visualizations',
      'project_id, slide_number, title, created_at',
      `${made('project', '1')}, n, 'V ' || n, ${at}`,
    ),
    rows(
      'message_logs',
      'id, message_type, delivery_date, message_content, scheduled_send_time, idempotency_key, status, actual_send_time',
      `${made('log')}, 'BIRTHDAY', ${day}, 'Hello', ${at}, 'key-' || n,
      case when n % 2 = 0 then 'SENT' else 'SCHEDULED' end, ${some(at)}`,
    ),
    rows('digests', 'week_start, content, created_at', `date '2030-05-06' + 7 * n, '{}', ${at}`),
  ];
  await sql.unsafe(`set session_replication_role = replica; ${all.join('\n')}
    set session_replication_role = origin;
    refresh materialized view app_private.mv_user_weekly_summary;
    refresh materialized view app_private.user_activity_summary;`);
}
