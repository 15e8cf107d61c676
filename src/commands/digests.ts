import { type Command, InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { loadConfig } from '../config.ts';
import { GwError } from '../errors.ts';
import { type Sql, type Transaction, withSql } from '../postgres/connect.ts';
import { reachDatabase } from '../server/locate.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';

/** Users whose digests are made in one transaction. */
const chunkSize = 500;

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
}

/** Thrown inside a transaction to take it back. */
const takeBack = Symbol('take back');

async function backfillChunk(
  sql: Sql,
  users: readonly string[],
  { weeks, recompute = false, dryRun = false }: BackfillOptions,
): Promise<number> {
  let written = 0;
  const work = async (transaction: Transaction): Promise<void> => {
    const [row] = await transaction<{ written: number }[]>`
      select app_private.backfill_digests(${users}::uuid[], ${weeks}, ${recompute}) as written`;
    written = row?.written ?? 0;
    if (dryRun) throw takeBack;
  };
  await sql.begin(work).catch((error: unknown) => {
    if (error !== takeBack) throw error;
  });
  return written;
}

/**
 * Makes the digests of past weeks, without messages, some users at a time; each chunk is
 * committed, so that what was done is kept when it is interrupted.
 *
 * @returns how many users and rows
 * @throws GwError when the user does not exist or has closed the account
 */
export async function backfillDigests(
  ownerUrl: string,
  options: BackfillOptions,
): Promise<BackfillResult> {
  return withSql(ownerUrl, async (sql) => {
    const done: BackfillResult = { users: 0, digests: 0 };
    let last = '00000000-0000-0000-0000-000000000000';
    while (true) {
      const rows = await sql<{ id: string }[]>`
        select id from app_public.users
        where deleted_at is null and id > ${last}
          and id = coalesce(${options.user ?? null}::uuid, id)
        order by id limit ${chunkSize}`;
      const ids = rows.map(({ id }) => id);
      if (ids.length > 0) {
        done.digests += await backfillChunk(sql, ids, options);
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
      let done: BackfillResult = { users: 0, digests: 0 };
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
    });
}
