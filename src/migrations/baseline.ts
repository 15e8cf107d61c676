import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';
import { committedFolder, hashOf } from './committed.ts';
import {
  expandIncludes,
  fixturesFolder,
  includedBy,
  migrationsFolder,
  textOf,
  trimBlank,
} from './includes.ts';
import { baselineHeader } from './places.ts';

/** The table of contents: one include line a topic. */
export const contentsFile = join(fixturesFolder, 'schema.sql');

export interface Migration {
  /** The file's name in migrations/committed. */
  name: string;
  text: string;
}

/** The topic that made the newest committed migration; undefined when a person wrote it. */
export function topicOfLast(): string | undefined {
  const last = readdirSync(committedFolder)
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .at(-1);
  if (last === undefined) return undefined;
  return baselineHeader.exec(readFileSync(join(committedFolder, last), 'utf8'))?.[1];
}

/** The topics in the order of the table of contents, as paths under migrations/fixtures. */
export function topics(): string[] {
  return readFileSync(contentsFile, 'utf8')
    .split('\n')
    .flatMap((line) => includedBy(line) ?? []);
}

/** The migrations that the topics make, one a topic, each with the hash of the one before. */
export function baseline(): Migration[] {
  let previous: string | undefined;
  return topics().map((topic, index) => {
    const body = textOf(trimBlank(expandIncludes(join(fixturesFolder, topic))));
    const name = basename(topic, '.sql').replace(/^\d+-/, '');
    const hash = hashOf(body, previous);
    const headers = [
      `--! Previous: ${previous ?? '-'}`,
      `--! Hash: ${hash}`,
      `--! Message: ${name}`,
      `--! Baseline: ${topic}`,
    ];
    previous = hash;
    const number = String(index + 1).padStart(6, '0');
    return { name: `${number}-${name}.sql`, text: `${headers.join('\n')}\n\n${body}\n` };
  });
}

/** The first version that CHANGELOG.md says was released. */
export function firstRelease(): string | undefined {
  const changelog = readFileSync(join(projectRoot, 'CHANGELOG.md'), 'utf8');
  return [...changelog.matchAll(/^## \[?v?(\d+\.\d+\.\d+[^\s\]]*)/gm)].at(-1)?.[1];
}

/**
 * What writing the baseline would change: names of files that are added, changed, removed.
 *
 * @throws GwError after the first release, or when a migration is there that a person wrote
 */
export function baselineChanges(): { added: string[]; changed: string[]; removed: string[] } {
  const released = firstRelease();
  if (released !== undefined) {
    throw new GwError(`${released} is released: committed migrations do not change any more`, {
      hint: 'Write a migration in migrations/current/, and make the same edit in the topic.',
    });
  }
  const there = new Map(
    existsSync(committedFolder)
      ? readdirSync(committedFolder)
          .filter((name) => name.endsWith('.sql'))
          .map((name) => [name, readFileSync(join(committedFolder, name), 'utf8')])
      : [],
  );
  const foreign = [...there].filter(([, text]) => !baselineHeader.test(text)).map(([name]) => name);
  if (foreign.length > 0) {
    throw new GwError(`migrations/committed/ has what no topic made: ${foreign.join(', ')}`, {
      hint: 'Take it back with "gw uncommit", and move its statements into a topic.',
    });
  }
  const made = new Map(baseline().map(({ name, text }) => [name, text]));
  return {
    added: [...made.keys()].filter((name) => !there.has(name)),
    changed: [...made]
      .filter(([name, text]) => (there.get(name) ?? text) !== text)
      .map(([name]) => name),
    removed: [...there.keys()].filter((name) => !made.has(name)),
  };
}

/** Replaces migrations/committed/ by the baseline: all of it, or nothing when it fails. */
export function writeBaseline(): void {
  const made = join(migrationsFolder, `.baseline-${process.pid}`);
  const old = `${made}-old`;
  try {
    mkdirSync(made);
    for (const { name, text } of baseline()) writeFileSync(join(made, name), text);
    if (existsSync(committedFolder)) renameSync(committedFolder, old);
    renameSync(made, committedFolder);
  } finally {
    for (const folder of [made, old]) rmSync(folder, { recursive: true, force: true });
  }
}
