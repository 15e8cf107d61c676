import { createHash } from 'node:crypto';
import { createTransport } from 'nodemailer';
import type { JobResult, JobWithMetadata, PgBoss } from 'pg-boss';
import { request } from 'undici';
import type { Config } from '../config.ts';
import { codeOf, EXIT, GwError, messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Mailbox } from '../mailbox.ts';

export const alertQueue = 'alert-notify';

/** What ops.notify_alert() puts into a job. */
export interface Notice {
  /** Of one change of one alert: whoever has seen it can drop it. */
  key: string;
  state: 'opened' | 'changed' | 'resolved' | 'flapping' | 'settled';
  check: string;
  object: string;
  level: 'warning' | 'critical';
  detail: string;
  remediation: string;
  raisedAt: string;
  resolvedAt: string | null;
  at: string;
}

/** `only`: the destination that has not got it yet, when others have. */
type NoticeJob = Notice & { only?: string };

export interface AlertDestination {
  name: string;
  /** For the log; without secrets. */
  description: string;
  /** Hands over notices, oldest first, as one. Throws when they were not accepted. */
  deliver(notices: Notice[]): Promise<void>;
}

const timeout = 15_000;

/** The same for the same notices, so that a receiver can drop a repetition. */
const idOf = (notices: Notice[]): string =>
  createHash('sha256')
    .update(notices.map(({ key }) => key).join('\n'))
    .digest('hex')
    .slice(0, 32);

const isOver = ({ resolvedAt }: Notice): boolean => resolvedAt !== null;

/** One line of a notice. */
function lineOf(notice: Notice): string {
  const { state, level, check, object, detail } = notice;
  const what = `${check}${object === '' ? '' : ` ${object}`}`;
  switch (state) {
    case 'resolved':
      return `resolved: ${what}`;
    case 'flapping':
      return `${level}: ${what} comes and goes; silent until it has stayed as it is for an hour: ${detail}`;
    case 'settled':
      return isOver(notice)
        ? `resolved for an hour now: ${what}`
        : `${level} for an hour now: ${what}: ${detail}`;
    default:
      return `${level}: ${what}: ${detail}`;
  }
}

/** The heaviest first thing that a person should read. */
function subjectOf(notices: Notice[]): string {
  const [first] = notices;
  if (notices.length === 1 && first !== undefined) return lineOf(first).replace(/\s+/g, ' ');
  const open = notices.filter((notice) => !isOver(notice));
  const critical = open.filter(({ level }) => level === 'critical').length;
  const parts = [
    [critical, 'critical'],
    [open.length - critical, 'warning'],
    [notices.length - open.length, 'resolved'],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .map(([count, name]) => `${count} ${name}`)
    .join(', ');
}

function textOf(notices: Notice[]): string {
  return notices
    .map((notice) => {
      const remedy = isOver(notice) || notice.remediation === '' ? '' : `\n  ${notice.remediation}`;
      return `${notice.at}  ${lineOf(notice)}${remedy}\n`;
    })
    .join('');
}

/** Posts JSON. `text` is what chat services show; the rest is for programs. */
export function webhook(url: string): AlertDestination {
  return {
    name: 'webhook',
    description: new URL(url).origin,
    async deliver(notices) {
      const id = idOf(notices);
      const response = await request(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': id },
        body: JSON.stringify({
          source: 'groundwork',
          id,
          text: `${subjectOf(notices)}\n${textOf(notices)}`,
          alerts: notices,
        }),
        headersTimeout: timeout,
        bodyTimeout: timeout,
        signal: AbortSignal.timeout(timeout),
      });
      await response.body.dump();
      if (response.statusCode < 200 || response.statusCode >= 300) {
        throw new Error(`the receiver answered ${response.statusCode}`);
      }
    },
  };
}

/**
 * Sends an e-mail.
 *
 * @param smtp smtp:// or smtps:// URL, with user and password where the server wants them
 */
