import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql, withSql } from '../../src/postgres/connect.ts';
import type { Database } from '../../src/postgres/urls.ts';
import { stopCluster } from '../../src/server/cluster.ts';
import { requireBinaries, type Scratch, startScratch } from '../../src/server/scratch.ts';
import { Checkout, type Finished } from '../helpers/checkout.ts';
import { createUser } from '../helpers/database.ts';
import { findProgram } from '../helpers/debian.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * Point-in-time recovery with a real pgBackRest. Sockets have short paths, so the folder is in /tmp.
 */
const name = 'gw_pitr';
const folder = mkdtempSync(join(tmpdir(), 'gw-pitr-'));
const repository = join(folder, 'repo');
const config = join(folder, 'conf', 'pgbackrest.conf');
const checkout = new Checkout();
const homes: string[] = [];

let server: Scratch;
let database: Database;
let owner: Sql;
let bin = '';

const gw = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Finished> =>
  checkout.run(args, {
    DATABASE_URL: database.urls.owner,
    ROOT_DATABASE_URL: database.urls.superuser,
    GW_MONITOR_PASSWORD: new URL(database.urls.monitor).password,
    ...env,
  });
const pitr = (...args: string[]): Promise<Finished> =>
  gw(['backup', 'pitr', ...args, '--config', config]);

const superuser = (statement: string) =>
  withSql(server.superuserUrl, (sql) => sql.unsafe(statement).simple());

/** Ends the present file of the log; resolves when it is archived. */
async function archiveNow(): Promise<void> {
  const [row] = await withSql(
    server.superuserUrl,
    (sql) => sql<{ file: string }[]>`
      select pg_walfile_name(pg_logical_emit_message(true, 'gw', 'x')) as file`,
  );
  await superuser('select pg_switch_wal()');
  await eventually(async () => {
    const [state] = await withSql(
      server.superuserUrl,
      (sql) => sql`select last_archived_wal >= ${row?.file ?? ''} as done from pg_stat_archiver`,
    );
    return state?.done === true;
  });
}

interface Recovered {
  port: number;
  fenced: string;
  movedTo: string | null;
}

const homeOf = (title: string): string => {
  const home = join(folder, title);
  homes.push(home);
  return home;
};

const restore = (home: string, ...args: string[]): Promise<Finished> =>
  gw(['restore', '--directory', home, '--config', config, '--json', ...args]);

const onRestored = <Result>(port: number, work: (sql: Sql) => Promise<Result>) => {
  const url = new URL(database.urls.owner);
  url.port = String(port);
  return withSql(url.href, work);
};

/** To the microsecond, which a Date has not. */
const now = async (): Promise<string> => {
  const [row] = await owner<{ at: string }[]>`select clock_timestamp()::text as at`;
  return row?.at ?? '';
};

const findings = async (): Promise<string[]> => {
  const { stdout } = await pitr('check', '--json');
  return (JSON.parse(stdout).findings as { level: string; object: string; detail: string }[]).map(
    ({ level, object, detail }) => `${level} ${object}: ${detail}`,
  );
};

beforeAll(async () => {
  await findProgram(['pgbackrest'], 'pgbackrest');
  bin = await requireBinaries();
  const before = process.env.GW_SCRATCH_DIR;
  process.env.GW_SCRATCH_DIR = folder;
  // pgBackRest and the server are the same user, who must come in here.
  spawnSync('chmod', ['755', folder]);
  server = await startScratch(name, {
    topic: 'pitr',
    settings: ['archive_mode = on', "archive_command = '/bin/true'", 'full_page_writes = on'],
  });
  if (before === undefined) delete process.env.GW_SCRATCH_DIR;
  else process.env.GW_SCRATCH_DIR = before;
  database = await createMigrated(server.superuserUrl, name);
  owner = connect(database.urls.owner, { max: 2 });
  const set = await pitr('setup', '--repo', repository);
  expect(set.code, set.stderr).toBe(0);
  const ran = await pitr('run', '--type', 'full');
  expect(ran.code, ran.stderr).toBe(0);
}, patience(120_000));

