import type { Config } from '../../config.ts';
import type { Channel } from './channel.ts';
import { FileChannel } from './file.ts';
import { HttpChannel } from './http.ts';
import { SmtpChannel } from './smtp.ts';

/**
 * The channel that the environment names: SMTP, a webhook, or else a file, which production has to ask for.
 *
 * @param outbox the file
 */
export function openChannel(config: Config, outbox: string): Channel {
  const {
    GW_DELIVERY_URL: url,
    GW_DELIVERY_CONCURRENCY: concurrency,
    GW_DELIVERY_TIMEOUT_MS: timeoutMs,
    GW_MAIL_FROM: from,
  } = config;
  if (url === undefined || url === 'file:') return new FileChannel(outbox);
  if (/^smtp/i.test(url) && from !== undefined) {
    const { GW_DKIM_KEY: key, GW_DKIM_SELECTOR: selector } = config;
    const dkim = key === undefined || selector === undefined ? undefined : { key, selector };
    return new SmtpChannel(url, { concurrency, timeoutMs, from, dkim });
  }
  return new HttpChannel(url, { concurrency, timeoutMs, secret: config.GW_DELIVERY_SECRET });
}
