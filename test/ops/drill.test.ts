import { afterAll, beforeAll, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { findProgram } from '../helpers/debian.ts';
import { patience } from '../helpers/patience.ts';

const checkout = new Checkout();
beforeAll(async () => {
  await findProgram(['pgbackrest'], 'pgbackrest');
}, patience(60_000));
afterAll(() => checkout.remove());

test(
  'gw drill loses a server and recovers it: fenced, nothing twice, nothing forgotten',
  async () => {
    const size = ['--users', '20', '--messages', '50', '--seconds', '5'];
    const { code, stdout, stderr } = await checkout.run(['drill', ...size, '--json']);
    expect(code, stdout + stderr).toBe(0);
    const report = JSON.parse(stdout) as Record<string, unknown>;
    expect(report).toMatchObject({
      isWell: true,
      fenced: expect.stringMatching(/^its files are in /),
      sentWhileFenced: 0,
      messagesDoubled: 0,
      messagesLost: 0,
      // Too small a database to tell.
      secondsFor10Gb: null,
    });
    expect(report.rtoSeconds).toBeGreaterThan(0);
    expect(report.rowsAcknowledged).toBeGreaterThan(0);
  },
  patience(120_000),
);
