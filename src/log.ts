import { pino } from 'pino';
import { PinoPretty } from 'pino-pretty';

/** Where secrets could stand in what is logged; they never reach the stream. */
const redact = [
  'password',
  'token',
  '*.password',
  '*.token',
  '*.refreshToken',
  '*.accessToken',
  '*.authorization',
  '*.email',
];

/**
 * The log of one process: JSON lines on stderr, or readable lines when stderr is a
 * terminal. Results go to stdout and are never mixed with it.
 */
export function createLog(name: string, level: string) {
  const destination =
    process.stderr.isTTY || process.env.GW_LOG_PRETTY === '1'
      ? PinoPretty({ destination: 2, ignore: 'pid,hostname', sync: true, singleLine: true })
      : pino.destination({ dest: 2, sync: true });
  return pino({ name, level, redact: { paths: redact, censor: '[redacted]' } }, destination);
}

export type Log = ReturnType<typeof createLog>;
