import { createHash } from 'node:crypto';
import PostalMime, { type Email } from 'postal-mime';
import type { ReturnedMessage, ReturnPaths } from './return-path.ts';

/** What a returned mail reports, in the generic format of delivery events. */
export interface ReturnedEvent {
  id: string;
  event: 'delivered' | 'deferred' | 'bounced' | 'complained' | 'unsubscribed';
  /** Of a bounce: whether the address will never take mail. */
  permanent?: boolean;
  timestamp: string;
  reason: string;
  message: ReturnedMessage;
}

/** A mail that is no report about a message of ours, and why. */
export interface NoReport {
  problem: string;
}

type Fields = Map<string, string>;

/** The groups of header fields of a report part (RFC 3464, RFC 5965), folded lines joined. */
function groupsOf(text: string): Fields[] {
  return text
    .replace(/\r\n/g, '\n')
    .split(/\n{2,}/)
    .map((group) => {
      const lines = group.replace(/\n[ \t]+/g, ' ').split('\n');
      return new Map(
        lines.flatMap((line) => {
          const [, name, value] = /^([!-9;-~]+):[ \t]*(.*)$/.exec(line) ?? [];
          return name === undefined ? [] : [[name.toLowerCase(), (value ?? '').trim()]];
        }),
      );
    })
    .filter(({ size }) => size > 0);
}

/** A part of a multipart/report. */
function partOf(mail: Email, type: string): string | undefined {
  const part = mail.attachments.find(({ mimeType }) => mimeType === type);
  return part === undefined ? undefined : String(part.content);
}

/** `smtp; 550 5.1.1 no such user` without the name of its kind. */
const withoutKind = (value: string | undefined): string =>
  (value ?? '').replace(/^[\w-]+\s*;\s*/, '');

/** What a DSN says of one receiver: RFC 3464, 2.3. */
function statusOf(
  fields: Fields,
): Pick<ReturnedEvent, 'event' | 'permanent' | 'reason'> | undefined {
  const [status = ''] = /\b[245]\.\d{1,3}\.\d{1,3}\b/.exec(fields.get('status') ?? '') ?? [];
  const said = withoutKind(fields.get('diagnostic-code'));
  // With code and enhanced code in front, as a mail server says them.
  const code = /^[245]\d\d/.exec(said)?.[0] ?? `${status.slice(0, 1) || '5'}50`;
  const rest = said.replace(/^[245]\d\d[ -]?/, '').replace(/^[245]\.\d{1,3}\.\d{1,3}[ ]?/, '');
  const reason = [code, status, rest].filter((part) => part !== '').join(' ');
  switch ((fields.get('action') ?? '').toLowerCase()) {
    case 'failed':
      return { event: 'bounced', permanent: !status.startsWith('4'), reason };
    case 'delayed':
      return { event: 'deferred', reason };
    case 'delivered':
    case 'relayed':
    case 'expanded':
      return { event: 'delivered', reason };
    default:
      return undefined;
  }
}

/** What an ARF report says: RFC 5965, 3.1, and RFC 6650. */
function feedbackOf(fields: Fields): Pick<ReturnedEvent, 'event' | 'reason'> | undefined {
  const type = (fields.get('feedback-type') ?? '').toLowerCase();
  const reason = `feedback: ${type}`;
  if (['abuse', 'fraud', 'virus'].includes(type)) return { event: 'complained', reason };
  if (type.startsWith('opt-out')) return { event: 'unsubscribed', reason };
  return undefined;
}

/**
 * Reads a mail that came to the return path, or from a feedback loop.
 *
 * Which message it is about, its signed return path says: it stands in the headers of the mail,
 * or of the message that it returns. Whatever else the mail says of addresses is not believed.
 */
export async function readReturnedMail(
  content: Buffer,
  paths: ReturnPaths,
): Promise<ReturnedEvent | NoReport> {
  let mail: Email;
  try {
    mail = await PostalMime.parse(content, {
      forceRfc822Attachments: true,
      attachmentEncoding: 'utf8',
    });
  } catch {
    return { problem: 'it cannot be read as mail' };
  }
  const status = partOf(mail, 'message/delivery-status');
  const feedback = partOf(mail, 'message/feedback-report');
  // The first group of a DSN is about the mail server, the next ones about receivers. A message
  // of ours has one.
  const said =
    status !== undefined
      ? groupsOf(status)
          .map(statusOf)
          .find((found) => found !== undefined)
      : feedback !== undefined
        ? groupsOf(feedback)
            .map(feedbackOf)
            .find((found) => found !== undefined)
        : undefined;
  if (said === undefined) {
    const isReport = status !== undefined || feedback !== undefined;
    return { problem: isReport ? 'it reports nothing of use' : 'it is no report of a mail server' };
  }
  const places = [
    ...mail.headerLines.map(({ line }) => line),
    feedback ?? '',
    ...['text/rfc822-headers', 'message/rfc822', 'message/global'].map(
      (type) => partOf(mail, type) ?? '',
    ),
  ];
  const message = paths.find(places.join('\n'));
  if (message === undefined) return { problem: 'no return path of ours stands in it' };
  const at = Date.parse(mail.date ?? '');
  const isSane = Math.abs(Date.now() - at) < 300 * 86_400_000;
  return {
    id: createHash('sha256')
      .update(mail.messageId ?? content)
      .digest('hex'),
    ...said,
    timestamp: new Date(isSane ? Math.min(at, Date.now()) : Date.now()).toISOString(),
    message,
  };
}
