import { z } from 'zod';

export const topics = [
  ...(['task', 'goal', 'habit', 'habit_log', 'reflection'] as const),
  ...(['chat_message', 'dashboard', 'message'] as const),
] as const;
export type Topic = (typeof topics)[number];

/** Topics whose subscribers may ask for a part of the key: of a habit's logs, a chat's messages. */
export const partTopics: readonly Topic[] = ['habit_log', 'chat_message'];

/** What happened to a row; MANY when there were too many to name. */
export type ChangeKind = 'INSERT' | 'UPDATE' | 'DELETE' | 'MANY';

/** That something of a user changed: which row, never what is in it. */
export interface Change {
  userId: string;
  kind: ChangeKind;
  /** What names the row; null when there were too many to name. */
  key: string | null;
}

/** What app_private.notify_live() sends. */
const notification = z.object({
  topic: z.enum(topics),
  event: z.enum(['INSERT', 'UPDATE', 'DELETE']),
  users: z.array(z.tuple([z.uuid(), z.array(z.string()).nullable()])),
});

export type Notification = z.infer<typeof notification>;

/** Reads a notification; undefined when it is not one of ours. */
export function parseNotification(payload: string): Notification | undefined {
  try {
    return notification.parse(JSON.parse(payload));
  } catch {
    return undefined;
  }
}

/**
 * What two changes of one row are together, for someone who saw neither: made and then
 * changed is made; whatever was before, the last is what the row is now.
 */
export function merge(earlier: ChangeKind, later: ChangeKind): ChangeKind {
  if (later === 'UPDATE' && earlier === 'INSERT') return 'INSERT';
  // Deleted and made again under the same id.
  if (later === 'INSERT' && earlier === 'DELETE') return 'UPDATE';
  return later;
}
