/** A message as a worker claims it. */
export interface Message {
  message_id: string;
  user_id: string;
  message_type: string;
  delivery_date: string;
  email: string | null;
  full_name: string;
  message_content: string;
  idempotency_key: string;
  /** Whether an earlier attempt may have reached the receiver. */
  was_attempted: boolean;
  /** ISO 8601, exactly as the job carries it. */
  scheduled_send_time: string;
}

/** What became of one attempt. */
export interface Attempt {
  /** SENT: accepted. RETRYING: may succeed later. FAILED: never will. */
  status: 'SENT' | 'RETRYING' | 'FAILED';
  /** HTTP status, where there was an answer. */
  code?: number;
  /** The answer, at most 4 KB of UTF-8. */
  body?: string;
  error?: string;
}

/** A way out of the system. */
export interface Channel {
  /** Where messages go, for people. */
  readonly description: string;
  /** Delivers a batch; the answers are in the batch's order. Never rejects. */
  deliver(messages: readonly Message[]): Promise<Attempt[]>;
  close(): Promise<void>;
}

/** What every channel says of a message. */
export function payloadOf(message: Message): Record<string, unknown> {
  return {
    idempotencyKey: message.idempotency_key,
    messageType: message.message_type,
    deliveryDate: message.delivery_date,
    scheduledSendTime: message.scheduled_send_time,
    to: { userId: message.user_id, email: message.email, name: message.full_name },
    content: message.message_content,
  };
}
