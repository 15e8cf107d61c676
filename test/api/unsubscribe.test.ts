import { createHmac } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { describe, expect, test } from 'vitest';
import { unsubscribeLinks } from '../../src/messages/unsubscribe-links.ts';
import { jwtSecret, useApi } from '../helpers/api.ts';
import { createUser, type NewUser, useDatabase } from '../helpers/database.ts';
import { logOf, planOne } from '../helpers/messages.ts';

const db = useDatabase();
const api = useApi(db);

const linkTo = (userId: string, messageType: string, secret = jwtSecret): string =>
  unsubscribeLinks(api.origin, secret)(userId, messageType);

const post = (url: string, body = 'List-Unsubscribe=One-Click') =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body,
  });

const settingsOf = async ({ id }: NewUser) => {
  const [row] = await db.as('owner')`
    select birthday_messages, anniversary_messages, weekly_digest
    from app_public.user_settings where user_id = ${id}`;
  return row && { ...row };
};

/** As createUser() makes them. */
const before = { birthday_messages: true, anniversary_messages: true, weekly_digest: false };

describe('the page of an unsubscribe link', () => {
  test('says what it would turn off, has a form, and changes nothing', async () => {
    const user = await planOne(db.as('owner'));
    const response = await fetch(linkTo(user.id, 'BIRTHDAY'));
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toContain('messages on your birthday');
    expect(text).toContain('<form method="post">');
    expect(text).not.toContain(user.email);
    expect(await settingsOf(user)).toEqual(before);
    expect(await logOf(db.as('owner'), user)).toMatchObject({ status: 'QUEUED' });
  });

  test('is not kept, framed or told to others, sets no cookie and runs no script', async () => {
    const user = await createUser(db.as('owner'));
    const { headers } = await fetch(linkTo(user.id, 'BIRTHDAY'));
    expect(headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; style-src 'unsafe-inline'; form-action 'self'/,
    );
    expect(headers.get('referrer-policy')).toBe('no-referrer');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('x-frame-options')).toBe('DENY');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('set-cookie')).toBeNull();
  });

  test('is there for HEAD, without its text; other methods are 405', async () => {
    const user = await createUser(db.as('owner'));
    const link = linkTo(user.id, 'BIRTHDAY');
    const head = await fetch(link, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const response = await fetch(link, { method });
      expect(response.status).toBe(405);
      expect(response.headers.get('allow')).toBe('GET, HEAD, POST');
    }
    expect(await settingsOf(user)).toEqual(before);
  });
});

describe('the language of the page', () => {
  test.each([
    ['de-CH', 'lang="de"', 'Möchtest du Nachrichten zu deinem Geburtstag abbestellen?'],
    ['fr', 'lang="fr"', 'Voulez-vous ne plus recevoir les messages pour votre anniversaire ?'],
    ['es-419', 'lang="es"', '¿Quieres dejar de recibir los mensajes por tu cumpleaños?'],
    ['ja', 'lang="en"', 'Do you want to turn off messages on your birthday?'],
  ])('of a user with %s is %s', async (locale, attribute, question) => {
    const user = await createUser(db.as('owner'));
    await db.as('owner')`
      update app_public.user_settings set locale = ${locale} where user_id = ${user.id}`;
    const text = await (await fetch(linkTo(user.id, 'BIRTHDAY'))).text();
    expect(text).toContain(`<html ${attribute}>`);
    expect(text).toContain(question);
  });

  test('is that of the browser while nobody knows who it is', async () => {
    const response = await fetch(`${api.origin}/unsubscribe?token=none`, {
      headers: { 'accept-language': 'fr-CA, en;q=0.5' },
    });
    expect(response.status).toBe(400);
    expect(await response.text()).toContain('Ce lien n’est pas valide');
  });
});

