import { execFileSync } from 'node:child_process';
import { chownSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const api = useApi(db);
const volume = mkdtempSync(join(tmpdir(), 'groundwork-volume-'));

/** A volume of 4 MB; only root may mount one. */
function mounted(): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', volume], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}
const isMounted = mounted();

afterAll(async () => {
  if (isMounted) {
    const sql = db.as('superuser');
    await sql`alter table app_public.projects set tablespace pg_default`;
    await sql`drop table if exists ops.filler`;
    await sql.unsafe('drop tablespace if exists small_volume');
    execFileSync('umount', [volume]);
  }
  rmSync(volume, { recursive: true, force: true });
});

test.runIf(isMounted)(
  'a full disk is UNAVAILABLE, loses nothing, and all goes on when there is room',
  { timeout: patience(60_000) },
  async () => {
    const sql = db.as('superuser');
    const [files] = await sql<{ home: string }[]>`
      select current_setting('data_directory') as home`;
    const { uid, gid } = statSync(files?.home ?? '');
    chownSync(volume, uid, gid);
    await sql.unsafe(`create tablespace small_volume location '${volume}'`);
    await sql`alter table app_public.projects set tablespace small_volume`;
    await sql`create table ops.filler (text text) tablespace small_volume`;
    await sql`alter table ops.filler alter column text set storage plain`;

    const { accessToken } = await api.register('full@example.com');
    const create = (name: string) =>
      api.query(
        `mutation ($name: String!) { createProject(input: { project: { name: $name } }) {
          project { name } } }`,
        { name },
        accessToken,
      );
    const names = async () =>
      (await sql<{ name: string }[]>`select name from app_public.projects order by name`).map(
        ({ name }) => name,
      );
    const code = ({ errors }: { errors?: { extensions?: { code?: string } }[] }) =>
      errors?.[0]?.extensions?.code;
    expect(code(await create('before'))).toBeUndefined();

    // Fills the last page too: then no table of the volume can grow.
    for (const size of [7_000, 1_000]) {
      for (;;) {
        const full = await sql`
          insert into ops.filler select repeat('x', ${size}) from generate_series(1, 10)`.then(
          () => false,
          (error: { code?: string }) => error.code === '53100',
        );
        if (full) break;
      }
    }
    const long = (n: number) => `${n}${'y'.repeat(190)}`;
    let made = 0;
    let failed: string | undefined;
    while (failed === undefined && made < 200) {
      failed = code(await create(long(made)));
      if (failed === undefined) made += 1;
    }
    expect(failed).toBe('UNAVAILABLE');
    // What was accepted is there, and what was refused is not.
    expect(await names()).toHaveLength(made + 1);

    const ready = async () => {
      const response = await fetch(`${api.origin}/readyz`);
      return { status: response.status, body: await response.text() };
    };
    expect(await ready()).toMatchObject({
      status: 503,
      body: expect.stringContaining('"disk":"the database refuses to write: its disk is full"'),
    });

    await sql`drop table ops.filler`;
    expect(code(await create('after'))).toBeUndefined();
    expect(await names()).toHaveLength(made + 2);
    expect(await names()).toEqual(expect.arrayContaining(['before', 'after']));
    await eventually(async () => (await ready()).status === 200);
  },
);
