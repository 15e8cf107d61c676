import { type Mutant, sqlFunction } from '../mutant.ts';

const walk = 'db/schema/row-level-security';
const catalogue = 'db/schema/catalogue';
const prove = 'ops/prove';
const proveFaults = 'ops/prove-faults';

/** A policy of users' own rows that became another one. */
const otherPolicy = (table: string, using: string): string =>
  `alter policy own on app_public.${table} using (${using})`;

export const mutants: Mutant[] = [
  {
    fault: 'rows older than a year are open to everybody',
    statement: otherPolicy(
      'tasks',
      `user_id = app_hidden.current_app_user_id() or created_at < now() - interval '1 year'`,
    ),
    tests: [walk, catalogue],
  },
  {
    fault: 'rows of one status are open to everybody',
    statement: otherPolicy(
      'goals',
      `user_id = app_hidden.current_app_user_id() or status = 'achieved'`,
    ),
    tests: [walk, catalogue],
  },
  {
    fault: 'rows whose optional column is null are open to everybody',
    statement: otherPolicy(
      'lists',
      'user_id = app_hidden.current_app_user_id() or project_id is null',
    ),
    tests: [walk, catalogue],
  },
  {
    fault: 'a policy compares with a setting that every session may change',
    statement: otherPolicy('habits', `user_id::text = current_setting('app.user', true)`),
    tests: [walk, catalogue],
  },
  {
    fault: 'a table has no row-level security',
    statement: 'alter table app_public.chat_vectors disable row level security',
    tests: [walk, catalogue],
  },
  {
    fault: 'a second policy opens what the first closed',
    statement: 'create policy shared on app_public.reflections for select to app_user using (true)',
    tests: [walk, catalogue],
  },
  {
    fault: 'app_anonymous may read snapshots of everybody',
    statement: `create policy nobody on app_public.snapshots for select to app_anonymous using (true);
      grant select on app_public.snapshots to app_anonymous`,
    tests: [walk, catalogue, 'docs/roles'],
  },
  {
    fault: 'a user may write rows in the name of others',
    statement: `alter policy own on app_public.projects with check (true);
      grant insert (user_id) on app_public.projects to app_user`,
    tests: [walk, catalogue],
  },
  {
    fault: 'a user may close their account by an update',
    statement: 'grant update (deleted_at) on app_public.users to app_user',
    tests: [walk, catalogue, 'docs/roles', 'db/identity/users'],
  },
  {
    fault: 'a user may change the tier that they pay for',
    statement: 'grant update (tier) on app_public.subscriptions to app_user',
    tests: ['db/billing/billing', 'docs/roles', catalogue],
  },
  {
    fault: 'a partition can be read by itself',
    statement: `grant usage on schema app_partitions to app_user;
      grant select on app_partitions.tasks_h00 to app_user`,
    tests: [walk, catalogue, 'docs/roles', 'ops/lint'],
  },
  ...['tasks', 'goals', 'habits', 'habit_logs', 'reflections'].map((table): Mutant => {
    const isSubquery = !['tasks', 'goals'].includes(table);
    return {
      fault: `take_snapshot() counts the ${table} of everybody`,
      file: sqlFunction('app_public/take_snapshot'),
      find: isSubquery
        ? `from app_public.${table} where user_id = caller`
        : `from app_public.${table}\n    where user_id = caller`,
      replace: `from app_public.${table}`,
      tests: ['db/planner/progress'],
    };
  }),
  {
    fault: 'consume_usage() counts for somebody else',
    file: sqlFunction('app_public/consume_usage'),
    find: `  where subscriptions.user_id = caller
    -- bigint`,
    replace: `  where subscriptions.user_id is not null
    -- bigint`,
    tests: ['db/billing/billing'],
  },
  {
    fault: 'insights() answers without a user',
    file: sqlFunction('app_public/insights'),
    find: `  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
`,
    replace: '',
    tests: ['db/observability/query-cache', 'api/insights'],
  },
  {
    fault: 'a view of weekly summaries shows those of everybody',
    statement: `create or replace view app_public.weekly_summaries
      with (security_invoker = false) as
      select user_id, week_start, tasks_completed::integer as tasks_completed,
        tasks_total::integer as tasks_total, avg_mood,
        reflections_count::integer as reflections_count
      from app_private.mv_user_weekly_summary`,
    tests: ['db/planner/progress'],
  },
  {
    fault: 'a condition of the caller is tried on rows of others',
    statement: 'alter view app_public.my_activity_summary reset (security_barrier)',
    tests: ['db/observability/observability', catalogue],
  },
  {
    fault: 'the prover is content with a declaration that matches nothing',
    file: 'src/toolkit/prove/report.ts',
    find: '    if (this.stale.length > 0) return false;\n',
    replace: '',
    tests: [prove],
  },
  {
    fault: 'the prover does not look for declarations that match nothing',
    file: 'src/toolkit/prove/prove.ts',
    find: '  if (only === undefined && options.objects === undefined) report.finish();\n',
    replace: '',
    tests: [prove],
  },
  {
    fault: 'the prover leaves procedures out',
    file: 'src/toolkit/prove/arguments.ts',
    find: "and prokind in ('f', 'p')",
    replace: "and prokind = 'f'",
    tests: [proveFaults],
  },
  {
    fault: 'the prover does not try rows that differ in their status',
    file: 'src/toolkit/prove/relations.ts',
    find: 'for (const variant of [undefined, ...variantsOf(relation)]) {',
    replace: 'for (const variant of [undefined, ...variantsOf(relation).slice(0, 0)]) {',
    tests: [proveFaults],
  },
  {
    fault: 'the prover takes nothing from procedures',
    file: 'src/toolkit/prove/functions.ts',
    find: '  const { returnsRows } = routine;\n',
    replace: '  const returnsRows = true;\n',
    tests: [proveFaults],
  },
];
