import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';

const folder = mkdtempSync(join(tmpdir(), 'groundwork-packages-'));

interface Lock {
  packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
}

/** A checkout after `npm ci --omit=dev`, with a stub for the command and for npm. */
beforeAll(() => {
  for (const name of ['src', 'bin', 'node_modules/node/bin']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  for (const name of ['src/bootstrap.mjs', 'package-lock.json', 'package.json']) {
    cpSync(join(projectRoot, name), join(folder, name));
  }
  const lock = JSON.parse(readFileSync(join(projectRoot, 'package-lock.json'), 'utf8')) as Lock;
  const installed = Object.entries(lock.packages).filter(
    ([, { dev, devOptional }]) => !dev && !devOptional,
  );
  writeFileSync(
    join(folder, 'node_modules', '.package-lock.json'),
    JSON.stringify({ packages: Object.fromEntries(installed) }),
  );
  symlinkSync(process.execPath, join(folder, 'node_modules', 'node', 'bin', 'node'));
  writeFileSync(join(folder, 'src', 'cli.ts'), "process.stdout.write('the command ran\\n');\n");
  writeFileSync(join(folder, 'bin', 'npm'), '#!/bin/sh\necho "npm was asked: $*"\nexit 1\n', {
    mode: 0o755,
  });
});

afterAll(() => rmSync(folder, { recursive: true }));

const run = (command: string) => {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [join('src', 'bootstrap.mjs'), command],
    { cwd: folder, encoding: 'utf8', env: { PATH: join(folder, 'bin') } },
  );
  return { said: `${stdout}${stderr}`, status };
};

test('without the packages of development a command runs, and installs nothing', () => {
  expect(run('worker')).toEqual({ said: 'the command ran\n', status: 0 });
});

test('the tests install them', () => {
  expect(run('test')).toMatchObject({
    said: expect.stringContaining('npm was asked: ci'),
    status: 1,
  });
});
