import { describe, expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const api = useApi(db, 'silent', { stripeWebhookSecret: 'whsec_test' });

const ready = async () => {
  const response = await fetch(`${api.origin}/readyz`);
  const { checks } = (await response.json()) as { checks: Record<string, string> };
  return { status: response.status, fence: checks.fence };
};

const fence = async (isFenced: boolean): Promise<void> => {
  await db.as('owner')`update ops.identity set timeline = ${isFenced ? 7 : 1}`;
  await eventually(async () => ((await ready()).fence !== undefined) === isFenced);
};

const create = `mutation { createTask(input: { task: { title: "a task" } }) { task { title } } }`;

describe('a database that becomes a copy under the API', () => {
  test('is read, and says of each change that it is not made', async () => {
    const { accessToken } = await api.register('fence@example.com');
    expect((await api.query(create, {}, accessToken)).errors).toEqual([]);
    await fence(true);
    try {
      const { data } = await api.query('{ tasks { nodes { title } } }', {}, accessToken);
      expect(data).toEqual({ tasks: { nodes: [{ title: 'a task' }] } });
      const changed = await api.query(create, {}, accessToken);
      expect(changed.status).toBe(200);
      expect(changed.errors).toMatchObject([
        {
          message: 'this is a copy of the database, which can only be read',
          extensions: { code: 'READ_ONLY' },
        },
      ]);
      const login = `mutation { login(input: { email: "fence@example.com",
        password: "correct horse" }) { result { userId } } }`;
      expect(await api.codes(login)).toEqual(['READ_ONLY']);
      for (const path of ['/webhooks/stripe', '/unsubscribe?token=x']) {
        const response = await fetch(`${api.origin}${path}`, { method: 'POST', body: '{}' });
        expect([response.status, await response.text()]).toEqual([
          503,
          expect.stringContaining('this is a copy of the database'),
        ]);
      }
      expect(await ready()).toEqual({
        status: 503,
        fence: expect.stringMatching(/^this database is a copy .* timeline 1, and not 7/),
      });
      const rows = await db.as('owner')`select from app_public.tasks`;
      expect(rows).toHaveLength(1);
    } finally {
      await fence(false);
    }
    expect((await api.query(create, {}, accessToken)).errors).toEqual([]);
    expect((await ready()).status).toBe(200);
  });
});
