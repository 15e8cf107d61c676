import { type Command, InvalidArgumentError } from 'commander';
import { codeOf, EXIT, GwError } from '../errors.ts';
import type { Sql, Transaction } from '../postgres/connect.ts';

export const statuses = [
  'SCHEDULED',
  'QUEUED',
  'SENDING',
  'SENT',
  'RETRYING',
  'FAILED',
  'CANCELED',
  'EXPIRED',
  'UNKNOWN',
  'SUPPRESSED',
] as const;

/** Which messages; what is undefined does not filter. */
export interface Filters {
  status?: string[];
  type?: string;
  /** The local date of the occasion, as 2026-12-24. */
  date?: string;
  /** An id or an e-mail address. */
  user?: string;
  since?: Date;
  message?: string;
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function parseUuid(text: string): string {
  if (uuid.test(text)) return text.toLowerCase();
  throw new InvalidArgumentError('It is the id of a message, as gw messages list shows it.');
}

/** The name of a message type; whether there is such a type, the database says. */
export function parseType(text: string): string {
  const type = text.toUpperCase();
  if (/^[A-Z][A-Z0-9_]*$/.test(type)) return type;
  throw new InvalidArgumentError('A name such as BIRTHDAY.');
}

function parseStatuses(text: string, before: string[] = []): string[] {
  const given = text.toUpperCase().split(',');
  const wrong = given.find((status) => !(statuses as readonly string[]).includes(status));
  if (wrong === undefined) return [...before, ...given];
  throw new InvalidArgumentError(`One or more of: ${statuses.join(', ')}.`);
}

/** A day of the calendar, as text: in which zone, its user's row says. */
export function parseDate(text: string): string {
  const at = /^\d{4}-\d{2}-\d{2}$/.test(text) ? new Date(`${text}T00:00:00Z`) : undefined;
  if (at !== undefined && !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text)) {
    return text;
  }
  throw new InvalidArgumentError('A date such as 2026-12-24.');
}

/** An instant; without an offset it is UTC, whatever the zone of this machine. */
export function parseInstant(text: string): Date {
  const parts = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(Z|[+-]\d{2}:\d{2})?)?$/.exec(
    text,
  );
  const at = new Date(`${parts?.[1]}T${parts?.[2] ?? '00:00'}${parts?.[3] ?? 'Z'}`);
  if (parts !== null && !Number.isNaN(at.getTime())) return at;
  throw new InvalidArgumentError('Such as 2026-12-24, or 2026-12-24T18:00, which is UTC.');
}

/** An instant, or how long ago: 30m, 12h, 7d. */
export function parseSince(text: string): Date {
  const ago = /^(\d{1,5})([mhd])$/.exec(text);
  if (ago === null) return parseInstant(text);
  const unit = { m: 60_000, h: 3_600_000, d: 86_400_000 }[ago[2] as 'm' | 'h' | 'd'];
  return new Date(Date.now() - Number(ago[1]) * unit);
}

export function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= 100_000) return count;
  throw new InvalidArgumentError('A whole number from 1 to 100000.');
}

/** Adds the options that say which messages are meant. */
export const withFilters = (command: Command): Command =>
  command
    .option(
      '--status <status>',
      'only messages of this status, or of several with commas',
      parseStatuses,
    )
    .option('--type <type>', 'only messages of this type, such as BIRTHDAY', parseType)
    .option('--date <date>', 'only messages for this local date', parseDate)
    .option('--user <id or e-mail>', 'only messages to this user')
    .option(
      '--since <instant>',
      'only messages due since then: 2026-12-24T18:00 (UTC), or 7d',
      parseSince,
    )
    .option('--message <id>', 'only this message', parseUuid);

/**
 * The filters, with seven days ago for an end when nothing else bounds them: what has
 * failed and been left a year ago is not meant.
 */
export function boundFilters<Given extends Filters>(given: Given): Given {
  const isBound =
    given.since !== undefined || given.date !== undefined || given.message !== undefined;
  return isBound ? given : { ...given, since: parseSince('7d') };
}

/**
 * The id of a user.
 *
 * @param text an id, which is not looked up, or an e-mail address
 * @throws GwError when nobody has that address
 */
export async function findUser(sql: Sql | Transaction, text: string): Promise<string> {
  if (uuid.test(text)) return text.toLowerCase();
  if (!text.includes('@')) {
    throw new GwError(`"${text}" is neither an id nor an e-mail address`, {
      exitCode: EXIT.usage,
    });
  }
  const [row] = await sql<{ id: string }[]>`
    select id from app_public.users
    where lower(email) = lower(${text})
    order by deleted_at is null desc, deleted_at desc
    limit 1`;
  if (row !== undefined) return row.id;
  throw new GwError('no user has this e-mail address', { exitCode: EXIT.failure });
}

/** Runs statements; what the database's own rules refuse is said as they say it. */
export async function explained<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof GwError || !/^(GW\d{3}|23514)$/.test(codeOf(error) ?? '')) {
      throw error;
    }
    const { message, hint } = error as { message: string; hint?: string };
    throw new GwError(message, {
      ...(hint === undefined ? {} : { hint }),
      exitCode: EXIT.usage,
      cause: error,
    });
  }
}
