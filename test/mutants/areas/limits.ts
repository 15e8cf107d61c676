import { type Mutant, otherCheck } from '../mutant.ts';

const limits = 'src/api/limits.ts';
const api = ['api/limits', 'docs/graphql'];
const checks = ['db/schema/check-borders'];

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
    file: 'src/api/plugins.ts',
    find: 'Number(asked) > limits.pageRows)',
    replace: 'Number(asked) > limits.pageRows * 100)',
    tests: api,
  },
  {
    fault: 'a page has no limit unless one is asked for',
    file: 'src/api/plugins.ts',
    find: 'return last == null ? limits.pageRows : null;',
    replace: 'return null;',
    tests: api,
  },
  {
    fault: 'metrics are shown to whoever asks through a proxy that says Via only',
    file: 'src/metrics/access.ts',
    find: ", 'via'",
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
];
