import { documentOf } from './document.ts';

/** A message as claim_messages() returns it: the request, committed before the call. */
export interface Message {
  job_id: string;
  message_id: string;
  user_id: string;
  /** ISO 8601. */
  scheduled_send_time: string;
  message_type: string;
  delivery_date: string;
  email: string | null;
  full_name: string;
  message_subject: string;
  message_content: string;
  idempotency_key: string;
  /** How many attempts there were before. */
  attempt: number;
  /** Whether an earlier attempt may have reached the receiver. */
  was_attempted: boolean;
  /** Whether users can turn messages of this type off. */
  is_optional: boolean;
  /** Where the user can say that they do not want such messages; there may be no such place. */
  unsubscribe_url?: string | undefined;
  /** The language of the text, BCP 47; English unless it says so. */
  locale?: string | null | undefined;
  /** What mail shows, without the layout; null: the text. */
  message_html?: string | null | undefined;
  layout_id?: number | null | undefined;
  /** The HTML around message_html. */
  layout?: string | undefined;
  /** To whom mail servers return it; to its sender, unless given. */
  return_path?: string | undefined;
  /** Where it goes, unless by e-mail. */
  endpoints?: readonly Endpoint[] | null | undefined;
}

/** A row of app_public.user_endpoints. */
export interface Endpoint {
  id: string;
  address: string;
  keys: Record<string, string> | null;
}

/** What became of one attempt. */
export interface Attempt {
  /**
   * SENT: accepted. REFUSED: app_private.answer_rules say what that means. A channel that
   * knows it says RETRYING (may succeed later) or FAILED (never will) itself.
   */
  status: 'SENT' | 'REFUSED' | 'RETRYING' | 'FAILED';
  /**
   * Where it was refused: address or compose before the call; response; connect, login,
   * MAIL FROM, RCPT TO or DATA of a mail server.
   */
  stage?: string;
  /** HTTP or SMTP status, when there was a response. */
  code?: number;
  /** The response, at most 4 KB of UTF-8. */
  body?: string;
  error?: string;
  /** The name that the receiver has for an accepted message. */
  provider_message_id?: string;
  /** What the receiver asked for with Retry-After. */
  retry_after_seconds?: number;
  /** The message may have been delivered although no good response came. */
  is_uncertain?: boolean;
  /** Ids of endpoints that the receiver says are gone. */
  gone?: string[];
}

/** The receiver has not said all that it had to say, within the time. */
export class Unanswered extends Error {
  readonly code = 'ETIMEDOUT';

  constructor() {
    super('no response');
  }
}

/** A way by which messages leave the system. */
export interface Channel {
  /** Which row of app_private.delivery_channels has its limits. */
  readonly name: string;
  /** By which those who take its messages know the sender, where they have to; see delivery_channels. */
  readonly publicKey?: string | undefined;
  /** Where messages go, for people. */
  readonly description: string;
  /** How many calls may be in flight at once. */
  readonly concurrency: number;
  /** How many messages one call takes. */
  readonly messagesPerCall: number;
  /** Delivers messages; the results are in their order. Never rejects. */
  deliver(messages: readonly Message[]): Promise<Attempt[]>;
  /** Ends what is open, calls in flight too: their outcome is uncertain. */
  close(): Promise<void>;
}

/** What every channel says of a message. */
export function payloadOf(message: Message): Record<string, unknown> {
  return {
    idempotencyKey: message.idempotency_key,
    messageType: message.message_type,
    deliveryDate: message.delivery_date,
    scheduledSendTime: message.scheduled_send_time,
    to: {
      userId: message.user_id,
      email: message.email,
      name: message.full_name,
      ...(message.endpoints == null
        ? {}
        : { addresses: message.endpoints.map(({ address }) => address) }),
    },
    subject: message.message_subject,
    content: message.message_content,
    ...(message.message_html == null ? {} : { html: documentOf(message) }),
    // Left out of JSON when there is none.
    unsubscribeUrl: message.unsubscribe_url,
  };
}
