import { type Mutant, sqlFunction } from '../mutant.ts';

const database = 'db/observability/live';
const progress = 'db/planner/progress';
const hub = 'src/api/live/hub.ts';

/** A trigger that somebody forgot. */
const withoutTrigger = (name: string, table: string, fault: string): Mutant => ({
  fault,
  statement: `drop trigger ${name} on app_public.${table}`,
  tests: [database, 'db/planner/activity', 'api/live'],
});

export const mutants: Mutant[] = [
  withoutTrigger(
    '_900_notify_insert',
    'user_dashboard_aggregates',
    'a new day of the dashboard is not told',
  ),
  withoutTrigger(
    '_900_notify_update',
    'user_dashboard_aggregates',
    'a changed day of the dashboard is not told',
  ),
  withoutTrigger(
    '_900_notify_delete',
    'user_dashboard_aggregates',
    'a day that leaves the dashboard is not told',
  ),
  withoutTrigger('_900_changes_insert', 'goals', 'a new goal is not in the activity'),
  withoutTrigger('_900_changes_delete', 'goals', 'a deleted goal is not in the activity'),
  withoutTrigger('_900_changes_update', 'habits', 'a changed habit is not in the activity'),
  withoutTrigger('_900_changes_delete', 'habit_logs', 'a deleted habit log is not in the activity'),
  withoutTrigger(
    '_900_changes_delete',
    'reflections',
    'a deleted reflection is not in the activity',
  ),
  {
    fault: 'an achieved task that is edited is completed again',
    file: sqlFunction('app_private/tg__changes'),
    find: " and pairs.old_row ->> 'status' <> 'done'\n",
    replace: '\n',
    tests: ['db/planner/activity', progress],
  },
  {
    fault: 'an update that changes nothing is activity',
    file: sqlFunction('app_private/tg__changes'),
    find: "    where (pairs.new_row - 'updated_at') is distinct from (pairs.old_row - 'updated_at');",
    replace: '    ;',
    tests: ['db/planner/activity', progress],
  },
  {
    fault: 'a change leaves the cached insights',
    file: sqlFunction('app_private/tg__changes'),
    find: '  perform app_private.invalidate_insights(changed);\n',
    replace: '',
    tests: ['db/planner/activity', 'api/insights'],
  },
  {
    fault: 'a change of a habit log leaves the cached insights',
    file: sqlFunction('app_private/tg_habit_logs__changes'),
    find: '  perform app_private.invalidate_insights(changed);\n',
    replace: '    null;\n',
    tests: ['db/planner/activity', 'api/insights'],
  },
  {
    fault: 'users are told who were watched once',
    file: sqlFunction('app_private/tg__changes'),
    find: `      into watched, keys
      from new_rows
      where (select live_users.expires_at from app_private.live_users
          where live_users.user_id = new_rows.user_id) > now();`,
    replace: `      into watched, keys
      from new_rows
      where exists (select from app_private.live_users
          where live_users.user_id = new_rows.user_id);`,
    tests: [database],
  },
  {
    fault: 'a notification is longer than the server takes',
    file: sqlFunction('app_private/notify_live'),
    find: '/ 6000 as part',
    replace: '/ 60000 as part',
    tests: [database],
  },
  {
    fault: 'a message whose status stays is told',
    file: sqlFunction('app_private/tg__notify'),
    find: "else format(rows_sql || ' except ' || rows_sql, 'new_rows', 'old_rows')",
    replace: "else format(rows_sql, 'new_rows')",
    tests: [database, 'api/live'],
  },
  {
    fault: 'a lease ends before it is renewed',
    file: sqlFunction('app_private/watch_live'),
    find: "interval '2 minutes'",
    replace: "interval '20 seconds'",
    tests: [database],
  },
  {
    fault: 'a subscription hears of other topics',
    file: hub,
    find: 'if (subscription.topic === topic) ',
    replace: '',
    tests: ['api/live-hub'],
  },
  {
    fault: 'made and then changed is changed',
    file: 'src/api/live/events.ts',
    find: "  if (later === 'UPDATE' && earlier === 'INSERT') return 'INSERT';\n",
    replace: '',
    tests: ['api/live-hub'],
  },
  {
    fault: 'what waits for a slow reader grows without end',
    file: hub,
    find: '      if (this.#waiting.size > maxWaiting) this.#many = true;\n',
    replace: '',
    tests: ['api/live-hub'],
  },
  {
    fault: 'a writer that was there before the watch is missed',
    file: 'src/api/live/leases.ts',
    find: '    if (writers.length > 0) this.#awaitWriters(client, users, writers);\n',
    replace: '',
    tests: ['api/live', 'api/live-listener'],
  },
  {
    fault: 'leases are not renewed',
    file: 'src/api/live/leases.ts',
    find: 'setInterval(() => void this.#renew(), everyMs)',
    replace: 'setInterval(() => {}, everyMs)',
    tests: ['api/live-listener'],
  },
  {
    fault: 'a socket outlives its token',
    file: 'src/api/live/sockets.ts',
    find: "    this.#closeAfter(peer, left, closeCodes.expired, 'token expired');\n",
    replace: '    void left;\n',
    tests: ['api/live-sockets'],
  },
  {
    fault: 'a subscription that ends makes no room',
    file: 'src/api/live/sockets.ts',
    find: '    if (left > 0) this.#operations.set(userId, left);\n    else this.#operations.delete(userId);\n',
    replace: '    void left;\n',
    tests: ['api/live'],
  },
];
