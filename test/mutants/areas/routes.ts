import { type Mutant, sqlFunction } from '../mutant.ts';

const routes = ['worker/routes'];
const push = ['worker/push'];
const variants = ['worker/variants'];
const endpoints = ['api/endpoints'];
const register = sqlFunction('app_public/register_push_endpoint');
const turns = sqlFunction('app_private/take_turns');
const permits = sqlFunction('app_private/take_send_permits');
const next = sqlFunction('app_private/next_route');
const composed = sqlFunction('app_private/compose_variants');

export const mutants: Mutant[] = [
  {
    fault: 'weights of vendors are ignored',
    file: sqlFunction('app_private/route_of'),
    find: '\n      / message_routes.weight',
    replace: '',
    tests: routes,
  },
  {
    fault: 'a vendor that is down keeps its users',
    file: sqlFunction('app_private/route_of'),
    find: 'app_private.why_not_sending(delivery_channels) is not null',
    replace: 'delivery_channels.name is null',
    tests: routes,
  },
  {
    fault: 'what may have been delivered goes by another vendor',
    file: next,
    find: 'and message_logs.uncertain_since is null',
    replace: 'and true',
    tests: routes,
  },
  {
    fault: 'a message that is refused goes by the same step again',
    file: next,
    find: 'present.step + (not p_is_beside)::integer',
    replace: 'present.step',
    tests: routes,
  },
  {
    fault: 'what the address refused is forgotten when the message goes on',
    file: sqlFunction('app_private/note_refused_addresses'),
    find: "message_logs.status = 'SENDING'",
    replace: "message_logs.status = 'FAILED'",
    tests: routes,
  },
  {
    fault: 'jobs of a stopped channel stand in the way of others',
    file: sqlFunction('app_private/take_send_jobs'),
    find: 'job.priority = -wanted.lane',
    replace: 'job.priority <= -wanted.lane',
    tests: routes,
  },
  {
    fault: 'a warm-up has no end of the day',
    file: permits,
    find: 'least(p_wanted, floor(available), room)',
    replace: 'least(p_wanted, floor(available))',
    tests: routes,
  },
  {
    fault: 'permits that no message used are lost',
    file: sqlFunction('app_private/return_send_permits'),
    find: 'counted - greatest(p_unused, 0)',
    replace: 'counted',
    tests: ['db/messages/channels'],
  },
  {
    fault: 'a domain gets more than its limit',
    file: turns,
    find: 'asking.place <= floor(asking.available)\n',
    replace: 'true\n',
    tests: routes,
  },
  {
    fault: 'a domain that is limited gets what is saved up, without end',
    file: turns,
    find: 'set permits = totals.available - totals.going',
    replace: 'set permits = totals.available',
    tests: routes,
  },
  {
    fault: 'a browser that is gone stays registered',
    file: sqlFunction('app_private/note_results'),
    find: "p_judged @? '$[*].gone[*]'",
    replace: 'false',
    tests: push,
  },
  {
    fault: 'a browser gets what it cannot verify',
    file: sqlFunction('app_private/endpoints_of'),
    find: 'p_public_key is null or',
    replace: 'true or',
    tests: push,
  },
  {
    fault: 'browsers that are gone hold the channel',
    file: 'src/worker/channels/push.ts',
    find: "rest[0] ?? { status: 'REFUSED', stage: 'gone',",
    replace: "rest[0] ?? { status: 'REFUSED', code: 410, stage: 'response',",
    tests: push,
  },
  {
    fault: 'a notification is shown twice when it is repeated',
    file: 'src/worker/channels/push.ts',
    find: "createHash('sha256').update(key)",
    replace: "createHash('sha256').update(key + String(Math.random()))",
    tests: push,
  },
  {
    fault: 'the worker posts where a user says',
    file: register,
    find: 'where host[1] || host[2] = origin',
    replace: 'where true or host[1] || host[2] = origin',
    tests: endpoints,
  },
  {
    fault: 'a host that ends like a push service is one',
    file: register,
    find: "right(host[2], length(split_part(origin, '*', 2))) = split_part(origin, '*', 2)",
    replace: "right(host[2], 9) = right(split_part(origin, '*', 2), 9)",
    tests: endpoints,
  },
  {
    fault: 'a browser keeps its former user',
    file: register,
    find: 'set user_id = excluded.user_id, keys',
    replace: 'set keys',
    tests: endpoints,
  },
  {
    fault: 'a user has as many browsers as he likes',
    file: register,
    find: 'limit most',
    replace: 'limit 1000',
    tests: endpoints,
  },
  {
    fault: 'a belated message says that it is today',
    file: composed,
    find: 'when found.is_belated and',
    replace: 'when false and',
    tests: variants,
  },
  {
    fault: 'both messages of a day are sent',
    file: composed,
    find: 'where found.instead is not null',
    replace: 'where false',
    tests: variants,
  },
  {
    fault: 'a message that is not sent stands for another one',
    file: composed,
    find: "and rivals.status not in ('CANCELED', 'FAILED', 'EXPIRED', 'SUPPRESSED')",
    replace: 'and true',
    tests: variants,
  },
  {
    fault: 'each batch sorts all that wait',
    file: sqlFunction('app_private/take_send_jobs'),
    find: 'order by job.created_on\n',
    replace: 'order by job.created_on, job.id\n',
    tests: ['db/messages/queue-reads'],
  },
];
