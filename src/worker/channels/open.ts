import type { Config } from '../../config.ts';
import type { Channel } from './channel.ts';
import { FileChannel } from './file.ts';
import { HttpChannel } from './http.ts';
import { PushChannel } from './push.ts';
import { SmtpChannel } from './smtp.ts';

/**
 * The channel that the environment names: SMTP, a webhook, or else a file, which production has to ask for.
 *
 * @param outbox the file
 */
export function openChannel(config: Config, outbox: string): Channel {
  const { GW_DELIVERY_URL: url } = config;
  if (url === undefined || url === 'file:') return new FileChannel(outbox);
  return openUrl(config, url);
}

/** The channels beside it to which messages may be routed: vendors, and push. */
export function openVendors(config: Config): Channel[] {
  const { GW_VAPID_KEY: key, GW_VAPID_SUBJECT: subject } = config;
  const vendors = config.GW_DELIVERY_VENDORS.map(({ name, url }) => openUrl(config, url, name));
  if (key === undefined || subject === undefined) return vendors;
  return [...vendors, new PushChannel({ ...paceOf(config), key, subject })];
}

function openUrl(config: Config, url: string, name?: string): Channel {
  const { GW_MAIL_FROM: from, GW_DKIM_KEY: key, GW_DKIM_SELECTOR: selector } = config;
  const named = name === undefined ? {} : { name };
  if (/^smtp/i.test(url) && from !== undefined) {
    const dkim = key === undefined || selector === undefined ? undefined : { key, selector };
    return new SmtpChannel(url, { ...paceOf(config), ...named, from, dkim });
  }
  return new HttpChannel(url, { ...paceOf(config), ...named, secret: config.GW_DELIVERY_SECRET });
}

const paceOf = (config: Config): { concurrency: number; timeoutMs: number } => ({
  concurrency: config.GW_DELIVERY_CONCURRENCY,
  timeoutMs: config.GW_DELIVERY_TIMEOUT_MS,
});
