import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { audit } from '../../postgres/audit.ts';
import { withEntries } from './entries.ts';
import { type Backup, noteOf, partialName, pinName, verifiedName } from './manifest.ts';

/** Of how many days, weeks and months the newest backup is kept. */
export interface Keep {
  daily: number;
  weekly: number;
  monthly: number;
}

export interface Decision {
  backup: Backup;
  /** Why it is kept; empty for one that goes. */
  reasons: string[];
}

const dayOf = (at: Date): string => at.toISOString().slice(0, 10);
/** The Monday of its week. */
const weekOf = (at: Date): string =>
  dayOf(new Date(at.getTime() - ((at.getUTCDay() + 6) % 7) * 86_400_000));
const monthOf = (at: Date): string => at.toISOString().slice(0, 7);

/**
 * Which backups go. The newest of each of the last so many days, weeks and months that have one is
 * kept, in UTC; and always the newest of all, the newest that was restored for a trial, and those that
 * are pinned.
 *
 * @param backups the oldest first
 */
export function decide(backups: readonly Backup[], keep: Keep): Decision[] {
  const newestFirst = backups.toReversed();
  const reasons = new Map<Backup, string[]>(backups.map((backup) => [backup, []]));
  const say = (backup: Backup | undefined, reason: string): void => {
    if (backup !== undefined) reasons.get(backup)?.push(reason);
  };
  const kinds: [number, string, (at: Date) => string][] = [
    [keep.daily, 'day', dayOf],
    [keep.weekly, 'week', weekOf],
    [keep.monthly, 'month', monthOf],
  ];
  for (const [count, kind, periodOf] of kinds) {
    const seen = new Set<string>();
    for (const backup of newestFirst) {
      const period = periodOf(new Date(backup.manifest.startedAt));
      if (seen.has(period)) continue;
      if (seen.size >= count) break;
      seen.add(period);
      say(backup, `newest of the ${kind} ${period}`);
    }
  }
  say(newestFirst[0], 'newest of all');
  say(
    newestFirst.find(({ folder }) => noteOf(folder, verifiedName) !== undefined),
    'newest that was restored for a trial',
  );
  for (const backup of backups) {
    const pin = noteOf(backup.folder, pinName);
    if (pin !== undefined) say(backup, `pinned: ${pin.reason ?? ''}`);
  }
  return backups.map((backup) => ({ backup, reasons: reasons.get(backup) ?? [] }));
}

/** Deletes a backup: first its name, so that none is found that is there in part. */
export async function deleteBackup(
  { folder, manifest }: Backup,
  ownerUrl: string | undefined,
): Promise<void> {
  const gone = join(dirname(folder), partialName(basename(folder), process.pid));
  renameSync(folder, gone);
  if (ownerUrl !== undefined) {
    await withEntries(ownerUrl, async (sql) => {
      await sql`delete from ops.backups where id = ${manifest.id}`;
      await audit(sql, 'backup.pruned', { id: manifest.id });
    });
  }
  rmSync(gone, { recursive: true, force: true });
}

/** Keeps a backup from being pruned, for a reason; or lets it be pruned again. */
export async function pin(
  { folder, manifest }: Backup,
  reason: string | undefined,
  ownerUrl: string | undefined,
): Promise<void> {
  const file = join(folder, pinName);
  if (reason === undefined) rmSync(file, { force: true });
  else
    writeFileSync(file, JSON.stringify({ at: new Date().toISOString(), reason }), { mode: 0o600 });
  if (ownerUrl === undefined) return;
  await withEntries(ownerUrl, async (sql) => {
    await sql`update ops.backups set pinned = ${reason ?? null} where id = ${manifest.id}`;
  });
}