describe('unsubscribing', () => {
  test('from all turns off all that can be turned off', async () => {
    const user = await createUser(db.as('owner'));
    await db.as('owner')`
      update app_public.user_settings set weekly_digest = true where user_id = ${user.id}`;
    const page = await (await fetch(linkTo(user.id, 'BIRTHDAY'))).text();
    expect(page).toContain('<button name="all" value="yes">Turn off all messages</button>');
    const response = await post(linkTo(user.id, 'BIRTHDAY'), 'List-Unsubscribe=One-Click&all=yes');
    expect(await response.text()).toContain('We have turned off all messages');
    expect(await settingsOf(user)).toEqual({
      ...{ birthday_messages: false, anniversary_messages: false, weekly_digest: false },
    });
  });

  test('cancels the planned message, and may be repeated', async () => {
    const user = await planOne(db.as('owner'));
    const link = linkTo(user.id, 'BIRTHDAY');
    for (const _ of [1, 2]) {
      const response = await post(link);
      expect(response.status).toBe(200);
      expect(await response.text()).toContain('We have turned off messages on your birthday');
      expect(await settingsOf(user)).toEqual({ ...before, birthday_messages: false });
      expect(await logOf(db.as('owner'), user)).toMatchObject({
        status: 'CANCELED',
        error_message: 'the user does not want this message any more',
      });
    }
  });

  test.each([
    ['BIRTHDAY', 'birthday_messages'],
    ['ANNIVERSARY', 'anniversary_messages'],
    ['DIGEST', 'weekly_digest'],
  ])('from %s turns %s off, and nothing else', async (messageType, column) => {
    const user = await createUser(db.as('owner'));
    await db.as('owner')`
      update app_public.user_settings set weekly_digest = true where user_id = ${user.id}`;
    expect((await post(linkTo(user.id, messageType))).status).toBe(200);
    expect(await settingsOf(user)).toEqual({ ...before, weekly_digest: true, [column]: false });
  });

  test('does not turn on what was turned off by hand', async () => {
    const user = await createUser(db.as('owner'));
    await db.as('owner')`
      update app_public.user_settings set anniversary_messages = false
      where user_id = ${user.id}`;
    await post(linkTo(user.id, 'BIRTHDAY'));
    expect(await settingsOf(user)).toEqual({
      birthday_messages: false,
      anniversary_messages: false,
      weekly_digest: false,
    });
  });

  test('works for a user without settings, who counts as one who wants all', async () => {
    const user = await createUser(db.as('owner'));
    await db.as('owner')`delete from app_public.user_settings where user_id = ${user.id}`;
    expect((await post(linkTo(user.id, 'ANNIVERSARY'))).status).toBe(200);
    expect(await settingsOf(user)).toEqual({
      birthday_messages: true,
      anniversary_messages: false,
      weekly_digest: true,
    });
  });

  test('works with a form of parts, with no body, and for a user who is gone', async () => {
    const user = await createUser(db.as('owner'));
    const form = new FormData();
    form.set('List-Unsubscribe', 'One-Click');
    const parts = await fetch(linkTo(user.id, 'BIRTHDAY'), { method: 'POST', body: form });
    expect(parts.status).toBe(200);
    expect((await post(linkTo(user.id, 'ANNIVERSARY'), '')).status).toBe(200);
    expect(await settingsOf(user)).toMatchObject({
      birthday_messages: false,
      anniversary_messages: false,
    });
    await db.as('owner')`delete from app_public.users where id = ${user.id}`;
    const response = await post(linkTo(user.id, 'BIRTHDAY'));
    expect([response.status, await response.text()]).toEqual([
      200,
      expect.stringContaining('Done'),
    ]);
  });

  test('a body that is no click is refused, also when it does not say how long it is', async () => {
    const user = await createUser(db.as('owner'));
    const link = linkTo(user.id, 'BIRTHDAY');
    expect((await post(link, 'x'.repeat(10_000))).status).toBe(413);
    const status = await new Promise((resolve, reject) => {
      const request = httpRequest(link, { method: 'POST' }, ({ statusCode }) => {
        resolve(statusCode);
        request.destroy();
      });
      request.on('error', reject);
      for (let i = 0; i < 10; i += 1) request.write('x'.repeat(1_000));
    });
    expect(status).toBe(413);
    expect(await settingsOf(user)).toEqual(before);
  });
});

