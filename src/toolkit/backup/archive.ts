import { z } from 'zod';
import { GwError } from '../../errors.ts';
import { mustRun, segmentBytesOf, stanza } from './pgbackrest.ts';

const infoShape = z.array(
  z.object({
    name: z.string(),
    status: z.object({ code: z.number(), message: z.string() }),
    repo: z
      .array(
        z.object({ key: z.number(), status: z.object({ code: z.number(), message: z.string() }) }),
      )
      .default([]),
    archive: z
      .array(
        z.object({
          id: z.string(),
          min: z.string().nullable(),
          max: z.string().nullable(),
          database: z.object({ 'repo-key': z.number() }),
        }),
      )
      .default([]),
    backup: z
      .array(
        z.object({
          label: z.string(),
          type: z.enum(['full', 'diff', 'incr']),
          error: z.boolean().nullable().optional(),
          database: z.object({ 'repo-key': z.number() }),
          archive: z.object({ start: z.string().nullable(), stop: z.string().nullable() }),
          lsn: z.object({ start: z.string(), stop: z.string() }).optional(),
          timestamp: z.object({ start: z.number(), stop: z.number() }),
          info: z.object({
            size: z.number(),
            delta: z.number(),
            repository: z.object({ delta: z.number().optional() }).optional(),
          }),
        }),
      )
      .default([]),
  }),
);

export interface PhysicalBackup {
  label: string;
  type: 'full' | 'diff' | 'incr';
  repository: number;
  startedAt: Date;
  finishedAt: Date;
  /** Of the cluster. */
  bytes: number;
  startWal: string;
  stopWal: string;
  stopLsn: string;
}

export interface Archive {
  repositories: { key: number; fault: string | undefined }[];
  backups: PhysicalBackup[];
  /** The archived log of each repository: its oldest and newest file. */
  logs: { repository: number; id: string; oldest: string; newest: string }[];
}

/** pgBackRest does not escape the line breaks of a message. */
const parseJson = (text: string): unknown => JSON.parse(text.replace(/\p{Cc}+/gu, ' '));

/** What the repositories have. */
export async function readArchive(config: string): Promise<Archive> {
  const text = await mustRun(config, 'info', ['--output=json']);
  const parsed = infoShape.safeParse(parseJson(text));
  if (!parsed.success) throw new GwError('what pgBackRest says of its backups cannot be read');
  const found = parsed.data.find(({ name }) => name === stanza);
  return {
    repositories: (found?.repo ?? []).map(({ key, status }) => ({
      key,
      // 2: there is no backup yet, which is said elsewhere.
      fault: status.code === 0 || status.code === 2 ? undefined : status.message,
    })),
    backups: (found?.backup ?? [])
      .filter(({ error }) => error !== true)
      .map(({ label, type, database, timestamp, info, archive, lsn }) => ({
        label,
        type,
        repository: database['repo-key'],
        startedAt: new Date(timestamp.start * 1_000),
        finishedAt: new Date(timestamp.stop * 1_000),
        bytes: info.size,
        startWal: archive.start ?? '',
        stopWal: archive.stop ?? '',
        stopLsn: lsn?.stop ?? '0/0',
      })),
    logs: (found?.archive ?? []).flatMap(({ id, min, max, database }) =>
      min === null || max === null
        ? []
        : [{ repository: database['repo-key'], id, oldest: min, newest: max }],
    ),
  };
}

/** The number of a log file within its timeline. Its name has it in two parts, of 4 GB each. */
export const segmentNumber = (name: string, segmentBytes: number): bigint =>
  BigInt(`0x${name.slice(8, 16)}`) * (0x1_0000_0000n / BigInt(segmentBytes)) +
  BigInt(`0x${name.slice(16, 24)}`);

export const timelineOf = (name: string): number => Number.parseInt(name.slice(0, 8), 16);

function nameOf(timeline: string, number: bigint, segmentBytes: number): string {
  const each = 0x1_0000_0000n / BigInt(segmentBytes);
  const part = (value: bigint): string => value.toString(16).toUpperCase().padStart(8, '0');
  return `${timeline}${part(number / each)}${part(number % each)}`;
}

/** A position in the log as a number. */
export function lsnNumber(text: string): bigint {
  const [, high, low] = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i.exec(text) ?? [];
  if (high === undefined || low === undefined) {
    throw new GwError(`"${text}" is no position in the log, such as 0/3000148`);
  }
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

/** The number of the log file that holds a position. */
export const segmentOf = (lsn: string, segmentBytes: number): bigint =>
  lsnNumber(lsn) / BigInt(segmentBytes);

interface ArchivedFile {
  name: string;
  at: Date;
}

/** Every log file of a repository, by name, with when it came. */
export async function archivedFiles(
  config: string,
  { repository, id }: { repository: number; id: string },
): Promise<ArchivedFile[]> {
  const text = await mustRun(config, 'repo-ls', [
    ...['--output=json', '--recurse', `--repo=${repository}`, `archive/${stanza}/${id}`],
  ]);
  const files = parseJson(text) as Record<string, { type: string; time?: number }>;
  return Object.entries(files)
    .flatMap(([path, { type, time }]) => {
      const name = /(?:^|\/)([0-9A-F]{24})-[0-9a-f]{40}/.exec(path)?.[1];
      return type === 'file' && name !== undefined
        ? [{ name, at: new Date((time ?? 0) * 1_000) }]
        : [];
    })
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** Runs of files that are missing within each timeline, from the first that a kept backup needs. */
export function gapsIn(
  files: readonly ArchivedFile[],
  first: string,
  segmentBytes: number,
): string[] {
  const gaps: string[] = [];
  let before: string | undefined;
  for (const { name } of files) {
    if (name < first && timelineOf(name) === timelineOf(first)) continue;
    if (before !== undefined && timelineOf(before) === timelineOf(name)) {
      const from = segmentNumber(before, segmentBytes) + 1n;
      const to = segmentNumber(name, segmentBytes);
      if (to > from) {
        const timeline = name.slice(0, 8);
        gaps.push(
          to - from === 1n
            ? nameOf(timeline, from, segmentBytes)
            : `${nameOf(timeline, from, segmentBytes)} to ${nameOf(timeline, to - 1n, segmentBytes)}`,
        );
      }
    }
    before = name;
  }
  return gaps;
}

export interface Window {
  /** The earliest instant, and position, that can be reached: the end of the oldest backup. */
  from: Date;
  fromLsn: string;
  /** When the newest log file came, and its name: what was committed in it can be reached. */
  to: Date;
  newest: string;
  gaps: string[];
}

/** What a repository can restore; undefined without a backup. */
export async function windowOf(
  config: string,
  archive: Archive,
  repository: number,
): Promise<Window | undefined> {
  const [oldest] = archive.backups.filter((backup) => backup.repository === repository);
  const logs = archive.logs.filter((log) => log.repository === repository);
  const log = logs.at(-1);
  if (oldest === undefined || log === undefined) return undefined;
  const files = await archivedFiles(config, { repository, id: log.id });
  const last = files.at(-1);
  return {
    from: oldest.finishedAt,
    fromLsn: oldest.stopLsn,
    to: last?.at ?? oldest.finishedAt,
    newest: last?.name ?? oldest.stopWal,
    gaps: gapsIn(files, oldest.startWal, segmentBytesOf(config)),
  };
}
