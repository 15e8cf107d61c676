import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { forEachLogin, type LoginName } from '../postgres/roles.ts';
import { projectRoot } from '../project.ts';

/** Everything that is made while running, git-ignored. Tests point it elsewhere. */
export const stateDirectory = resolve(process.env.GW_STATE_DIR || join(projectRoot, '.groundwork'));
// Children run in another folder; a relative path would mean something else there.
if (process.env.GW_STATE_DIR) process.env.GW_STATE_DIR = stateDirectory;

export const paths = {
  state: join(stateDirectory, 'state.json'),
  secrets: join(stateDirectory, 'secrets.json'),
  pids: join(stateDirectory, 'pids.json'),
  outbox: join(stateDirectory, 'outbox.jsonl'),
};

/** What is remembered between runs. Nothing in it is secret. */
export interface State {
  apiPort?: number;
  postgresPort?: number;
  /** The data directory of the local cluster, once it is complete. */
  cluster?: string;
  /** The container, when the database runs in Docker. */
  container?: string;
}

/** Passwords of roles, made here, and the secret of access tokens. */
export type Secrets = Record<LoginName | 'superuser' | 'jwt', string>;

/**
 * Creates the state directory, readable by its owner only.
 *
 * @throws GwError when it belongs to somebody else
 */
export function ensureStateDirectory(): void {
  try {
    mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
    const probe = join(stateDirectory, `.probe-${process.pid}`);
    writeFileSync(probe, '');
    rmSync(probe);
  } catch (error) {
    throw new GwError(`cannot write to ${stateDirectory}: ${codeOf(error)}`, {
      hint: 'It may have been made by another user. Run as that user, or delete it.',
      exitCode: EXIT.usage,
      cause: error,
    });
  }
}

function readJson<T>(path: string): Partial<T> {
  if (!existsSync(path)) return {};
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Partial<T>;
  } catch (error) {
    throw new GwError(`${path} cannot be read: ${codeOf(error) ?? 'it is not JSON'}`, {
      hint: 'Delete it to have it made anew.',
      cause: error,
    });
  }
}

/** Writes beside the file and renames, so that a crash leaves the old text or the new. */
export function writePrivately(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, text, { mode: 0o600 });
  renameSync(temporary, path);
}

export const readState = (): State => readJson<State>(paths.state);

/** Merges into the state; a key that is undefined is forgotten. */
export function updateState(change: State): State {
  ensureStateDirectory();
  const state = { ...readState(), ...change };
  writePrivately(paths.state, `${JSON.stringify(state, null, 2)}\n`);
  return state;
}

/** The secrets that this checkout has made so far. */
export const keptSecrets = (): Partial<Secrets> => readJson<Secrets>(paths.secrets);

/** The secrets of this checkout, made on first use. */
export function readSecrets(): Secrets {
  ensureStateDirectory();
  const kept = keptSecrets();
  const fresh = (): string => randomBytes(24).toString('base64url');
  const secrets: Secrets = {
    superuser: kept.superuser ?? fresh(),
    ...forEachLogin((login) => kept[login] ?? fresh()),
    jwt: kept.jwt ?? randomBytes(48).toString('base64url'),
  };
  if (Object.keys(secrets).some((name) => !(name in kept))) {
    writePrivately(paths.secrets, `${JSON.stringify(secrets, null, 2)}\n`);
  }
  return secrets;
}

/** A short name that tells this checkout from others on the machine. */
export function checkoutName(): string {
  const hash = createHash('sha256').update(stateDirectory).digest('hex').slice(0, 10);
  return `${basename(projectRoot).replace(/[^A-Za-z0-9_.-]/g, '_')}-${hash}`;
}
