import type { Sql, Transaction } from '../postgres/connect.ts';
import { formatTable } from '../terminal/table.ts';
import { stamp } from '../terminal/values.ts';
import type { Receipt, Receiver } from './receiver.ts';

/** What is to become of messages of which nobody can tell whether they were sent. */
export const choices = ['hold', 'send', 'skip'] as const;
export type Choice = (typeof choices)[number];

interface Doubt {
  idempotency_key: string;
  message_type: string;
  delivery_date: string;
  scheduled_send_time: Date;
  user_id: string;
}

/** What happens to a message when the copy is adopted. */
export type Fate = 'will send' | 'will not send' | 'unknown';

export interface Group {
  fate: Fate;
  why: string;
  messages: number;
  from: Date;
  to: Date;
  /** A few of them, by idempotency key. */
  examples: string[];
}

export interface Plan {
  /** Why the database is fenced. */
  reason: string;
  /** Until when what was due is in doubt. */
  until: Date;
  /** What the receiver says of each message in doubt. */
  receipts: Map<string, Receipt>;
  groups: Group[];
}

const undone = Symbol('undone');

/** Plans, in a transaction of a copy that is adopted in it, whatever is due by now. */
async function planMissed(sql: Transaction, until: Date): Promise<void> {
  for (;;) {
    const [row] = await sql<{ planned: number }[]>`
      select app_private.plan_due_messages(${until}) as planned`;
    if ((row?.planned ?? 0) === 0) return;
  }
}

/** Messages that the original may have sent: the adoption, rolled back. */
async function findDoubts(sql: Sql, until: Date): Promise<Doubt[]> {
  let found: Doubt[] = [];
  await sql
    .begin(async (transaction) => {
      await transaction`select ops.take_identity('rehearsal')`;
      await planMissed(transaction, until);
      found = [
        ...(await transaction<Doubt[]>`
          select idempotency_key, message_type, delivery_date::text, scheduled_send_time, user_id
          from ops.messages_in_doubt(${until})`),
      ];
      throw undone;
    })
    .catch((error: unknown) => {
      if (error !== undone) throw error;
    });
  return found;
}

function fateOf(receipt: Receipt, choice: Choice): Pick<Group, 'fate' | 'why'> {
  if (receipt === 'delivered') return { fate: 'will not send', why: 'the receiver has it' };
  if (receipt === 'not delivered') return { fate: 'will send', why: 'the receiver has it not' };
  const why = 'nobody can tell whether it was sent';
  if (choice === 'send') return { fate: 'will send', why: `${why}: --unknown send` };
  if (choice === 'skip') return { fate: 'will not send', why: `${why}: --unknown skip` };
  return { fate: 'unknown', why };
}

const shown = 5;

function groupsOf(doubts: Doubt[], receipts: Map<string, Receipt>, choice: Choice): Group[] {
  const groups = new Map<string, Group>();
  for (const { idempotency_key: key, scheduled_send_time: at } of doubts) {
    const { fate, why } = fateOf(receipts.get(key) ?? 'unknown', choice);
    const group = groups.get(why) ?? { fate, why, messages: 0, from: at, to: at, examples: [] };
    group.messages += 1;
    group.to = at;
    if (group.examples.length < shown) group.examples.push(key);
    groups.set(why, group);
  }
  return [...groups.values()];
}

/**
 * Finds out what adopting a copy would send, and asks the receiver what it has got. Changes nothing.
 *
 * @param sql gw_owner's
 * @returns undefined when the database is no copy
 */
export async function rehearse(
  sql: Sql,
  receiver: Receiver,
  choice: Choice,
  onAnswer?: (answered: number, of: number) => void,
): Promise<Plan | undefined> {
  const [row] = await sql<{ reason: string | null; until: Date }[]>`
    select ops.fence_reason() as reason, now() as until`;
  if (row?.reason == null) return undefined;
  const doubts = await findDoubts(sql, row.until);
  const keys = doubts.map(({ idempotency_key }) => idempotency_key);
  const answers = await receiver.ask(keys, (answered) => onAnswer?.(answered, keys.length));
  const receipts = new Map(keys.map((key, at) => [key, answers[at] ?? 'unknown']));
  return {
    reason: row.reason,
    until: row.until,
    receipts,
    groups: groupsOf(doubts, receipts, choice),
  };
}

/** Adopts a copy as it was rehearsed, in one transaction. */
export async function adopt(sql: Sql, plan: Plan, choice: Choice, reason: string): Promise<void> {
  const keysOf = (receipt: Receipt): string[] =>
    [...plan.receipts].flatMap(([key, said]) => (said === receipt ? [key] : []));
  await sql.begin(async (transaction) => {
    await transaction`select ops.adopt(${reason})`;
    await planMissed(transaction, plan.until);
    const settle = (keys: string[], status: string, why: string) => transaction`
      select ops.settle_messages(${keys}::text[], ${status}, ${why}, ${plan.until})`;
    await settle(keysOf('delivered'), 'SENT', 'the receiver has it');
    const why = 'sent or not by the original, since this copy was made';
    if (choice === 'hold') await settle(keysOf('unknown'), 'UNKNOWN', why);
    if (choice === 'skip') await settle(keysOf('unknown'), 'CANCELED', why);
  });
}

export const formatPlan = ({ reason, groups }: Plan): string => {
  const head = `This database is a copy: ${reason}.\n`;
  if (groups.length === 0) return `${head}No message is due that the original may have sent.\n`;
  const table = formatTable(groups, [
    { title: 'messages', value: (group) => String(group.messages), isNumber: true },
    { title: 'fate', value: (group) => group.fate },
    { title: 'why', value: (group) => group.why },
    { title: 'due from', value: (group) => stamp(group.from) },
    { title: 'to', value: (group) => stamp(group.to) },
  ]);
  const examples = groups.flatMap(({ fate, examples }) => examples.map((key) => `${fate}: ${key}`));
  return `${head}${table}For example\n  ${examples.join('\n  ')}\n`;
};