afterAll(async () => {
  await owner?.end({ timeout: 1 });
  for (const home of homes) {
    if (existsSync(join(home, 'data'))) await stopCluster({ bin, home });
  }
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
  await checkout.remove();
}, patience(60_000));

test('the key is nobody else’s to read, and the backups cannot be read without it', () => {
  const text = readFileSync(config, 'utf8');
  expect(text).toMatch(/^repo1-cipher-type=aes-256-cbc$/m);
  expect(text).toMatch(/^archive-push-queue-max=4GiB$/m);
  const listing = spawnSync('stat', ['-c', '%a', config], { encoding: 'utf8' });
  expect(listing.stdout.trim()).toBe('600');
  const found = spawnSync('grep', ['-rl', 'PostgreSQL', repository], { encoding: 'utf8' });
  expect(found.stdout).toBe('');
});

test(
  'ops.backups has it, and says when it was restored for a trial',
  async () => {
    const kinds = await owner`select distinct kind from ops.backups`;
    expect(kinds).toEqual([{ kind: 'physical' }]);
    const tried = await pitr('verify', '--json');
    expect(tried.code, tried.stderr).toBe(0);
    const [row] = await owner`select verified_at from ops.backups order by started_at desc`;
    expect(row?.verified_at).toBeInstanceOf(Date);
  },
  patience(60_000),
);

describe('a row that was deleted', () => {
  test(
    'is there again just before, and what came later is not; the copy is fenced',
    async () => {
      const kept = await createUser(owner);
      const before = await now();
      await owner`delete from app_public.users where id = ${kept.id}`;
      const later = await createUser(owner);
      await archiveNow();
      const home = homeOf('r1');
      const done = await restore(home, '--to-time', before);
      expect(done.code, done.stderr).toBe(0);
      const { port, fenced } = JSON.parse(done.stdout) as Recovered;
      expect(fenced).toMatch(/^its files are in /);
      await onRestored(port, async (sql) => {
        const users = await sql`select id from app_public.users`;
        expect(users).toContainEqual({ id: kept.id });
        expect(users).not.toContainEqual({ id: later.id });
        expect(await sql`show archive_mode`).toEqual([{ archive_mode: 'off' }]);
        await expect(sql`select app_private.plan_due_messages()`).rejects.toMatchObject({
          code: 'GW070',
        });
      });
    },
    patience(60_000),
  );

  test(
    'by a position in the log',
    async () => {
      const [row] = await owner<{ lsn: string }[]>`select pg_current_wal_insert_lsn()::text as lsn`;
      const later = await createUser(owner);
      await archiveNow();
      const done = await restore(homeOf('r2'), '--to-lsn', row?.lsn ?? '');
      expect(done.code, done.stderr).toBe(0);
      const { port } = JSON.parse(done.stdout) as Recovered;
      expect(
        await onRestored(port, (sql) => sql`select from app_public.users where id = ${later.id}`),
      ).toEqual([]);
    },
    patience(60_000),
  );
});

