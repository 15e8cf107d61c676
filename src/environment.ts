import { readFileSync } from 'node:fs';
import { codeOf } from './errors.ts';

/** Where a variable's text comes from. */
export interface Given {
  text: string;
  /** A path for what a file holds. */
  from: 'environment' | { file: string };
}

export interface Environment {
  given: Map<string, Given>;
  /** What is wrong, a sentence each. Values are not in it. */
  problems: string[];
}

/** What others read: the shell that starts us, the container, tests. */
const others = new Set([
  ...[
    'GW_STATE_DIR',
    'GW_SCRATCH_DIR',
    'GW_DEBUG',
    'GW_LOG_PRETTY',
    'GW_SUPERVISED',
    'GW_SUPERVISED_PROCESSES',
  ],
  'GW_TLS_NAMES',
]);

/**
 * Reads variables, each from the environment or from the file that its name with `_FILE` after it
 * names, as secrets are mounted. An empty variable is an unset one, as in every shell script.
 */
export function readEnvironment(env: NodeJS.ProcessEnv, names: readonly string[]): Environment {
  const given = new Map<string, Given>();
  const problems: string[] = [];
  for (const name of names) {
    const text = env[name] || undefined;
    const file = env[`${name}_FILE`] || undefined;
    if (text !== undefined && file !== undefined) {
      problems.push(`${name}: is set twice, by itself and by ${name}_FILE`);
    } else if (file !== undefined) {
      try {
        // An editor ends the last line.
        given.set(name, { text: readFileSync(file, 'utf8').replace(/\r?\n$/, ''), from: { file } });
      } catch (error) {
        problems.push(`${name}_FILE: ${file} cannot be read (${codeOf(error) ?? 'refused'})`);
      }
    } else if (text !== undefined) {
      given.set(name, { text, from: 'environment' });
    }
  }
  return { given, problems };
}

export interface UnknownVariable {
  name: string;
  /** What may have been meant. */
  nearest: string | undefined;
}

/** Variables that begin with GW_ and that nobody reads: a misspelt one would be passed over. */
export function findUnknown(env: NodeJS.ProcessEnv, names: readonly string[]): UnknownVariable[] {
  const known = new Set([...names, ...names.map((name) => `${name}_FILE`), ...others]);
  return Object.keys(env)
    .filter((name) => /^GW_/.test(name) && !/^GW_(TEST|BENCH)_/.test(name) && !known.has(name))
    .sort()
    .map((name) => ({ name, nearest: nearestOf(name, [...known]) }));
}

function nearestOf(name: string, candidates: readonly string[]): string | undefined {
  const [best] = candidates
    .map((candidate) => ({ candidate, distance: distanceOf(name, candidate) }))
    .sort((one, other) => one.distance - other.distance);
  return best !== undefined && best.distance <= Math.max(2, name.length / 4)
    ? best.candidate
    : undefined;
}

/** How many letters must be changed, added or left out to make one of the other. */
function distanceOf(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (let line = 1; line <= one.length; line += 1) {
    const next = [line];
    for (let column = 1; column <= other.length; column += 1) {
      const same = one[line - 1] === other[column - 1] ? 0 : 1;
      next.push(
        Math.min(
          (row[column] ?? 0) + 1,
          (next[column - 1] ?? 0) + 1,
          (row[column - 1] ?? 0) + same,
        ),
      );
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
