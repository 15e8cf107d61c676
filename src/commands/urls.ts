import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { locateDatabase } from '../server/locate.ts';

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
  if (URL.canParse(url) && /^postgres(ql)?:/.test(url)) return { url, variable: '--url' };
  throw new GwError('--url is not a postgres:// URL', { exitCode: EXIT.usage });
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