describe('what cannot be restored', () => {
  test.each([
    ['before the oldest backup', ['--to-time', '2020-01-01']],
    ['after the end of the archive', ['--to-time', '2100-01-01']],
    ['a position that was not written yet', ['--to-lsn', 'FF/0']],
  ])('%s is refused, with what is covered, before anything is touched', async (_what, args) => {
    const home = homeOf('refused');
    const refused = await restore(home, ...args);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/^error: the archive does not reach /m);
    expect(refused.stderr).toMatch(/^hint: It covers \d{4}-.* to \d{4}-/m);
    expect(existsSync(home)).toBe(false);
  });

  test(
    'a folder that is not empty is left alone, and moved aside with --replace',
    async () => {
      const home = homeOf('r3');
      const first = await restore(home, '--latest');
      expect(first.code, first.stderr).toBe(0);
      const again = await restore(home, '--latest');
      expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('is not empty') });
      const running = await restore(home, '--latest', '--replace', '--yes');
      expect(running).toMatchObject({ code: 2, stderr: expect.stringContaining('a server runs') });
      await stopCluster({ bin, home });
      const replaced = await restore(home, '--latest', '--replace', '--yes');
      expect(replaced.code, replaced.stderr).toBe(0);
      const { movedTo } = JSON.parse(replaced.stdout) as Recovered;
      expect(existsSync(join(movedTo ?? '', 'PG_VERSION'))).toBe(true);
    },
    patience(60_000),
  );

  test(
    'a restore that was killed is in nobody’s way',
    async () => {
      const home = homeOf('r4');
      const child = checkout.start(
        ['restore', '--directory', home, '--config', config, '--latest'],
        { DATABASE_URL: database.urls.owner, ROOT_DATABASE_URL: database.urls.superuser },
      );
      await eventually(async () => existsSync(join(home, 'restoring')));
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
      spawnSync('pkill', ['-KILL', '-f', `pgbackrest.*${home}/data`]);
      const again = await restore(home, '--latest');
      expect(again.code, again.stderr).toBe(0);
      expect(existsSync(join(home, 'restoring'))).toBe(false);
    },
    patience(60_000),
  );

  test(
    'without the right key nothing is restored, and the error says why',
    async () => {
      const wrong = join(folder, 'conf', 'wrong.conf');
      const text = readFileSync(config, 'utf8').replace(/(cipher-pass=).*/, '$1not-the-key');
      writeFileSync(wrong, text);
      spawnSync('chown', ['--reference', config, wrong]);
      const home = homeOf('r5');
      const refused = await gw(['restore', '--directory', home, '--config', wrong, '--latest']);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toMatch(/cannot be used|key/);
      expect(existsSync(join(home, 'data'))).toBe(false);
      const checked = await gw(['backup', 'pitr', 'check', '--config', wrong]);
      expect(checked.code).toBe(2);
      expect(checked.stdout).toMatch(/has its key\?|configuration have its key/);
    },
    patience(60_000),
  );
});

/** Last: they leave the archive with a gap. */
describe('an archive that is not whole', () => {
  test(
    'a repository that is away stops nobody, and is said; a gap is named, and mended',
    async () => {
      expect(await findings()).toEqual([]);
      renameSync(repository, `${repository}-away`);
      expect(await findings()).toContainEqual(
        expect.stringMatching(/^critical (repo1|repository): /),
      );
      const user = await createUser(owner);
      await superuser('select pg_switch_wal()');
      expect(await owner`select from app_public.users where id = ${user.id}`).toHaveLength(1);
      renameSync(`${repository}-away`, repository);
      await archiveNow();
      expect(await findings()).toEqual([]);

      await archiveNow();
      await archiveNow();
      const directory = join(repository, 'archive', 'groundwork', '15-1');
      const [segments = ''] = readdirSync(directory).filter((each) => /^[0-9A-F]{16}$/.test(each));
      const files = readdirSync(join(directory, segments)).filter((each) =>
        /^[0-9A-F]{24}-/.test(each),
      );
      const gone = files.sort().at(-2) ?? '';
      rmSync(join(directory, segments, gone));
      expect(await findings()).toContainEqual(
        expect.stringMatching(`^critical repo1: the archived log lacks ${gone.slice(0, 24)}`),
      );
      const checked = await gw(['check', 'archive']);
      expect(checked).toMatchObject({ code: 2, stdout: expect.stringContaining('log lacks') });
      const refused = await restore(homeOf('r6'), '--latest');
      expect(refused).toMatchObject({
        code: 2,
        stderr: expect.stringContaining(`its log lacks ${gone.slice(0, 24)}`),
      });
      // Twice: the first full backup, which needs what is gone, is kept beside a second one.
      for (let time = 0; time < 2; time += 1) {
        expect((await pitr('run', '--type', 'full')).code).toBe(0);
      }
      expect(await findings()).toEqual([]);
    },
    patience(180_000),
  );
});
