import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { projectRoot } from '../../src/project.ts';
import { aptGet } from './debian.ts';

const run = promisify(execFile);
const cache = join(projectRoot, 'node_modules', '.cache');

/** The path of promtool: the machine's, else that of Debian's package, which is not installed. */
async function findPromtool(): Promise<string> {
  const installed = await run('sh', ['-c', 'command -v promtool']).catch(() => undefined);
  if (installed !== undefined) return installed.stdout.trim();
  const kept = join(cache, 'promtool');
  if (existsSync(kept)) return kept;
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'prometheus-'));
  const download = () => aptGet(['download', 'prometheus'], folder);
  try {
    await download().catch(async () => {
      if (process.getuid?.() === 0) await aptGet(['update', '-qq']);
      await download();
    });
    const archive = readdirSync(folder).find((name) => name.endsWith('.deb')) ?? '';
    await run('dpkg-deb', ['-x', archive, 'files'], { cwd: folder });
    renameSync(join(folder, 'files', 'usr', 'bin', 'promtool'), kept);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return kept;
}

/** Runs promtool, with text on its standard input. Resolves with its exit code and all it said. */
export async function promtool(
  args: string[],
  input = '',
): Promise<{ code: number | null; output: string }> {
  const child = spawn(await findPromtool(), args, { cwd: projectRoot });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}
