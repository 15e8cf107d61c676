import { type Mutant, sqlFunction } from '../mutant.ts';

const outcomes = 'src/worker/channels/outcomes.ts';
const smtp = 'src/worker/channels/smtp.ts';
const sends = 'src/worker/message-sends.ts';
const webhook = ['worker/outcomes', 'worker/webhook'];

export const mutants: Mutant[] = [
  {
    fault: 'a gateway that timed out is said to have delivered nothing',
    file: outcomes,
    find: 'new Set([408, 502, 504])',
    replace: 'new Set([408, 502])',
    tests: webhook,
  },
  {
    fault: 'a broken connection is said to have delivered nothing',
    file: outcomes,
    find: "  'UND_ERR_CONNECT_TIMEOUT',\n",
    replace: "  'UND_ERR_CONNECT_TIMEOUT',\n  'UND_ERR_SOCKET',\n  'ECONNRESET',\n",
    tests: webhook,
  },
  {
    fault: 'a connection that was refused is said to have perhaps delivered',
    file: outcomes,
    find: "  'ECONNREFUSED',\n",
    replace: '',
    tests: webhook,
  },
  {
    fault: 'Retry-After as a date is not understood',
    file: outcomes,
    find: 'Math.max(0, (at - Date.now()) / 1000)',
    replace: '0',
    tests: webhook,
  },
  {
    fault: 'Retry-After is not read',
    file: outcomes,
    find: '    ...(seconds === undefined ? {} : { retry_after_seconds: seconds }),\n',
    replace: '',
    tests: webhook,
  },
  {
    fault: 'a pause of the worker counts as the silence of the receiver',
    file: 'src/postgres/silence.ts',
    find: 'passed += Math.min(now - before, 2 * part);',
    replace: 'passed += now - before;',
    tests: ['worker/outcomes'],
  },
  {
    fault: 'each attempt has a key of its own',
    file: 'src/worker/channels/http.ts',
    find: "'idempotency-key': message.idempotency_key,",
    replace: "'idempotency-key': `${message.idempotency_key}:${message.attempt}`,",
    tests: webhook,
  },
  {
    fault: 'the signature does not cover the time',
    file: 'src/worker/channels/http.ts',
    find: '`${id}.${timestamp}.${body}`',
    replace: '`${id}.${body}`',
    tests: webhook,
  },
  {
    fault: 'mail that broke off in its content is said to be not delivered',
    file: smtp,
    find: "  return { status: 'RETRYING', error: text, is_uncertain: hasBegun };",
    replace: "  return { status: 'RETRYING', error: text, is_uncertain: false };",
    tests: ['worker/smtp'],
  },
  {
    fault: 'mail that took too long in its content is said to be not delivered',
    file: smtp,
    find: '            is_uncertain: call.hasBegun,',
    replace: '            is_uncertain: false,',
    tests: ['worker/smtp'],
  },
  {
    fault: 'a session that a server ends after the content is certain',
    file: smtp,
    find: '(!isOfMessage && hasBegun ?',
    replace: '(isOfMessage && hasBegun ?',
    tests: ['worker/smtp'],
  },
  {
    fault: 'a wrong password is said of the connection',
    file: smtp,
    find: "command.startsWith('AUTH')",
    replace: "command.startsWith('PASS')",
    tests: ['worker/smtp'],
  },
  {
    fault: 'a password goes over the network in clear text',
    file: smtp,
    find: 'requireTLS: auth !== undefined && !secure && !isLoopback(host)',
    replace: 'requireTLS: false',
    tests: ['worker/smtp', 'cli/delivery-environment'],
  },
  {
    fault: 'a result that was recorded is recorded twice',
    file: sqlFunction('app_private/record_send_results'),
    find: `      and message_logs.status <> 'SENT'
      and (decided`,
    replace: '      and (decided',
    tests: ['db/messages/messages', 'worker/delivery'],
  },
  {
    fault: 'a late failure undoes a newer attempt',
    file: sqlFunction('app_private/record_send_results'),
    find: ' and message_logs.retry_count = decided.attempt))',
    replace: '))',
    tests: ['db/messages/messages', 'worker/delivery'],
  },
  {
    fault: 'a doubt is forgotten at the next failure',
    file: sqlFunction('app_private/record_send_results'),
    find: '        else message_logs.uncertain_since\n',
    replace: '        else null\n',
    tests: ['db/messages/results'],
  },
  {
    fault: 'the last attempt is one too many',
    file: sqlFunction('app_private/decide_results'),
    find: 'result.attempt + tries.counted >= channel.max_attempts',
    replace: 'result.attempt + tries.counted > channel.max_attempts',
    tests: ['db/messages/messages', 'worker/delivery'],
  },
  {
    fault: 'a receiver may ask for a wait without end',
    file: sqlFunction('app_private/retry_wait'),
    find: 'least(coalesce(p_asked_seconds, 0), 86400)',
    replace: 'coalesce(p_asked_seconds, 0)',
    tests: ['db/messages/messages', ...webhook],
  },
  {
    fault: 'the circuit does not open',
    file: sqlFunction('app_private/note_channel_health'),
    find: 'channel.failures + p_failed < channel.failures_to_open',
    replace: 'channel.failures + p_failed < channel.failures_to_open * 1000',
    tests: ['db/messages/channels', 'worker/recovery'],
  },
  {
    fault: 'results are lost when the database is away',
    file: sends,
    find: 'if (ending.aborted || Date.now() > deadline) throw error;',
    replace: 'throw error;',
    tests: ['worker/recovery', 'worker/shutdown'],
  },
  {
    fault: 'a worker that stops keeps what it has not started',
    file: sends,
    find: "  stopping.addEventListener('abort', giveBack, { once: true });\n",
    replace: '',
    tests: ['worker/shutdown'],
  },
  {
    fault: 'a worker that was taken for dead goes on sending',
    file: sends,
    find: '          if (!isMine) return;\n',
    replace: '',
    tests: ['worker/alive'],
  },
];
