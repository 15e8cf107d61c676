import { randomUUID } from 'node:crypto';
import process from 'node:process';
import { signAccessToken } from '../../src/api/tokens.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { randomPort } from '../../src/server/ports.ts';
import { withScratch } from '../../src/server/scratch.ts';
import { createUser } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { askAlong, attacks, giveRows, memoryOf, send } from '../helpers/hostile.ts';

/*
 * What hostile requests cost others: each attack goes to a production `gw serve`, while somebody
 * else asks for their own id, one request after the other. The floor is what they wait when
 * nobody attacks.
 */
const secret = 'a secret of the benchmark, with more than 32 characters';
const withinMs = 30_000;

const tokenOf = (sub: string): Promise<string> =>
  signAccessToken({ sub, sid: randomUUID(), exp: Math.floor(Date.now() / 1_000) + 7_200 }, secret);

const share = (sorted: number[], part: number): string =>
  (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN)
    .toFixed(0)
    .padStart(6);

/** A user with what attacks ask for. */
const makeUser = (ownerUrl: string, email: string): Promise<string> =>
  withSql(ownerUrl, async (sql) => {
    const { id } = await createUser(sql, { email });
    await giveRows(sql, id);
    return id;
  });

export async function run(): Promise<void> {
  await withScratch('gw_template', async (scratch) => {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_hostile');
    const attacker = await tokenOf(await makeUser(urls.owner, 'attacker@example.com'));
    const other = await tokenOf(await makeUser(urls.owner, 'other@example.com'));
    const port = await randomPort();
    const start = async (): Promise<GwProcess> => {
      const server = new GwProcess(['serve'], {
        DATABASE_URL: urls.owner,
        GW_AUTHENTICATOR_PASSWORD: new URL(urls.authenticator).password,
        GW_JWT_SECRET: secret,
        NODE_ENV: 'production',
        // As the image and the unit of systemd set it.
        MALLOC_ARENA_MAX: '2',
        GW_PORT: String(port),
        GW_DRAIN_SECONDS: '0',
        GW_RATE_LIMIT_ANONYMOUS: '0',
        GW_RATE_LIMIT_SIGN_IN: '0',
        GW_RATE_LIMIT_USER: '0',
      });
      await server.ready();
      return server;
    };
    let server = await start();
    const say = (line: string) => process.stdout.write(`${line}\n`);
    say(`${'attack'.padEnd(36)} bytes each   p50    p99    most ms   RSS MB   runs, answers`);
    const line = async (name: string, bytes: number, work: Promise<string>) => {
      const took = await askAlong({ port, token: other, withinMs }, work);
      const most = share(took, 1);
      say(
        `${name.padEnd(36)} ${String(bytes).padStart(9)} ${share(took, 0.5)} ${share(took, 0.99)} ${most} ${String(memoryOf(server.pid, 'VmRSS')).padStart(10)}   ${await work}`,
      );
    };
    await line('nothing', 0, new Promise((resolve) => setTimeout(resolve, 5_000, '')));
    for (const attack of attacks) {
      const again = async (): Promise<string> => {
        const began = performance.now();
        const all = new Map<string, number>();
        let runs = 0;
        do {
          runs += 1;
          const { statuses } = await send(attack, { port, token: attacker, withinMs });
          for (const [status, n] of statuses) all.set(status, (all.get(status) ?? 0) + n);
        } while (performance.now() - began < 5_000);
        return `${runs} ×  ${[...all].map(([status, n]) => `${status} × ${n}`).join(', ')}`;
      };
      const work = again();
      await line(attack.name, attack.bodies[0]?.length ?? 0, work);
      const isWell = await fetch(`http://127.0.0.1:${port}/healthz`, {
        signal: AbortSignal.timeout(5_000),
      }).then(
        ({ ok }) => ok,
        () => false,
      );
      if (!isWell) {
        say(`  the process ${server.isRunning ? 'hangs' : 'has ended'}; another begins`);
        await server.kill();
        server = await start();
      }
    }
    say(`most memory: ${memoryOf(server.pid, 'VmHWM')} MB`);
    const began = performance.now();
    await server.stop();
    say(`SIGTERM: ended after ${((performance.now() - began) / 1_000).toFixed(1)} s`);
  });
}
