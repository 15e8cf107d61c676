import { beforeAll, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import type { Role } from '../../../src/postgres/urls.ts';
import { become, createUser, rolledBack, useDatabase } from '../../helpers/database.ts';
import { patience } from '../../helpers/patience.ts';

/*
 * The plans of the queries that run all day, each on 100,000 rows: which index serves it, and
 * that nothing else is read.
 */
const db = useDatabase();
let user = '';

interface Hot {
  query: string;
  /** Whose plan it is; a user of the API unless it says otherwise. */
  as?: Role;
  /** The index that serves it; of a partitioned table, the parent's. */
  index: string | RegExp;
  /** How many partitions of which table are read. */
  partitions?: { of: string; count: number };
  /** A function whose only statement it is. */
  body?: true;
}

const oneOfTasks = { of: 'app_public.tasks', count: 1 };

const hot: Record<string, Hot> = {
  'tasks by status': {
    query: "select * from app_public.tasks where status = 'todo' order by updated_at desc limit 50",
    index: 'tasks_user_id_status_updated_at_idx',
    partitions: oneOfTasks,
  },
  'tasks by due date': {
    query: `select * from app_public.tasks
      where due_date between current_date and current_date + 7 order by due_date limit 50`,
    index: 'tasks_user_id_due_date_idx',
    partitions: oneOfTasks,
  },
  'overdue tasks': {
    query: `select * from app_public.tasks
      where due_date < current_date and status in ('todo', 'in_progress')
      order by due_date limit 50`,
    index: 'tasks_user_id_due_date_idx',
    partitions: oneOfTasks,
  },
  'search of tasks': {
    query: 'search_tasks',
    body: true,
    // Whichever begins with user_id: words are compared after the rows of others are out.
    index: /^tasks_(pkey|user_id_)/,
    partitions: oneOfTasks,
  },
  'tasks of a list': {
    query: `select * from app_public.tasks
      where list_id = '00000000-0000-4000-8000-000000000001' order by position_in_list`,
    index: 'tasks_user_id_list_id_position_in_list_idx_where_known',
    partitions: oneOfTasks,
  },
  'weekly summary': {
    query: 'select * from app_public.weekly_summaries order by week_start desc limit 12',
    index: /^(tasks|reflections)_user_id_/,
    partitions: oneOfTasks,
  },
  'recent activity': {
    query: `select * from app_public.user_activity
      where activity_date >= (now() at time zone 'UTC')::date - 7
        and activity_date <= (now() at time zone 'UTC')::date
      order by occurred_at desc limit 50`,
    index: 'user_activity_user_id_occurred_at_idx',
    // The eight days lie in one month or two, and DEFAULT may hold any.
    partitions: { of: 'app_public.user_activity', count: 3 },
  },
  'messages of a user': {
    query: `select id, message_type, status, scheduled_send_time from app_public.message_logs
      where scheduled_send_time > now() - interval '20 days'
        and scheduled_send_time < now()
      order by scheduled_send_time desc limit 50`,
    index: 'message_logs_user_id_scheduled_send_time_idx',
    partitions: { of: 'app_public.message_logs', count: 3 },
  },
  'birthdays of a day': {
    query: `select id from app_public.users
      where app_hidden.month_day(birthday_date) = 1230
        and birthday_date is not null and deleted_at is null`,
    as: 'readonly',
    index: 'users_birthday_idx_where_open',
  },
  'anniversaries of a day': {
    query: `select id from app_public.users
      where app_hidden.month_day(anniversary_date) = 1230
        and anniversary_date is not null and deleted_at is null`,
    as: 'readonly',
    index: 'users_anniversary_idx_where_open',
  },
  'recovery of messages': {
    query: `select user_id, id from app_public.message_logs
      where scheduled_send_time < now() - interval '15 minutes'
        and status in ('SCHEDULED', 'RETRYING', 'FAILED')
        and stage <> 'sent'`,
    as: 'owner',
    index: 'message_logs_stage_scheduled_send_time_idx_where_unsent',
  },
  'messages whose job is lost': {
    query: 'requeue_lost_messages',
    as: 'owner',
    body: true,
    index: 'message_logs_stage_scheduled_send_time_idx_where_unsent',
  },
  'slow queries of the week': {
    query: `select query_hash, avg_duration_ms, p95_duration_ms
      from app_private.query_performance_summary order by avg_duration_ms desc limit 10`,
    as: 'monitor',
    index: 'query_performance_summary_avg_duration_ms_idx',
  },
  'slowest measurements of today': {
    query: `select metric_name, query_hash, duration_ms from app_private.performance_metrics
      where "timestamp" >= now() - interval '1 hour' and "timestamp" < now()
      order by duration_ms desc limit 10`,
    as: 'monitor',
    index: 'performance_metrics_duration_ms_idx',
    partitions: { of: 'app_private.performance_metrics', count: 3 },
  },
};

beforeAll(async () => {
  const sql = db.as('owner');
  const created = await createUser(sql);
  user = created.id;
  await sql
    .unsafe(`
    insert into app_public.users (email, first_name, birthday_date, anniversary_date)
    select number || '@example.com', 'Test', date '1990-01-01' + number, date '2020-01-01' + number
    from generate_series(1, 999) as number;
    create temporary table numbered as
    select id, row_number() over (order by id = '${user}' desc) as number
    from app_public.users;
    insert into app_public.lists (user_id, id, name)
    values ('${user}', '00000000-0000-4000-8000-000000000001', 'Soon');
    insert into app_public.tasks (user_id, title, status, due_date, created_at, updated_at,
      list_id)
    select numbered.id, 'Write the report ' || n,
      (array['todo', 'in_progress', 'done', 'done', 'done'])[1 + n % 5],
      current_date + n % 60 - 30, now() - make_interval(hours => n % 98 * 20),
      now() - make_interval(mins => n * 20),
      case when numbered.number = 1 and n % 4 = 0
        then uuid '00000000-0000-4000-8000-000000000001' end
    from numbered
    cross join lateral generate_series(1, case numbered.number when 1 then 2098 else 98 end)
      as n;
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      message_content, scheduled_send_time, actual_send_time, status, idempotency_key)
    select numbered.id, gen_random_uuid(), 'BIRTHDAY', current_date, 'x', moment,
      case when is_sent then moment end, case when is_sent then 'SENT' else 'RETRYING' end, 'x'
    from numbered
    cross join generate_series(1, 100) as n
    -- One of a hundred, of every hour: a partition that has just begun has sent ones too.
    cross join lateral (select (numbered.number + n) % 100 <> 0) as outcome (is_sent)
    cross join lateral (select now() - make_interval(hours => n * 3)) as past (moment);
    insert into app_private.performance_metrics (metric_type, metric_name, duration_ms,
      query_hash, "timestamp")
    select 'query', 'select', n % 5000, 'hash' || n % 5000,
      now() - make_interval(secs => n / 40)
    from generate_series(1, 100000) as n;
    refresh materialized view app_private.mv_user_weekly_summary;
    select app_private.refresh_performance_views();
    analyze;
  `)
    .simple();
}, patience(60_000));

/** The statement of a function, with its parameters' values. */
async function bodyOf(sql: Transaction, name: string): Promise<string> {
  const [found] = await sql<{ prosrc: string }[]>`
    select prosrc from pg_proc where proname = ${name} and prolang <> 0`;
  return (found?.prosrc ?? '').replaceAll('search_tasks.query', "'report'");
}

interface Node {
  'Node Type': string;
  'Index Name'?: string;
  'Relation Name'?: string;
  Plans?: Node[];
}

const flatten = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(flatten)];

