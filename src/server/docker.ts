import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';
import { checkoutName } from './state.ts';

/** Whether a Docker engine answers. */
export const dockerWorks = (): boolean =>
  spawnSync('docker', ['info', '--format', '{{.ServerVersion}}'], { timeout: 10_000 }).status === 0;

export const containerName = (): string => `groundwork-${checkoutName()}`.toLowerCase();

/** The image's name changes with what it is built from, so that a stale one is not used. */
export function imageName(): string {
  const hash = createHash('sha256');
  const folder = join(projectRoot, 'docker');
  for (const file of readdirSync(folder).sort()) hash.update(readFileSync(join(folder, file)));
  return `groundwork-db:${hash.digest('hex').slice(0, 12)}`;
}

async function docker(args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const child = spawn('docker', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let output = '';
  let said = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (said += chunk));
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve(status ?? 1));
  });
  if (code === 0) return output.trim();
  throw new GwError(`docker ${args[0]} failed:\n${(said || output).trim().slice(-4000)}`);
}

/** Builds the image of the database unless it is there. */
export async function ensureImage(note: (text: string) => void): Promise<string> {
  const image = imageName();
  if (spawnSync('docker', ['image', 'inspect', image]).status === 0) return image;
  note('building the image (minutes, the first time)');
  await docker([
    ...['build', '--network', 'host', '--target', 'database', '-t', image],
    ...['-f', join(projectRoot, 'docker', 'Dockerfile'), projectRoot],
  ]);
  return image;
}

/** The host port of the running container, or undefined. */
export function containerPort(name = containerName()): number | undefined {
  const asked = spawnSync('docker', ['port', name, '5432/tcp'], { encoding: 'utf8' });
  return asked.status === 0 ? Number(/:(\d+)\s/.exec(`${asked.stdout}\n`)?.[1]) : undefined;
}

/** Starts the container of this checkout, making it when it is missing. */
export async function startContainer(
  image: string,
  port: number,
  superuserPassword: string,
): Promise<void> {
  const name = containerName();
  spawnSync('docker', ['rm', '--force', name]);
  await docker(
    [
      ...['run', '--detach', '--name', name, '--shm-size', '256m'],
      ...['--publish', `127.0.0.1:${port}:5432`, '--volume', `${name}:/var/lib/postgresql/data`],
      // Named without a value: it is read from our environment, not shown by ps.
      ...['--env', 'POSTGRES_PASSWORD', '--env', 'POSTGRES_DB=groundwork', image],
    ],
    { POSTGRES_PASSWORD: superuserPassword },
  );
}

export async function stopContainer(name = containerName()): Promise<void> {
  if (containerPort(name) !== undefined) await docker(['stop', '--time', '4', name]);
}

export const restartContainer = (name = containerName()): Promise<string> =>
  docker(['restart', '--time', '4', name]);

/** Removes the container and its data. */
export function removeContainer(name = containerName()): void {
  spawnSync('docker', ['rm', '--force', name]);
  spawnSync('docker', ['volume', 'rm', '--force', name]);
}
