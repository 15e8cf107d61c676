import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql, withSql } from '../../src/postgres/connect.ts';
import { changeUrl, type Database } from '../../src/postgres/urls.ts';
import { clusterHome, startCluster, stopCluster } from '../../src/server/cluster.ts';
import { randomPort } from '../../src/server/ports.ts';
import { requireBinaries, type Scratch, startScratch } from '../../src/server/scratch.ts';
import { Checkout } from '../helpers/checkout.ts';
import { createUser } from '../helpers/database.ts';
import { findProgram } from '../helpers/debian.ts';
import { Guide } from '../helpers/guide.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * Every sequence of the page, on a server of its own, in a terminal of bash.
 */
const guide = new Guide('recover');
const checkout = new Checkout(['sql']);
const name = 'groundwork';
const folder = mkdtempSync(join(tmpdir(), 'gw-recover-'));
const ports: Record<string, number> = {};

let server: Scratch;
let database: Database;
let owner: Sql;
let bin = '';
const done = new Set<string>();

/** The page's folders and ports are ours here. */
const here = (text: string): string =>
  text
    .replaceAll('/srv/', `${folder}/`)
    .replaceAll('/mnt/', `${folder}/`)
    .replace(/--port (\d+)/g, (_, port: string) => `--port ${ports[port]}`)
    .replace(/^gw adopt (?!--dry-run)/gm, 'gw adopt --yes ');

interface Said {
  code: number;
  output: string;
}

