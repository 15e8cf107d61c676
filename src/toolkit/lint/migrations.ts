import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { z } from 'zod';
import { GwError } from '../../errors.ts';
import { projectRoot } from '../../project.ts';
import { lintCompatibility } from './compatibility.ts';
import type { Finding } from './findings.ts';

const reports = z.array(
  z.object({
    file: z.string(),
    line: z.number(),
    message: z.string(),
    help: z.string().nullable(),
    rule_name: z.string(),
  }),
);

/** The program, whose package exists for some platforms only; undefined elsewhere. */
function squawkBinary(): string | undefined {
  try {
    const name = `@squawk-cli/${process.platform}-${process.arch}/package.json`;
    return join(dirname(createRequire(import.meta.url).resolve(name)), 'bin', 'squawk');
  } catch {
    return undefined;
  }
}

/** Paths of every migration, from the root of the checkout. */
function migrationFiles(root: string): string[] {
  const inFolder = (folder: string): string[] =>
    existsSync(join(root, folder))
      ? readdirSync(join(root, folder))
          .filter((name) => name.endsWith('.sql'))
          .sort()
          .map((name) => `${folder}/${name}`)
      : [];
  const single = 'migrations/current.sql';
  return [
    ...inFolder('migrations/committed'),
    ...inFolder('migrations/current'),
    ...(existsSync(join(root, single)) ? [single] : []),
  ];
}

/** What squawk says of files; its exit code only tells that it said something. */
async function squawk(root: string, files: string[], options: string[]): Promise<Finding[]> {
  if (files.length === 0) return [];
  const binary = squawkBinary();
  if (binary === undefined) {
    process.stderr.write(
      `squawk has no package for ${process.platform}-${process.arch}; migrations are not linted\n`,
    );
    return [];
  }
  const fixed = ['--config', '.squawk.toml', '--reporter', 'json'];
  const child = spawn(binary, [...fixed, '--no-error-on-unmatched-pattern', ...options, ...files], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [output, said] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0 && output.trim() === '') throw new GwError(`squawk failed: ${said.trim()}`);
  return reports.parse(JSON.parse(output.trim() || '[]')).map((report) => ({
    name: `squawk:${report.rule_name}`,
    // squawk calls nearly everything a warning; a migration is refused for it all the same.
    level: 'error',
    object_schema: null,
    object_name: report.file,
    detail: `line ${report.line + 1}: ${report.message}`,
    remediation: report.help ?? `https://squawkhq.com/docs/${report.rule_name}`,
  }));
}

/**
 * Runs squawk over the migrations, committed and current, as .squawk.toml says, and looks for what
 * running code may miss.
 *
 * @throws GwError when squawk is not installed or fails
 */
export async function lintMigrations(root = projectRoot): Promise<Finding[]> {
  const files = migrationFiles(root);
  const alone = files.filter((file) =>
    /^--! no-transaction\b/m.test(readFileSync(join(root, file), 'utf8')),
  );
  const together = files.filter((file) => !alone.includes(file));
  return [
    ...lintCompatibility(root, files),
    ...(await squawk(root, together, [])),
    ...(await squawk(root, alone, ['--no-assume-in-transaction'])),
  ];
}
