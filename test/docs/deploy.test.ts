import { afterAll, describe, expect, test } from 'vitest';
import { changeUrl } from '../../src/postgres/urls.ts';
import { Checkout } from '../helpers/checkout.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { Guide } from '../helpers/guide.ts';

const guide = new Guide('deploy');
const db = useDatabase();
const checkout = new Checkout();
afterAll(() => checkout.remove());

test('the settings of the guide are settings that the server knows, and those of the tests', async () => {
  // Old minor releases do not know what the others have.
  const settings = guide.in('ini').filter((block) => !block.startsWith('output_plugin'));
  expect(settings).toHaveLength(2);
  const lines = settings.flatMap((block) => block.trim().split('\n'));
  for (const line of lines.filter((each) => !each.startsWith('#'))) {
    const [, name = '', value = ''] = /^([a-z_.]+) = '?([^']+)'?$/.exec(line) ?? [];
    const [row] = await db.as('superuser')`
      select current_setting(name) as setting from pg_settings where name = ${name}`;
    expect(row, line).toBeDefined();
    if (!/^cron[.]database|max_slot/.test(name)) expect(row?.setting, name).toBe(value);
  }
});

describe('the URL of gw_owner', () => {
  const withoutPassword = () => {
    const url = new URL(db.url('owner'));
    url.password = '';
    return url.href;
  };
  const password = () => decodeURIComponent(new URL(db.url('owner')).password);

  test('needs no password in it where GW_OWNER_PASSWORD is set', async () => {
    const env = { DATABASE_URL: withoutPassword(), GW_OWNER_PASSWORD: password() };
    expect(await checkout.run(['migrate'], env)).toMatchObject({
      code: 0,
      stdout: '0 migrations ran\n',
    });
    expect(await checkout.run(['status'], env)).toMatchObject({ code: 0, stdout: 'up to date\n' });
  });

  test('is refused without any, or with another', async () => {
    for (const env of [{}, { GW_OWNER_PASSWORD: 'another one' }]) {
      const refused = await checkout.run(['status'], { DATABASE_URL: withoutPassword(), ...env });
      expect(refused).toMatchObject({ code: 3, stderr: expect.stringContaining('refuses user') });
    }
    const url = changeUrl(db.url('owner'), { password: 'another one' });
    const env = { DATABASE_URL: url, GW_OWNER_PASSWORD: password() };
    expect(await checkout.run(['status'], env)).toMatchObject({ code: 0 });
  });
});

test('in production a worker names all that it lacks, as the guide says', async () => {
  const refused = await checkout.run(['worker'], {
    NODE_ENV: 'production',
    DATABASE_URL: db.url('owner'),
  });
  expect(refused).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(
      /GW_JWT_SECRET: .+GW_DELIVERY_URL: .+GW_PUBLIC_URL: .+GW_ALERT_URL: /,
    ),
  });
});

test('a backup is entered and verified as the guide says, and the check is content', async () => {
  await rolledBack(db.as('superuser'), async (sql) => {
    await sql`delete from ops.backups`;
    await sql`set local role gw_owner`;
    await sql.unsafe(guide.at('as gw_owner: enter a backup'));
    await sql.unsafe(guide.at('as gw_owner: it was tried'));
    const rows = await sql`
      select location, verified_at is not null as verified, ops.is_backed_up('app_public.users')
      from ops.backups`;
    expect(rows).toEqual([{ location: 'groundwork.dump', verified: true, is_backed_up: true }]);
  });
});

test('what is due and not sent can be asked as gw_readonly', async () => {
  const question = guide.at('as gw_readonly: what is due and not sent?');
  expect(await db.as('readonly').unsafe(question)).toEqual([]);
});
