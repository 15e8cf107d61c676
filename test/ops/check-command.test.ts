import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();

describe('gw check', () => {
  let checkout: Checkout;
  beforeAll(() => {
    checkout = new Checkout();
  });
  afterAll(() => checkout.remove());
  const check = (...args: string[]) => checkout.run(['check', '--url', db.url('monitor'), ...args]);

  test('ends with 0, 1 or 2, and one line for Nagios comes first', async () => {
    const fine = await check('wraparound', 'rls-disabled');
    expect([fine.code, fine.stdout]).toEqual([
      0,
      'OK: 0 critical, 0 warnings, 2 checks | critical=0 warning=0 checks=2 skipped=0\n',
    ]);
    const warning = await check('wraparound', '--param', 'wraparound_warning=0');
    expect(warning.code).toBe(1);
    expect(warning.stdout).toMatch(/^WARNING: 0 critical, \d+ warnings, 1 checks \|/);
    const critical = await check(
      'wraparound',
      '--json',
      '--param',
      'wraparound_warning=0',
      '--param',
      'wraparound_critical=0',
    );
    expect(critical.code).toBe(2);
    expect(JSON.parse(critical.stdout)).toMatchObject({ status: 'critical' });
  });

  test('ends with 3 when it cannot tell', async () => {
    const away = await checkout.run(['check', '--url', 'postgres://x@127.0.0.1:1/x']);
    expect([away.code, away.stdout]).toEqual([
      3,
      expect.stringMatching(/^UNKNOWN: nothing listens/),
    ]);
    expect((await check('no-such-check')).code).toBe(3);
    // Asked for by its name, and not here.
    const absent = await check('wraparound', 'cron-jobs');
    expect([absent.code, absent.stdout]).toEqual([
      3,
      expect.stringMatching(/^UNKNOWN: 0 critical/),
    ]);
    // Without a right: by its name it cannot tell, among all it is a warning.
    await db.as('owner')`revoke select on ops.partition_policies, ops.backups from gw_monitor`;
    const blind = await check('backups');
    expect([blind.code, blind.stdout]).toEqual([3, expect.stringMatching(/^UNKNOWN: 0 critical/)]);
    const all = await check('--json');
    await db.as('owner')`grant select on ops.partition_policies, ops.backups to gw_monitor`;
    expect(JSON.parse(all.stdout).findings).toContainEqual(
      expect.objectContaining({
        name: 'backups',
        level: 'warning',
        detail: expect.stringMatching(/^cannot tell: needs the right to see it/),
      }),
    );
    const wrong = await check('--json', '--param', 'connections_warning=many');
    expect([wrong.code, JSON.parse(wrong.stdout).status]).toEqual([3, 'unknown']);
    expect((await check('--param', 'long_transactions_idle=soon')).code).toBe(3);
  });

  test('runs on a database that is not ours, and says what is not there', async () => {
    const { code, stdout } = await checkout.run([
      'check',
      '--url',
      inject('superuserUrl'),
      '--json',
    ]);
    const { skipped } = JSON.parse(stdout) as { skipped: { name: string }[] };
    expect([0, 1, 2]).toContain(code);
    expect(skipped.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['backups', 'dead-letters', 'stuck-messages', 'audit-log']),
    );
  });
});
