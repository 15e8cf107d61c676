import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { describeDestination } from '../../src/worker/channels/destination.ts';
import { openChannel } from '../../src/worker/channels/open.ts';

/** What loadConfig() says is wrong. */
function problems(env: Record<string, string>): string {
  try {
    loadConfig(env);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

const channelOf = async (env: Record<string, string>) => {
  const channel = openChannel(loadConfig(env), '/outbox');
  await channel.close();
  return [channel.name, channel.description];
};

describe('GW_DELIVERY_URL', () => {
  const GW_MAIL_FROM = 'news@example.com';

  test.each([
    ['', 'file', '/outbox'],
    ['https://hooks.example.com/T0/secret?key=secret', 'http', 'https://hooks.example.com'],
    ['http://ada:hush@127.0.0.1:8080/x', 'http', 'http://127.0.0.1:8080'],
    ['smtp://ada:hush@mail.example.com', 'smtp', 'smtp://mail.example.com'],
    ['smtps://ada:hush@[::1]:2465/', 'smtp', 'smtps://[::1]:2465'],
  ])('%s is the channel %s, described as %s', async (url, name, description) => {
    const env = { GW_DELIVERY_URL: url, GW_MAIL_FROM };
    expect(await channelOf(env)).toEqual([name, description]);
    if (url !== '') expect(describeDestination(url)).toBe(description);
  });

  test.each([
    'ftp://mail.example.com',
    'smtp://',
    'smtp:mail.example.com',
    'smtp://ada:hush@mail.example.com?tls.rejectUnauthorized=false',
    'smtp://ada:100%hush@mail.example.com',
    'mail.example.com',
  ])('%s is refused, and not shown', (url) => {
    const said = problems({ GW_DELIVERY_URL: url, GW_MAIL_FROM });
    expect(said).toContain('  GW_DELIVERY_URL: ');
    expect(said).not.toContain('hush');
  });

  test('is file: where production asks for the outbox', async () => {
    const env = { NODE_ENV: 'production', GW_DELIVERY_URL: 'file:' };
    expect(await channelOf(env)).toEqual(['file', '/outbox']);
  });

  test('an smtp URL needs GW_MAIL_FROM: both are named', () => {
    const said = problems({ GW_DELIVERY_URL: 'smtp://mail.example.com' });
    expect(said).toContain('GW_MAIL_FROM: must be set too, because GW_DELIVERY_URL is an smtp');
  });
});

test.each([
  ['news@example.com', { name: '', address: 'news@example.com' }],
  ['Ground Work <news@example.com>', { name: 'Ground Work', address: 'news@example.com' }],
])('GW_MAIL_FROM may be %s', (text, mailbox) => {
  expect(loadConfig({ GW_MAIL_FROM: text }).GW_MAIL_FROM).toEqual(mailbox);
});

test.each([
  'news',
  'News <news@example.com>, <eve@example.com>',
  'News\r\nBcc: eve@example.com <news@example.com>',
  'a@b@c',
])('GW_MAIL_FROM may not be %j', (text) => {
  expect(problems({ GW_MAIL_FROM: text })).toContain('  GW_MAIL_FROM: must look like');
});

test('GW_DELIVERY_SECRET is whsec_ and at least 24 bytes of base64', () => {
  const bytes = Buffer.alloc(24, 7);
  const good = `whsec_${bytes.toString('base64')}`;
  expect(loadConfig({ GW_DELIVERY_SECRET: good }).GW_DELIVERY_SECRET).toEqual(bytes);
  for (const bad of [
    bytes.toString('base64'),
    `whsec_${Buffer.alloc(23, 7).toString('base64')}`,
    `whsec_${'*'.repeat(40)}`,
    'whsec_',
  ]) {
    const said = problems({ GW_DELIVERY_SECRET: bad });
    expect(said).toContain('  GW_DELIVERY_SECRET: must be whsec_ and the base64 of at least 24');
    expect(said).not.toContain(bad.slice(10) || 'nothing');
  }
});

test('GW_PUBLIC_URL loses slashes at its end, and keeps a path', () => {
  const publicUrl = (url: string) => loadConfig({ GW_PUBLIC_URL: url }).GW_PUBLIC_URL;
  expect(publicUrl('https://app.example.com/')).toBe('https://app.example.com');
  expect(publicUrl('https://example.com/app//')).toBe('https://example.com/app');
  expect(problems({ GW_PUBLIC_URL: 'app.example.com' })).toContain('  GW_PUBLIC_URL: ');
});

describe('in production', () => {
  const env = { NODE_ENV: 'production' };
  const secret = 'a secret of more than 32 characters';

  test('all that the processes lack is said at once, with what is wrong', () => {
    const load = () => loadConfig({ ...env, GW_PORT: 'none' }, ['serve', 'worker']);
    expect(load).toThrow(expect.objectContaining({ exitCode: 2 }));
    expect(load).toThrow(
      /GW_PORT: .+\n {2}GW_JWT_SECRET: must .+\n {2}GW_DELIVERY_URL: .+file:.+\n {2}GW_PUBLIC_URL: .+\n {2}GW_ALERT_URL: .+$/,
    );
  });

  test('nothing is made up for the API or the worker', () => {
    expect(() => loadConfig({ ...env, GW_JWT_SECRET: '' }, ['serve'])).toThrow(/GW_JWT_SECRET/);
    expect(() => loadConfig({ ...env, GW_JWT_SECRET: secret }, ['serve'])).not.toThrow();
    expect(() => loadConfig({ ...env, GW_JWT_SECRET: secret }, ['worker'])).toThrow(
      /GW_DELIVERY_URL: .+\n {2}GW_PUBLIC_URL/,
    );
    expect(() => loadConfig(env)).not.toThrow();
    expect(() => loadConfig({}, ['serve', 'worker'])).not.toThrow();
  });
});
