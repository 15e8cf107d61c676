import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync, readFileSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { EXIT, GwError, messageOf } from '../../errors.ts';

const file = z.object({ path: z.string(), bytes: z.number(), sha256: z.string() });

const table = z.object({
  name: z.string(),
  /** Of the table's own file, without indexes. */
  bytes: z.number(),
  rows: z.number(),
  /** The sum of a hash of each row's text: equal rows in any order have the same. */
  hash: z.string(),
});

/** What a backup says of itself. */
const manifestShape = z.object({
  format: z.literal(1),
  id: z.uuid(),
  /** When its snapshot was taken: it holds nothing that was committed later. */
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  database: z.string(),
  systemIdentifier: z.string(),
  serverVersion: z.number(),
  /** The position in the log at its snapshot. */
  lsn: z.string(),
  application: z.string(),
  migrations: z.array(z.object({ name: z.string(), hash: z.string() })),
  jobs: z.array(z.object({ name: z.string(), schedule: z.string(), command: z.string() })),
  tables: z.array(table),
  files: z.array(file),
});
export type Manifest = z.infer<typeof manifestShape>;
export type TableContents = z.infer<typeof table>;

/** A backup that is complete. */
export interface Backup {
  folder: string;
  manifest: Manifest;
  bytes: number;
}

export const manifestName = 'manifest.json';
/** Written by a trial restore that succeeded. */
export const verifiedName = 'verified.json';
/** Keeps a backup from being pruned. */
export const pinName = 'pinned.json';
/** The directory that pg_dump wrote. */
export const dumpName = 'dump';

/** Such as 20261224T180000Z-7d0c2f31; backups sort by it. */
export const folderName = (startedAt: Date, id: string): string =>
  `${startedAt.toISOString().replace(/[-:]|\.\d+/g, '')}-${id.slice(0, 8)}`;

/** While it is being made, a backup has a name that nothing lists. */
export const partialName = (name: string, pid: number): string => `.partial-${pid}-${name}`;
export const partialPattern = /^\.partial-(\d+)-/;

async function digest(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), async (chunks) => {
    for await (const chunk of chunks as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
    }
  });
  return { bytes, sha256: hash.digest('hex') };
}

/** Has a file, or the names of a folder, on the disk. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  await handle.sync();
  await handle.close();
}

/** Every file of a backup with its checksum, once it is on the disk. */
export async function describeFiles(folder: string): Promise<Manifest['files']> {
  const names = await readdir(folder, { recursive: true });
  const files: Manifest['files'] = [];
  for (const name of names.sort()) {
    const path = join(folder, name);
    if (!(await stat(path)).isFile()) continue;
    await sync(path);
    files.push({ path: name, ...(await digest(path)) });
  }
  return files;
}

/**
 * What is wrong with the files of a backup, one sentence a file.
 *
 * @param onFile told how many bytes were read
 */
export async function faultsOfFiles(
  { folder, manifest }: Backup,
  onFile?: (bytes: number) => void,
): Promise<string[]> {
  const faults: string[] = [];
  for (const { path, bytes, sha256 } of manifest.files) {
    const full = join(folder, path);
    if (!existsSync(full)) {
      faults.push(`${path} is missing`);
      continue;
    }
    const found = await digest(full).catch((error: unknown) => messageOf(error));
    if (typeof found === 'string') faults.push(`${path} cannot be read: ${found}`);
    else if (found.bytes !== bytes) faults.push(`${path} has ${found.bytes} bytes, not ${bytes}`);
    else if (found.sha256 !== sha256) faults.push(`${path} was altered: its checksum differs`);
    onFile?.(bytes);
  }
  return faults;
}

/**
 * Reads the manifest of a folder.
 *
 * @throws GwError when it is none, or not to be read
 */
export function readBackup(folder: string): Backup {
  const path = join(folder, manifestName);
  const refuse = (why: string): GwError =>
    new GwError(`${folder} is no backup that can be used: ${why}`, {
      hint: 'See what there is: gw backup list',
      exitCode: EXIT.failure,
    });
  if (!existsSync(path)) throw refuse(`${manifestName} is missing`);
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw refuse(`${manifestName} is damaged: ${messageOf(error)}`);
  }
  const parsed = manifestShape.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refuse(`${manifestName} is damaged: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  const manifest = parsed.data;
  return { folder, manifest, bytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** The complete backups of a directory, the oldest first, and what is there and cannot be read. */
export function listBackups(directory: string): { backups: Backup[]; damaged: string[] } {
  const backups: Backup[] = [];
  const damaged: string[] = [];
  if (!existsSync(directory)) return { backups, damaged };
  for (const name of readdirSync(directory).sort()) {
    if (name.startsWith('.') || !existsSync(join(directory, name, manifestName))) continue;
    try {
      backups.push(readBackup(join(directory, name)));
    } catch (error) {
      damaged.push(messageOf(error));
    }
  }
  return { backups, damaged };
}

/**
 * The backup that a person names: "latest", an id or the beginning of one, the name of a folder, or
 * a path.
 *
 * @throws GwError when there is none, or several
 */
export function findBackup(directory: string, asked: string): Backup {
  if (existsSync(join(asked, manifestName))) return readBackup(asked);
  const { backups } = listBackups(directory);
  const found =
    asked === 'latest'
      ? backups.slice(-1)
      : backups.filter(
          ({ folder, manifest }) =>
            manifest.id.startsWith(asked.toLowerCase()) || relative(directory, folder) === asked,
        );
  const [backup] = found;
  if (backup !== undefined && found.length === 1) return backup;
  throw new GwError(
    found.length > 1
      ? `"${asked}" are ${found.length} backups`
      : `there is no backup "${asked}" in ${directory}`,
    { hint: 'See what there is: gw backup list', exitCode: EXIT.usage },
  );
}

/** What verified.json or pinned.json of a backup says; undefined without one. */
export function noteOf(folder: string, name: string): { at: string; reason?: string } | undefined {
  const path = join(folder, name);
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as { at: string; reason?: string };
  } catch {
    return undefined;
  }
}
