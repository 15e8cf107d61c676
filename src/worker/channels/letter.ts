import { createHash } from 'node:crypto';
import type { SendMailOptions } from 'nodemailer';
import type { Mailbox } from '../../mailbox.ts';
import { wordsOf } from '../../messages/words.ts';
import type { Message } from './channel.ts';
import { documentOf } from './document.ts';

/**
 * A message as mail: text, and the same as HTML. The Message-ID is the same for every
 * attempt, so that a receiver can drop repetitions.
 */
export function letterOf(message: Message, from: Mailbox, to: string): SendMailOptions {
  const { message_subject: subject, message_content: content, unsubscribe_url: link } = message;
  const words = wordsOf(message.locale);
  return {
    from,
    to: { name: withoutControls(message.full_name), address: to },
    // Not read from headers: these have one receiver, whatever stands in a name.
    envelope: { from: message.return_path ?? from.address, to: [to] },
    subject: withoutControls(subject),
    messageId: messageIdOf(message.idempotency_key, from),
    date: new Date(),
    text: link === undefined ? content : `${content}\n\n-- \n${words.unsubscribe}: ${link}\n`,
    html: documentOf(message),
    headers: { 'Auto-Submitted': 'auto-generated', ...listHeaders(link) },
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** The key is hashed: it has the user's id in it. */
function messageIdOf(key: string, from: Mailbox): string {
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 40);
  return `<${hash}@${from.address.slice(from.address.lastIndexOf('@') + 1)}>`;
}

/** RFC 2369, and RFC 8058, which wants https. */
function listHeaders(link: string | undefined): Record<string, string> {
  if (link === undefined) return {};
  return {
    'List-Unsubscribe': `<${link}>`,
    ...(link.startsWith('https:') ? { 'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click' } : {}),
  };
}

/** A line break in a name would begin another header. */
const withoutControls = (text: string): string => text.replace(/\p{Cc}+/gu, ' ').trim();
