import type { Config } from '../../config.ts';
import { EXIT, GwError } from '../../errors.ts';
import type { Channel } from './channel.ts';
import { FileChannel } from './file.ts';
import { HttpChannel } from './http.ts';
import { SmtpChannel } from './smtp.ts';

/**
 * The channel that the environment names: SMTP, a webhook, or else a file.
 *
 * @param outbox the file
 * @throws GwError with exit code 2 in production without a receiver: a message in a file of one
 *   machine would count as sent
 */
export function openChannel(config: Config, outbox: string): Channel {
  const {
    GW_DELIVERY_URL: url,
    GW_DELIVERY_CONCURRENCY: concurrency,
    GW_DELIVERY_TIMEOUT_MS: timeoutMs,
    GW_MAIL_FROM: from,
  } = config;
  if (url === undefined && config.NODE_ENV === 'production') {
    throw new GwError('GW_DELIVERY_URL is not set, so messages would go to a file', {
      hint: 'Set it to where messages go: https://…, or smtp://…',
      exitCode: EXIT.usage,
    });
  }
  if (url === undefined) return new FileChannel(outbox);
  if (/^smtp/i.test(url) && from !== undefined) {
    return new SmtpChannel(url, { concurrency, timeoutMs, from });
  }
  return new HttpChannel(url, { concurrency, timeoutMs, secret: config.GW_DELIVERY_SECRET });
}
