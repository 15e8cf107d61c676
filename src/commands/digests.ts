import { type Command, InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { loadConfig } from '../config.ts';
import { codeOf, GwError, messageOf } from '../errors.ts';
import { type Sql, type Transaction, withSql } from '../postgres/connect.ts';
import { takenBack } from '../postgres/taken-back.ts';
import { reachDatabase } from '../server/locate.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';

/** Users whose digests are made in one transaction. */
const chunkSize = 500;

/** So many failures have one cause, which is then the error. */
const mostFailures = 1000;

export interface BackfillOptions {
  /** Complete weeks before this one, 1 to 52. */
  weeks: number;
  /** This user only. */
  user?: string;
  /** Count digests that are there anew. */
  recompute?: boolean;
  /** Take everything back. */
  dryRun?: boolean;
  /** Hears after each chunk how far it is. */
  onProgress?: (done: BackfillResult) => void;
}

export interface BackfillResult {
  /** Accounts looked at. */
  users: number;
  /** Rows written, or with dryRun, that would be. */
  digests: number;
  /** Users whose digests the database refused to make, and why. */
  failed: { user: string; error: string }[];
}

/**
 * Whether an error is of one user's rows. One that passes by itself, one of the program or of
 * missing configuration would be everybody's.
 */
const isOfOneUser = (error: unknown): boolean => {
  const code = codeOf(error);
  return code !== undefined && /^(?!25|40|42|53|55|57|58|GW)[0-9A-Z]{5}$/.test(code);
};

async function backfillChunk(
  sql: Sql,
  users: readonly string[],
  { weeks, recompute = false, dryRun = false }: BackfillOptions,
): Promise<number> {
  const work = async (transaction: Transaction): Promise<number> => {
    const [row] = await transaction<{ written: number }[]>`
      select app_private.backfill_digests(${users}::uuid[], ${weeks}, ${recompute}) as written`;
    return row?.written ?? 0;
  };
  return dryRun ? takenBack(sql, work) : sql.begin(work);
}

/** As backfillChunk; when it fails, each half by itself, down to the user at fault. */
async function tryChunk(
  sql: Sql,
  users: readonly string[],
  options: BackfillOptions,
  done: BackfillResult,
): Promise<void> {
  try {
    done.digests += await backfillChunk(sql, users, options);
  } catch (error) {
    if (!isOfOneUser(error)) throw error;
    const [user = ''] = users;
    if (users.length === 1) {
      done.failed.push({ user, error: messageOf(error) });
      if (done.failed.length > mostFailures) throw error;
      return;
    }
    const half = Math.floor(users.length / 2);
    await tryChunk(sql, users.slice(0, half), options, done);
    await tryChunk(sql, users.slice(half), options, done);
  }
}

/**
 * Makes the digests of past weeks, without messages, some users at a time; each chunk is
 * committed, so that what was done is kept when it is interrupted. A user for whom it fails
 * is named in the result, and does not hold up the others.
 *
 * @returns how many users and rows
 * @throws GwError when the user does not exist or has closed the account
 */
export async function backfillDigests(
  ownerUrl: string,
  options: BackfillOptions,
): Promise<BackfillResult> {
  return withSql(ownerUrl, async (sql) => {
    const done: BackfillResult = { users: 0, digests: 0, failed: [] };
    let last = '00000000-0000-0000-0000-000000000000';
    while (true) {
      const rows = await sql<{ id: string }[]>`
        select id from app_public.users
        where deleted_at is null and id > ${last}
          and id = coalesce(${options.user ?? null}::uuid, id)
        order by id limit ${chunkSize}`;
      const ids = rows.map(({ id }) => id);
      if (ids.length > 0) {
        await tryChunk(sql, ids, options, done);
        done.users += ids.length;
        options.onProgress?.({ ...done });
      }
      if (ids.length < chunkSize) break;
      last = ids.at(-1) ?? last;
    }
    if (options.user !== undefined && done.users === 0) {
      throw new GwError(`no open account has the id ${options.user}`);
    }
    return done;
  });
}

function parseWeeks(text: string): number {
  const weeks = Number(text);
  if (Number.isInteger(weeks) && weeks >= 1 && weeks <= 52) return weeks;
  throw new InvalidArgumentError('a whole number from 1 to 52');
}

function parseUserId(text: string): string {
  const id = z.guid().safeParse(text);
  if (id.success) return id.data;
  throw new InvalidArgumentError('a UUID');
}

export function registerDigests(program: Command): void {
  program
    .command('digests')
    .description('make weekly digests')
    .command('backfill')
    .description('make the digests of past weeks that are missing, without sending them')
    .option('--weeks <n>', 'how many complete weeks, 1 to 52', parseWeeks, 12)
    .option('--user <id>', 'only of this user', parseUserId)
    .option('--recompute', 'also compute existing digests again')
    .option('--dry-run', 'say how many would be made')
    .option('--json', 'print JSON')
    .action(async (options: BackfillOptions & { json?: boolean }) => {
      const { urls } = await reachDatabase(loadConfig());
      const { json = false, dryRun = false } = options;
      const started = Date.now();
      let done: BackfillResult = { users: 0, digests: 0, failed: [] };
      await new Progress(json).step('digests', async (note) => {
        done = await backfillDigests(urls.owner, {
          ...options,
          onProgress: ({ users, digests }) => note(`${digests} digests of ${users} users`),
        });
        return `${done.users} users`;
      });
      const seconds = (Date.now() - started) / 1000;
      const verb = dryRun ? 'would write' : 'wrote';
      print(
        json,
        { ...done, weeks: options.weeks, dryRun, seconds },
        `${verb} ${done.digests} digests of ${done.users} users\n`,
      );
      if (done.failed.length === 0) return;
      const [{ user, error }] = done.failed as [BackfillResult['failed'][0]];
      throw new GwError(
        `the digests of ${done.failed.length} of ${done.users} users could not be made; of ${user}: ${error}`,
        { hint: '--json names them all. Mend the cause, and run it again.' },
      );
    });
}