export function email(smtp: string, from: Mailbox, to: string): AlertDestination {
  const transport = createTransport({
    url: smtp,
    connectionTimeout: timeout,
    greetingTimeout: timeout,
    socketTimeout: timeout,
  });
  return {
    name: 'email',
    description: new URL(smtp).host,
    async deliver(notices) {
      await transport.sendMail({
        from,
        to,
        subject: `[groundwork] ${subjectOf(notices).slice(0, 200)}`,
        text: textOf(notices),
        messageId: `<${idOf(notices)}@groundwork>`,
      });
    },
  };
}

/**
 * Where alerts go, by the environment.
 *
 * @throws GwError with exit code 2 for an address without a server
 */
export function alertDestinations(
  config: Pick<Config, 'GW_ALERT_URL' | 'GW_ALERT_EMAIL_TO' | 'GW_SMTP_URL' | 'GW_MAIL_FROM'>,
): AlertDestination[] {
  const destinations: AlertDestination[] = [];
  if (config.GW_ALERT_URL !== undefined) destinations.push(webhook(config.GW_ALERT_URL));
  if (config.GW_ALERT_EMAIL_TO !== undefined) {
    if (config.GW_SMTP_URL === undefined || config.GW_MAIL_FROM === undefined) {
      throw new GwError('GW_ALERT_EMAIL_TO needs GW_SMTP_URL and GW_MAIL_FROM', {
        hint: 'Say by which server, and from which address, alerts are sent.',
        exitCode: EXIT.usage,
      });
    }
    destinations.push(email(config.GW_SMTP_URL, config.GW_MAIL_FROM, config.GW_ALERT_EMAIL_TO));
  }
  return destinations;
}

/**
 * Delivers a batch as one notice to each destination. Where some accepted it and others did
 * not, only the others get it again.
 *
 * Its own failures are logged and retried, and never raised as alerts: those would have to
 * go the same way.
 */
export async function deliverNotices(
  jobs: readonly JobWithMetadata<NoticeJob>[],
  { boss, destinations, log }: { boss: PgBoss; destinations: AlertDestination[]; log: Log },
): Promise<JobResult[]> {
  const failed = new Map<string, { destination: string; error: string }[]>();
  const accepted = new Set<string>();
  for (const destination of destinations) {
    const mine = jobs
      .filter(({ data }) => data.only === undefined || data.only === destination.name)
      .sort((one, other) => Date.parse(one.data.at) - Date.parse(other.data.at));
    const notices = new Map(mine.map(({ data: { only: _, ...notice } }) => [notice.key, notice]));
    if (notices.size === 0) continue;
    try {
      await destination.deliver([...notices.values()]);
      for (const { id } of mine) accepted.add(id);
      log.info({ notices: notices.size, to: destination.description }, 'alerts announced');
    } catch (error) {
      const said = `${codeOf(error) ?? 'error'}: ${messageOf(error)}`;
      log.error({ error: said, to: destination.description }, 'alerts were not accepted');
      for (const { id } of mine) {
        failed.set(id, [...(failed.get(id) ?? []), { destination: destination.name, error: said }]);
      }
    }
  }
  if (destinations.length === 0) {
    log.warn({ notices: jobs.length }, 'alerts changed, and GW_ALERT_URL says nowhere to tell it');
  }
  return Promise.all(
    jobs.map(async ({ id, data }): Promise<JobResult> => {
      const errors = failed.get(id);
      if (errors === undefined) return { id, status: 'completed' };
      if (!accepted.has(id)) return { id, status: 'failed', output: { errors } };
      for (const { destination } of errors) {
        await boss.send(alertQueue, { ...data, only: destination }, { startAfter: 30 });
      }
      return { id, status: 'completed' };
    }),
  );
}

/** Starts delivering notices of alerts. */
export async function workAlerts(
  boss: PgBoss,
  { destinations, log }: { destinations: AlertDestination[]; log: Log },
): Promise<void> {
  await boss.work(
    alertQueue,
    { batchSize: 200, pollingIntervalSeconds: 2, includeMetadata: true, perJobResults: true },
    (jobs: JobWithMetadata<NoticeJob>[]) => deliverNotices(jobs, { boss, destinations, log }),
  );
}
