import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import {
  type Cluster,
  createCluster,
  removeCluster,
  scratchHome,
  startCluster,
  stopCluster,
  wasReplaced,
} from '../../src/server/cluster.ts';
import { randomPort } from '../../src/server/ports.ts';
import { requireBinaries } from '../../src/server/scratch.ts';
import { checkHealth } from '../../src/toolkit/check/health.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

const checkout = new Checkout();
afterAll(() => checkout.remove(), patience(60_000));

const psql = (sql: string) => checkout.run(['db', 'psql', '--', '-Atc', sql]);

test('a checkout that is cloned again takes its old cluster over, with its data', {
  timeout: patience(120_000),
}, async () => {
  expect((await checkout.run(['db', 'start'])).code).toBe(0);
  expect((await psql('create table public.kept as select 7 as n')).code).toBe(0);

  // Its server still runs, and its passwords are gone.
  rmSync(checkout.path('.groundwork'), { recursive: true });
  const again = await checkout.run(['db', 'start']);
  expect(again.code, again.stderr).toBe(0);
  expect(again.stderr).toContain('taken over, with its data');
  expect((await psql('select n from public.kept')).stdout).toBe('7\n');

  // A start that fails stops what it started.
  expect((await checkout.run(['db', 'stop'])).code).toBe(0);
  appendFileSync(checkout.path('sql', 'bootstrap', 'roles.sql'), '\nselect 1 / 0;\n');
  const failed = await checkout.run(['db', 'start']);
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain('division by zero');
  expect(failed.stderr).not.toContain('    at ');
  const status = await checkout.run(['db', 'status', '--json']);
  expect([status.code, JSON.parse(status.stdout).running]).toEqual([3, false]);
});

test('a cluster of another major is not started, and keeps its files', async () => {
  const other = new Checkout();
  const home = other.path('cluster', '9');
  mkdirSync(join(home, 'data'), { recursive: true });
  writeFileSync(join(home, 'data', 'PG_VERSION'), '9\n');
  mkdirSync(other.path('.groundwork'), { recursive: true, mode: 0o700 });
  writeFileSync(other.path('.groundwork', 'state.json'), JSON.stringify({ cluster: home }));
  const { code, stderr } = await other.run(['db', 'start']);
  expect(code).not.toBe(0);
  expect(stderr).toContain(`the cluster in ${join(home, 'data')} needs PostgreSQL 9`);
  expect(readdirSync(join(home, 'data'))).toEqual(['PG_VERSION']);
  await other.remove();
});

/** PostgreSQL's programs in a folder of their own, so that one can be replaced. */
async function copyOfPrograms(): Promise<string> {
  const [bin, copy] = [await requireBinaries(), mkdtempSync(join(tmpdir(), 'groundwork-bin-'))];
  chmodSync(copy, 0o755);
  for (const name of readdirSync(bin)) symlinkSync(join(bin, name), join(copy, name));
  rmSync(join(copy, 'postgres'));
  copyFileSync(join(bin, 'postgres'), join(copy, 'postgres'));
  return copy;
}

test('a minor update under a cluster is noticed, and gets the setting that it brings', async () => {
  const bin = await copyOfPrograms();
  const cluster: Cluster = { bin, home: scratchHome(`scratch-${process.pid}-updated`) };
  const port = await randomPort();
  try {
    await createCluster(cluster, 'of the superuser', []);
    await startCluster(cluster, port);
    const url = `postgres://postgres:of%20the%20superuser@127.0.0.1:${port}/postgres`;
    const check = async () =>
      (await checkHealth(url, 'test', new Map(), ['server-program'])).findings;
    expect(wasReplaced(cluster)).toBe(false);
    expect(await check()).toEqual([]);
    copyFileSync(join(bin, 'postgres'), join(bin, 'postgres.new'));
    renameSync(join(bin, 'postgres.new'), join(bin, 'postgres'));
    expect(wasReplaced(cluster)).toBe(true);
    expect(await check()).toMatchObject([{ name: 'server-program', level: 'warning' }]);
    await stopCluster(cluster);

    // One that knows the setting. What it is told is kept under a name that this one takes.
    renameSync(join(bin, 'postgres'), join(bin, 'postgres.real'));
    writeFileSync(
      join(bin, 'postgres'),
      `#!/bin/bash
if [ "$1" = --describe-config ]; then echo output_plugin_libraries; exit; fi
exec "${bin}/postgres.real" "\${@/#output_plugin_libraries=/told.libraries=}"
`,
      { mode: 0o755 },
    );
    await startCluster(cluster, port);
    const [row] = await withSql(url, (sql) => sql`show told.libraries`);
    expect(row).toEqual({ 'told.libraries': 'pgoutput, test_decoding, wal2json' });
  } finally {
    await stopCluster(cluster);
    removeCluster(cluster);
    rmSync(bin, { recursive: true });
  }
});