/** Runs a block of the page as a person would, and stops at the first command that fails. */
async function follow(title: string, env: NodeJS.ProcessEnv = {}, mode = 'set -e'): Promise<Said> {
  done.add(title);
  const gw = `gw() { "${process.execPath}" src/bootstrap.mjs "$@"; }`;
  const child: ChildProcess = spawn('bash', ['-c', `${mode}\n${gw}\n${here(guide.at(title))}`], {
    cwd: checkout.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: checkout.env({
      PATH: `${bin}:${process.env.PATH}`,
      DATABASE_URL: database.urls.owner,
      ROOT_DATABASE_URL: database.urls.superuser,
      GW_MONITOR_PASSWORD: new URL(database.urls.monitor).password,
      GW_CDC_PASSWORD: new URL(database.urls.cdc).password,
      ...env,
    }),
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise<number>((resolve) =>
    child.on('close', (status) => resolve(status ?? -1)),
  );
  return { code, output };
}

const succeeds = async (title: string, env: NodeJS.ProcessEnv = {}): Promise<string> => {
  const { code, output } = await follow(title, env);
  expect(code, `${title}:\n${output}`).toBe(0);
  return output;
};

const atPort = (url: string, port: string): string => {
  const moved = new URL(url);
  moved.port = String(ports[port]);
  return moved.href;
};

async function archiveNow(): Promise<void> {
  const [row] = await withSql(
    server.superuserUrl,
    (sql) => sql<{ file: string }[]>`
      select pg_walfile_name(pg_logical_emit_message(true, 'gw', 'x')) as file`,
  );
  await withSql(server.superuserUrl, (sql) => sql`select pg_switch_wal()`);
  await eventually(async () => {
    const [state] = await withSql(
      server.superuserUrl,
      (sql) => sql`select last_archived_wal >= ${row?.file ?? ''} as done from pg_stat_archiver`,
    );
    return state?.done === true;
  });
}

const listsOf = (sql: Sql, user: string) =>
  sql`select name from app_public.lists where user_id = ${user} order by name`;

beforeAll(async () => {
  await findProgram(['pgbackrest'], 'pgbackrest');
  bin = await requireBinaries();
  chmodSync(folder, 0o755);
  for (const port of ['5433', '5434', '5435', '5436']) ports[port] = await randomPort();
  const before = process.env.GW_SCRATCH_DIR;
  // Sockets have short paths.
  process.env.GW_SCRATCH_DIR = folder;
  server = await startScratch(name, {
    topic: 'recover',
    settings: ['archive_mode = on', "archive_command = '/bin/true'", 'full_page_writes = on'],
  });
  if (before === undefined) delete process.env.GW_SCRATCH_DIR;
  else process.env.GW_SCRATCH_DIR = before;
  database = await createMigrated(server.superuserUrl, name);
  owner = connect(database.urls.owner, { max: 2 });
}, patience(60_000));

afterAll(async () => {
  await owner?.end({ timeout: 1 });
  for (const home of ['recovered', 'before', 'whole', 'unharmed'].map((each) =>
    join(folder, each),
  )) {
    if (existsSync(join(home, 'data'))) await stopCluster({ bin, home });
  }
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
  await checkout.remove();
  rmSync(join(clusterHome(), '..', '..', checkout.folder.split('/').at(-1) ?? 'none'), {
    recursive: true,
    force: true,
  });
}, patience(60_000));

test(
  'each sequence of the page does what the page says',
  async () => {
    const user = await createUser(owner);
    await owner`insert into app_public.lists (user_id, name) values (${user.id}, 'kept')`;
    await succeeds('before: set up');
    expect(
      await owner`select kind, count(*)::integer from ops.backups
      where verified_at is not null group by kind order by kind`,
    ).toEqual([
      { kind: 'logical', count: 1 },
      { kind: 'physical', count: 2 },
    ]);

    // Deleted rows, from the dump and from just before.
    await owner`update app_public.lists set name = 'renamed' where user_id = ${user.id}`;
    await owner`insert into app_public.lists (user_id, name) values (${user.id}, 'young')`;
    const [moment] = await owner<{ at: string }[]>`select clock_timestamp()::text as at`;
    await owner`delete from app_public.lists where user_id = ${user.id}`;
    await succeeds('deleted rows: from a dump');
    expect(await listsOf(owner, user.id)).toEqual([{ name: 'kept' }]);
    await archiveNow();
    await succeeds('deleted rows: just before', { BEFORE: moment?.at });
    await withSql(atPort(database.urls.owner, '5434'), async (sql) => {
      expect(await listsOf(sql, user.id)).toEqual([{ name: 'renamed' }, { name: 'young' }]);
    });

    // A migration that changes what it should not.
    const [fine] = await owner<{ at: string }[]>`select clock_timestamp()::text as at`;
    await owner`update app_public.lists set name = 'damaged'`;
    await archiveNow();
    await succeeds('bad migration', { BEFORE_IT: fine?.at });
    await withSql(atPort(database.urls.owner, '5436'), async (sql) => {
      expect(await listsOf(sql, user.id)).toEqual([{ name: 'kept' }]);
    });

    // A slot.
    await succeeds('lost slot');

    // A disk: looks only. The archive is well.
    expect(await succeeds('full disk')).toContain('OK: 0 critical');

    // By hand: pg_restore tells of pg_cron, with an error.
    const byHand = changeUrl(database.urls.superuser ?? '', { database: 'by_hand' });
    const hand = await follow('by hand', {
      SUPERUSER_URL: database.urls.superuser,
      BY_HAND: byHand,
    });
    // pg_restore tells of pg_cron alone, and ends with 1: a person goes on.
    const errors = hand.output.match(/^pg_restore: error: .*$/gm) ?? [];
    expect(errors.filter((line) => !/cron|can only create extension/.test(line))).toEqual([]);
    const copyEnv = { DATABASE_URL: changeUrl(database.urls.owner, { database: 'by_hand' }) };
    const fenced = await follow('a copy: what it is', copyEnv);
    expect(fenced).toMatchObject({ code: 1, output: expect.stringContaining('fenced') });
    const adopted = await succeeds('a copy: adopt', copyEnv);
    expect(adopted).toContain('Adopted');

    // A page: eight bytes in the middle of a table.
    const [table] = await withSql(
      database.urls.superuser ?? '',
      (sql) => sql<{ path: string }[]>`
      select current_setting('data_directory') || '/' || pg_relation_filepath('app_public.users') as path`,
    );
    await withSql(server.superuserUrl, (sql) => sql`checkpoint`);
    await archiveNow();
    await server.kill();
    const file = openSync(table?.path ?? '', 'r+');
    writeSync(file, Buffer.from('damaged!'), 0, 8, 4_096);
    closeSync(file);
    await startCluster(server.cluster, Number(new URL(server.superuserUrl).port));
    await expect(
      withSql(
        database.urls.owner,
        (sql) => sql`select from app_public.users where first_name <> ''`,
      ),
    ).rejects.toThrow(/invalid page/);
    await eventually(async () => {
      const seen = await follow('damaged page: see');
      return seen.code === 2 && seen.output.includes('checksum');
    });
    const whole = { WHOLE: atPort(database.urls.superuser ?? '', '5435') };
    await succeeds('damaged page: restore', whole);

    // The machine is lost.
    await server.kill();
    await succeeds('lost machine');
    const lost = { DATABASE_URL: atPort(database.urls.owner, '5433') };
    expect(await succeeds('a copy: adopt', lost)).toContain('Adopted');

    const titles = guide.blocks
      .filter(({ language }) => language === 'sh')
      .map(({ place }) => place);
    expect([...done].sort()).toEqual(titles.sort());
  },
  patience(400_000),
);
