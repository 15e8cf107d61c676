import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { FileChannel } from '../../src/worker/channels/file.ts';
import { startWorker } from '../../src/worker/worker.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const checkout = new Checkout();
const folder = mkdtempSync(join(tmpdir(), 'groundwork-seals-'));
const file = join(folder, 'seals.jsonl');
const key = 'a key that the database does not have';

afterAll(async () => {
  await checkout.remove();
  rmSync(folder, { recursive: true });
});

/** Starts a worker that seals, and stops it when it has. */
async function seal(url: string, isSealed: () => boolean): Promise<void> {
  const worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new FileChannel(join(folder, 'outbox.jsonl')),
    log: createLog('worker', 'silent'),
    seals: { key, url },
  });
  await eventually(async () => isSealed());
  await worker.close();
}

const verify = (env: Record<string, string> = {}, ...args: string[]) =>
  checkout.run(['audit', 'verify', ...args], {
    DATABASE_URL: db.url('owner'),
    GW_MONITOR_PASSWORD: decodeURIComponent(new URL(db.url('monitor')).password),
    GW_AUDIT_KEY: key,
    GW_AUDIT_SEALS: pathToFileURL(file).href,
    ...env,
  });

beforeAll(async () => {
  for (const n of [1, 2, 3, 4])
    await db.as('owner')`select ops.audit('test.done', jsonb_build_object('n', ${n}::integer))`;
  await seal(pathToFileURL(file).href, () => existsSync(file));
  await db.as('owner')`select ops.audit('test.done', '{"n": 5}')`;
});

describe('gw audit verify', () => {
  test('says what the seals prove, and what they do not', async () => {
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const { code, stdout } = await verify();
    expect(stdout).toMatch(/^rows 1 to \d+ are what they were at 20\d\d-\S+Z, by 1 seals\n/);
    expect(stdout).toMatch(/Nothing is proven of the 1 rows after it/);
    expect(code).toBe(0);
    const json = await verify({}, '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({ seals: 1, faults: [] });
  });

  test('cannot tell without seals, without the key, or with another one', async () => {
    const missing = pathToFileURL(join(folder, 'missing.jsonl')).href;
    const lacking: Record<string, string>[] = [
      { GW_AUDIT_SEALS: missing },
      { GW_AUDIT_KEY: '', GW_AUDIT_SEALS: '' },
    ];
    for (const env of lacking) {
      expect(await verify(env)).toMatchObject({
        code: 3,
        stderr: expect.stringMatching(/^error: cannot tell: /),
      });
    }
    expect(await verify({ GW_AUDIT_KEY: key.toUpperCase() })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('1 seals were not made with this key, or altered'),
    });
    expect(await verify({ GW_AUDIT_KEY: '' })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('GW_AUDIT_KEY: must be set too'),
    });
  });

  test('knows a seal that was altered, and a line that is none', async () => {
    const altered = join(folder, 'altered.jsonl');
    const text = readFileSync(file, 'utf8');
    writeFileSync(altered, `${text.replace(/"id":"\d+"/, '"id":"1"')}half a li`);
    const { code, stdout } = await verify({}, '--seals', altered);
    expect(stdout).toBe(
      'line 2 of the seals is not a seal\n1 seals were not made with this key, or altered\n',
    );
    expect(code).toBe(1);
  });

  test('can be posted to a receiver, who keeps them', async () => {
    const got: string[] = [];
    const server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      got.push(body);
      response.writeHead(204).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await seal(`http://127.0.0.1:${port}/seals`, () => got.length > 0);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const kept = join(folder, 'kept.jsonl');
    writeFileSync(kept, got.join('\n'));
    expect(await verify({}, '--seals', kept)).toMatchObject({ code: 0 });
  });
});

describe('an owner who rewrites the log', () => {
  /** As gw_owner can: off with the triggers, and each hash made anew, so that the chain is whole. */
  const rewrite = (change: string) => `
    set local role gw_owner;
    alter table ops.audit_log disable trigger user;
    alter table ops.audit_log_head disable trigger user;
    ${change};
    do $$
    declare
      entry ops.audit_log;
      before bytea := decode(repeat('00', 32), 'hex');
      place bigint := 0;
    begin
      for entry in select * from ops.audit_log order by id loop
        place := place + 1;
        update ops.audit_log set id = place, prev_hash = before where id = entry.id;
        select * into entry from ops.audit_log where id = place;
        before := ops.audit_log_hash(entry);
        update ops.audit_log set hash = before where id = place;
      end loop;
      update ops.audit_log_head set last_id = place, last_hash = before;
    end $$;
    alter table ops.audit_log enable always trigger _200_append_only;
    alter table ops.audit_log_head enable always trigger _200_append_only;`;

  let backup: string;
  let hash: string;
  beforeEach(async () => {
    backup = await db.as('superuser')`select jsonb_agg(to_jsonb(audit_log)) as rows
      from ops.audit_log`.then(([row]) => JSON.stringify(row?.rows));
    hash = await db.as('superuser')`
      select pg_get_functiondef('ops.audit_log_hash(ops.audit_log)'::regprocedure) as text`.then(
      ([row]) => row?.text,
    );
  });

  afterEach(async () => {
    await db.as('superuser').begin(async (sql) => {
      await sql.unsafe(`
        ${hash};
        alter table ops.audit_log disable trigger user;
        alter table ops.audit_log_head disable trigger user;
        delete from ops.audit_log;`);
      await sql`insert into ops.audit_log
        select * from jsonb_populate_recordset(null::ops.audit_log, ${backup}::text::jsonb)`;
      await sql.unsafe(`
        update ops.audit_log_head set (last_id, last_hash) =
          (select id, hash from ops.audit_log order by id desc limit 1);
        alter table ops.audit_log enable always trigger _200_append_only;
        alter table ops.audit_log_head enable always trigger _200_append_only;`);
    });
    expect((await verify()).code).toBe(0);
  });

  test.each([
    ['changes a row', `update ops.audit_log set details = '{"n": 99}' where details = '{"n": 3}'`],
    ['removes a row', `delete from ops.audit_log where details = '{"n": 2}'`],
    ['removes the end', `delete from ops.audit_log where details in ('{"n": 4}', '{"n": 5}')`],
  ])('and %s is found by the seals, and by nothing in the database', async (_title, change) => {
    const superuser = db.as('superuser');
    await superuser.begin((sql) => sql.unsafe(rewrite(change)));
    expect(await superuser`select * from ops.verify_audit_log()`).toEqual([]);
    const { code, stdout } = await verify();
    expect(stdout).toMatch(/^row \d+ (is not what was sealed|is missing, and was there) at 20/);
    expect(code).toBe(1);
  });

  test('who replaces the function of the hash as well is found too', async () => {
    const superuser = db.as('superuser');
    await superuser.begin((sql) =>
      sql.unsafe(`
        set local role gw_owner;
        create or replace function ops.audit_log_hash(p_row ops.audit_log) returns bytea
        language sql stable as 'select p_row.hash';
        alter table ops.audit_log disable trigger user;
        update ops.audit_log set details = '{"n": 99}' where details = '{"n": 1}'`),
    );
    expect(await superuser`select * from ops.verify_audit_log()`).toEqual([]);
    const { code, stdout } = await verify();
    expect(stdout).toMatch(/^row \d+ was altered, or the row before it\n/);
    expect(code).toBe(1);
  });
});
