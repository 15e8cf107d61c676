import { type Mutant, otherCheck } from '../mutant.ts';

const limits = 'src/api/limits.ts';
const api = ['api/limits', 'docs/graphql'];
const checks = ['db/schema/check-borders'];
const documents = ['api/documents'];

const limit = (fault: string, find: string, replace: string, tests = documents): Mutant => ({
  ...{ fault, file: limits, find, replace, tests },
});

const change = (file: string, fault: string, find: string, replace: string, tests: string[]) => ({
  ...{ fault, file: `src/${file}`, find, replace, tests },
});

export const mutants: Mutant[] = [
  {
    fault: 'lists nest ten deep',
    file: limits,
    find: 'listDepth: 4',
    replace: 'listDepth: 10',
    tests: api,
  },
  {
    fault: 'fields nest a hundred deep',
    file: limits,
    find: 'depth: 12',
    replace: 'depth: 100',
    tests: api,
  },
  {
    fault: 'a field stands ten times inside itself',
    file: limits,
    find: 'selfDepth: 2',
    replace: 'selfDepth: 10',
    tests: api,
  },
  {
    fault: 'a page has 1,000 rows',
    file: limits,
    find: 'pageRows: 100',
    replace: 'pageRows: 1_000',
    tests: api,
  },
  {
    fault: 'a request has 10 MB',
    file: limits,
    find: 'bodyBytes: 1_000_000',
    replace: 'bodyBytes: 10_000_000',
    tests: api,
  },
  {
    fault: 'a statement runs for a minute',
    file: limits,
    find: 'statementSeconds: 5',
    replace: 'statementSeconds: 60',
    tests: ['api/errors', ...api],
  },
  {
    fault: 'a response has 10,000 groups',
    file: limits,
    find: 'groups: 1_000',
    replace: 'groups: 10_000',
    tests: ['api/aggregates', ...api],
  },
  {
    fault: 'a page may be larger than 100 rows',
    file: 'src/api/pages/page-size.ts',
    find: 'Number(asked) > limits.pageRows)',
    replace: 'Number(asked) > limits.pageRows * 100)',
    tests: api,
  },
  {
    fault: 'a page has no limit unless one is asked for',
    file: 'src/api/pages/page-size.ts',
    find: 'return last == null ? limits.pageRows : null;',
    replace: 'return null;',
    tests: api,
  },
  {
    fault: 'metrics are shown to whoever asks through a proxy that says Via only',
    file: 'src/metrics/access.ts',
    find: '|^via$',
    replace: '',
    tests: ['api/metrics-access'],
  },
  {
    fault: 'metrics are shown to every address',
    file: 'src/metrics/access.ts',
    find: '/^(::ffff:)?127\\.|^::1$/.test(address)',
    replace: 'address !== undefined',
    tests: ['api/metrics-access'],
  },
  {
    fault: 'metrics are shown to whoever has any token',
    file: 'src/metrics/access.ts',
    find: 'return timingSafeEqual(digest(given), digest(token));',
    replace: "return given !== '';",
    tests: ['api/metrics-access'],
  },
  {
    fault: 'requests wait for the pool without end',
    file: 'src/api/routes.ts',
    find: 'pool.waitingCount >= options.maxWaiting',
    replace: 'pool.waitingCount >= 100_000',
    tests: ['api/outage', 'api/rolling-restart'],
  },
  {
    fault: 'a title has 5,000 characters',
    statement: otherCheck(
      'app_public.tasks',
      'tasks_title_check',
      'length(title) between 1 and 5000',
    ),
    tests: [...checks, 'db/planner/tasks'],
  },
  {
    fault: 'a description has 200,000 characters',
    statement: otherCheck(
      'app_public.projects',
      'projects_description_check',
      'length(description) <= 200000',
    ),
    tests: checks,
  },
  {
    fault: 'a name may be white space only',
    statement: otherCheck(
      'app_public.habits',
      'habits_name_check',
      'length(name) between 1 and 200',
    ),
    tests: checks,
  },
  {
    fault: 'a mood is from 0 to 5',
    statement: otherCheck(
      'app_public.reflections',
      'reflections_mood_score_check',
      'mood_score between 0 and 5',
    ),
    tests: checks,
  },
  {
    fault: 'the week may start on day 8',
    statement: otherCheck(
      'app_public.user_settings',
      'user_settings_week_starts_on_check',
      'week_starts_on between 1 and 8',
    ),
    tests: checks,
  },
  {
    fault: 'an e-mail address has 2,540 characters',
    statement: otherCheck(
      'app_public.users',
      'users_email_check',
      "length(email) <= 2540 and email ~ '^[^@\\s[:cntrl:]]+@[^@\\s[:cntrl:]]+\\.[^@\\s[:cntrl:]]+$'",
    ),
    tests: [...checks, 'db/identity/users'],
  },
  {
    fault: 'a first name may hold line breaks',
    statement: otherCheck(
      'app_public.users',
      'users_first_name_check',
      'length(first_name) between 1 and 100',
    ),
    tests: [...checks, 'db/identity/users'],
  },
  {
    fault: 'a message is retried ten thousand times',
    statement: otherCheck(
      'app_private.delivery_channels',
      'delivery_channels_max_attempts_check',
      'max_attempts between 1 and 10000',
    ),
    tests: checks,
  },
  limit('a document selects 100,000 fields', 'selections: 1_500', 'selections: 100_000'),
  limit('a document selects 10,000 objects', 'objects: 100', 'objects: 10_000'),
  change(
    'api/documents/plugin.ts',
    'long documents are read as they come',
    'isWorthTurn(query) && parser?.knows(query) !== true',
    'isWorthTurn(query) && parser === undefined',
    documents,
  ),
  limit('a document has 1 MB', 'documentBytes: 64_000', 'documentBytes: 1_000_000'),
  limit('an operation asks for a million rows', 'rows: 12_000', 'rows: 2_000_000'),
  limit('a response has a million values', ' values: 60_000', ' values: 5_000_000'),
  limit('a query has a thousand fields', 'rootFields: 50', 'rootFields: 1_000'),
  limit('a mutation has a hundred fields', 'mutationFields: 10', 'mutationFields: 100'),
  limit('a mutation signs in ten times', 'signIns: 1', 'signIns: 10'),
  limit('variables have a million values', 'variableValues: 20_000', 'variableValues: 1_000_000'),
  limit('a response has 100 MB', 'responseBytes: 10_000_000', 'responseBytes: 100_000_000', [
    'api/shares',
  ]),
  change(
    'api/documents/selections.ts',
    'a fragment counts once, however often it is spread',
    'selections += Math.max(inner.selections, 1);',
    'selections += 1;',
    documents,
  ),
  change(
    'api/documents/selections.ts',
    'a fragment that nobody spreads does not count',
    'selections += definition.selectionSet.selections.length;',
    'selections += 0;',
    documents,
  ),
  change(
    'api/documents/cost.ts',
    'a page whose length is a variable counts as one row',
    "if (typeof asked === 'number' && asked >= 0)",
    'if (asked !== undefined)',
    documents,
  ),
  change(
    'api/documents/sizes.ts',
    'brackets in strings count',
    'else if (code === quote) at = endOfString(text, at);',
    'else if (code === quote) at += 0;',
    documents,
  ),
  change(
    'api/server.ts',
    'one user may have every connection',
    'Math.ceil(options.poolSize / 2)',
    'options.poolSize',
    ['api/shares'],
  ),
  change(
    'api/shares.ts',
    'what nobody waits for goes on',
    'cancelled ??= cancel(processID).catch(() => {});',
    'cancelled ??= undefined;',
    ['api/shares'],
  ),
  change(
    'api/unread.ts',
    'a client that reads nothing is waited for',
    'if (waiting.left === waiting.before) response.socket?.destroy();',
    '',
    ['api/unread'],
  ),
  change(
    'client-address.ts',
    'whoever says an address is believed',
    'plain(proxyaddr(request, trust))',
    'plain(proxyaddr(request, () => true))',
    ['api/exposure'],
  ),
  change(
    'api/rates.ts',
    'each IPv6 address counts for itself',
    'isIPv6(address)',
    "address === ''",
    ['api/exposure'],
  ),
  change(
    'api/documents/plugin.ts',
    'signing in is not counted',
    'if (signIns > 0 && request !== undefined) {',
    'if (signIns > 9 && request !== undefined) {',
    ['api/exposure'],
  ),
  change(
    'commands/serve.ts',
    'a production API shows its schema',
    "NODE_ENV === 'production' ? 'off' : 'on'",
    "NODE_ENV === 'production' ? 'on' : 'on'",
    ['api/exposure'],
  ),
  change(
    'api/preset.ts',
    'other operations run where persisted ones are to run alone',
    'allowUnpersistedOperation: !operations.alone',
    'allowUnpersistedOperation: true',
    ['api/exposure'],
  ),
  change(
    'log.ts',
    'what a package prints is no line of the log',
    'log[level](format(...what));',
    'process.stderr.write(`${format(...what)} of ${level} ${log.level}\\n`);',
    ['api/exposure'],
  ),
  change(
    'watchdog.ts',
    'a process whose event loop stands still goes on',
    'patienceBeats = 18',
    'patienceBeats = 1_800',
    ['cli/watchdog'],
  ),
  change(
    'api/pages/orders.ts',
    'a connection has no order of its own',
    "typeof text !== 'string'",
    "typeof text !== 'number'",
    ['api/pages'],
  ),
  change(
    'api/pages/repair.ts',
    'the cursor of a row without a number says 0',
    "right: 'orderVal == null ? null : codec.fromPg(orderVal)'",
    "right: 'codec.fromPg( orderVal)'",
    ['api/pages'],
  ),
];
