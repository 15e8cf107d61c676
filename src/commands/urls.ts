import { loadConfig } from '../config.ts';
import { postgresUrlFault } from '../config-values.ts';
import { EXIT, GwError } from '../errors.ts';
import { locateDatabase } from '../server/locate.ts';
import { TlsFault, withTls } from '../tls.ts';

/** A URL, and where it came from, for errors. */
export interface Target {
  url: string;
  variable: string;
}

/**
 * What `--url` says.
 *
 * @throws GwError with exit code 2 for what is not a URL
 */
export function givenUrl(url: string): Target {
  const fault = postgresUrlFault(url);
  if (fault !== undefined) {
    throw new GwError(`--url ${fault}`, {
      hint: 'It looks like postgres://user@host:port/database.',
      exitCode: EXIT.usage,
    });
  }
  try {
    return { url: withTls(url), variable: '--url' };
  } catch (error) {
    if (!(error instanceof TlsFault)) throw error;
    throw new GwError(`--url ${error.message}`, { exitCode: EXIT.usage });
  }
}

/**
 * The connection that reading commands use: `--url`, else this checkout's, as gw_monitor.
 *
 * @throws GwError with exit code 2 for what is not a URL, 3 when there is no database
 */
export function monitorUrl(url?: string): Target {
  if (url !== undefined) return givenUrl(url);
  return { url: locateDatabase(loadConfig()).urls.monitor, variable: 'DATABASE_URL' };
}