/** What a plan reads: scans, indexes (parents of partitions' own), and relations. */
async function planOf(sql: Transaction, { query, body, as }: Hot) {
  const text = body === true ? await bodyOf(sql, query) : query;
  if (as === undefined) await become(sql, user);
  else await sql.unsafe(`set local role gw_${as}`);
  const [row] = await sql.unsafe(`explain (format json) ${text}`);
  await sql`set local role none`;
  const nodes = flatten(row?.['QUERY PLAN'][0].Plan as Node);
  const names = nodes.flatMap((node) => node['Index Name'] ?? []);
  const roots = await sql<{ name: string }[]>`
    select distinct coalesce(pg_partition_root(pg_class.oid), pg_class.oid)::regclass::text as name
    from pg_class
    where relname = any (${names}) and relkind in ('i', 'I')`;
  // Of an empty DEFAULT partition, or of a month that began hours ago, that is right.
  const scanned = await sql<{ name: string }[]>`
    select relname as name from pg_class
    where relname = any (${nodes
      .filter((node) => node['Node Type'] === 'Seq Scan')
      .flatMap((node) => node['Relation Name'] ?? [])})
      and pg_relation_size(oid) > 512 * 1024`;
  return {
    sequential: scanned.map(({ name }) => name),
    indexes: roots.map(({ name }) => name.replace(/^.*\./, '')),
    relations: [...new Set(nodes.flatMap((node) => node['Relation Name'] ?? []))],
  };
}

test.each(Object.entries(hot))('%s: by its index and no scan', async (_name, query) => {
  await rolledBack(db.as('superuser'), async (sql) => {
    const plan = await planOf(sql, query);
    expect(plan.sequential).toEqual([]);
    const wanted = query.index;
    if (typeof wanted === 'string') expect(plan.indexes).toContain(wanted);
    else expect(plan.indexes).toContainEqual(expect.stringMatching(wanted));
    if (query.partitions === undefined) return;
    const partitions = await sql<{ name: string }[]>`
      select relname as name from pg_partition_tree(${query.partitions.of}::regclass)
      inner join pg_class on pg_class.oid = relid
      where isleaf`;
    const read = partitions.filter(({ name }) => plan.relations.includes(name));
    expect(read.length).toBeGreaterThan(0);
    expect(read.length).toBeLessThanOrEqual(query.partitions.count);
  });
});