describe('a token', () => {
  const tokenOf = (link: string): string => new URL(link).searchParams.get('token') ?? '';

  test('that is forged, cut, absent or for another user is refused without detail', async () => {
    const [user, other] = [await createUser(db.as('owner')), await createUser(db.as('owner'))];
    const token = tokenOf(linkTo(user.id, 'BIRTHDAY'));
    const [, mac] = token.split('.');
    const [said] = tokenOf(linkTo(other.id, 'BIRTHDAY')).split('.');
    // The secret itself is the key of access tokens only.
    const rawMac = createHmac('sha256', jwtSecret).update(Buffer.from(said ?? '', 'base64url'));
    const bad = [
      '',
      '?token=',
      `?token=${token.slice(0, -1)}`,
      `?token=${said}.${mac}`,
      `?token=${tokenOf(linkTo(user.id, 'BIRTHDAY', 'another secret, with more than 32 letters'))}`,
      `?token=${said}.${rawMac.digest('base64url')}`,
      `?token=${'a'.repeat(8_000)}`,
    ];
    const pages = new Set<string>();
    for (const query of bad) {
      for (const method of ['GET', 'POST']) {
        const response = await fetch(`${api.origin}/unsubscribe${query}`, { method });
        expect(response.status).toBe(400);
        pages.add(await response.text());
      }
    }
    expect(pages.size).toBe(1);
    expect(await settingsOf(user)).toEqual(before);
    expect(await settingsOf(other)).toEqual(before);
  });

  test('for one type is not good for another', async () => {
    const user = await createUser(db.as('owner'));
    const [said] = (linkTo(user.id, 'ANNIVERSARY').split('token=')[1] ?? '').split('.');
    const [, mac] = (linkTo(user.id, 'BIRTHDAY').split('token=')[1] ?? '').split('.');
    const mixed = `${api.origin}/unsubscribe?token=${said}.${mac}`;
    expect((await post(mixed)).status).toBe(400);
    expect(await settingsOf(user)).toEqual(before);
  });

  test('every one of its bits counts', async () => {
    const user = await createUser(db.as('owner'));
    const [said = '', mac = ''] = tokenOf(linkTo(user.id, 'BIRTHDAY')).split('.');
    for (const part of [0, 1]) {
      const bytes = [said, mac].map((text) => Buffer.from(text, 'base64url'));
      const bits = (bytes[part]?.length ?? 0) * 8;
      for (let bit = 0; bit < bits; bit += 1) {
        const changed = bytes.map((each, index) => {
          const copy = Buffer.from(each);
          if (index === part) copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          return copy.toString('base64url');
        });
        const response = await post(`${api.origin}/unsubscribe?token=${changed.join('.')}`);
        expect(response.status).toBe(400);
      }
    }
    expect(await settingsOf(user)).toEqual(before);
  }, 30_000);

  test('of access does not unsubscribe', async () => {
    const { accessToken } = await api.register('access@example.com');
    const response = await post(`${api.origin}/unsubscribe?token=${accessToken}`);
    expect(response.status).toBe(400);
  });

  test('of a link gives no access', async () => {
    const { userId, accessToken } = await api.register('link@example.com');
    const asked = '{ viewer { rowId } }';
    expect(await api.codes(asked, {}, accessToken)).toEqual([]);
    const token = tokenOf(linkTo(userId, 'BIRTHDAY'));
    for (const disguise of [token, `${token}.`, `e30.${token}`]) {
      expect(await api.codes(asked, {}, disguise)).toEqual(['TOKEN_INVALID']);
    }
  });

  test('is the same each time, and there is none for an unknown type', async () => {
    const { id } = await createUser(db.as('owner'));
    expect(linkTo(id, 'DIGEST')).toBe(linkTo(id, 'DIGEST'));
    expect((await fetch(linkTo(id, 'RECEIPT'))).status).toBe(400);
    expect((await post(linkTo(id, 'RECEIPT'))).status).toBe(400);
  });
});

test('only the API may call what unsubscribes, and it may read no settings', async () => {
  const { id } = await createUser(db.as('owner'));
  const refused = expect.objectContaining({ code: '42501' });
  await db.as('authenticator')`select app_private.unsubscribe(${id}, 'BIRTHDAY')`;
  await expect(db.as('authenticator')`select from app_public.user_settings`).rejects.toEqual(
    refused,
  );
  for (const role of ['worker', 'readonly', 'monitor'] as const) {
    await expect(db.as(role)`select app_private.unsubscribe(${id}, 'BIRTHDAY')`).rejects.toEqual(
      refused,
    );
  }
  for (const role of ['app_user', 'app_anonymous']) {
    await expect(
      db.as('authenticator').begin(async (sql) => {
        await sql.unsafe(`set local role ${role}`);
        await sql`select app_private.unsubscribe(${id}, 'BIRTHDAY')`;
      }),
    ).rejects.toEqual(refused);
  }
});
