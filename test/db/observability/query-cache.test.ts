import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  rolledBack,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner, asSuperuser } = transactionsOf(db);

/** Acts as the API does before it becomes a user: set_app_user, then the cache. */
async function actFor(sql: Transaction, userId: string | null): Promise<void> {
  await sql`set local role gw_authenticator`;
  await sql`select app_private.set_app_user(${userId})`;
}

const get = async (sql: Sql | Transaction, key: string) =>
  (await sql`select app_private.query_cache_get(${key}) as data`)[0]?.data;

const put = (
  sql: Sql | Transaction,
  key: string,
  data: object,
  tags: string[] = [],
  ttl = '1 hour',
) =>
  sql`select app_private.query_cache_put(${key}, ${sql.json(data as never)},
    ${ttl}::text::interval, 40, ${tags})`;

describe('the query cache', () => {
  test("never gives what is one user's to another, or to nobody", async () => {
    await asSuperuser(async (sql) => {
      const [ann, bob] = [await createUser(sql), await createUser(sql)];
      const whose = { [ann.id]: { of: 'ann' }, [bob.id]: { of: 'bob' } };
      await actFor(sql, ann.id);
      await put(sql, 'dashboard', whose[ann.id] ?? {});
      await actFor(sql, bob.id);
      expect(await get(sql, 'dashboard')).toBeNull();
      await actFor(sql, null);
      expect(await get(sql, 'dashboard')).toBeNull();
      await put(sql, 'dashboard', { of: 'nobody' });
      await actFor(sql, bob.id);
      expect(await get(sql, 'dashboard')).toBeNull();
      await put(sql, 'dashboard', whose[bob.id] ?? {});
      for (const [user, data] of [...Object.entries(whose), [null, { of: 'nobody' }] as const]) {
        await actFor(sql, user);
        expect(await get(sql, 'dashboard')).toEqual(data);
      }
    });
  });

  test('replaces a result, counts hits, and knows hash and size', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      await actFor(sql, user.id);
      await put(sql, 'clé', { n: 1 });
      await get(sql, 'clé');
      await put(sql, 'clé', { n: 22 });
      expect(await get(sql, 'clé')).toEqual({ n: 22 });
      await sql`set local role none`;
      const rows = await sql`
        select cache_key_hash, data_size, hit_count, access_count, generation_time_ms
        from app_private.query_cache`;
      expect(rows).toEqual([
        {
          cache_key_hash: createHash('sha256').update('clé').digest('hex'),
          data_size: '{"n": 22}'.length,
          hit_count: 2,
          access_count: 4,
          generation_time_ms: 40,
        },
      ]);
    });
  });

  test('does not return what has expired; the clean-up deletes it', async () => {
    await asOwner(async (sql) => {
      await put(sql, 'old', { n: 1 });
      await put(sql, 'new', { n: 2 });
      await sql`
        update app_private.query_cache
        set created_at = now() - interval '2 hours', expires_at = now() - interval '1 second'
        where cache_key = 'old'`;
      expect(await get(sql, 'old')).toBeNull();
      // Through the search_path, as it is typed by hand.
      expect(await sql`select cleanup_expired_cache() as n`).toEqual([{ n: 1 }]);
      expect(await get(sql, 'new')).toEqual({ n: 2 });
      expect(await sql`select cache_key from app_private.query_cache`).toEqual([
        { cache_key: 'new' },
      ]);
    });
  });

  test('forgets by tag, for every user', async () => {
    await asSuperuser(async (sql) => {
      for (const user of [await createUser(sql), await createUser(sql)]) {
        await actFor(sql, user.id);
        await put(sql, 'tasks', {}, ['tasks', 'all']);
        await put(sql, 'lists', {}, ['lists', 'all']);
        await put(sql, 'untagged', {});
      }
      const forget = async (tags: string[]) =>
        (await sql`select app_private.invalidate_query_cache(${tags}) as n`)[0]?.n;
      expect(await forget(['nothing'])).toBe(0);
      expect(await forget([])).toBe(0);
      expect(await forget(['tasks', 'other'])).toBe(2);
      expect(await get(sql, 'tasks')).toBeNull();
      expect(await get(sql, 'lists')).toEqual({});
      expect(await forget(['all'])).toBe(2);
      expect(await get(sql, 'untagged')).toEqual({});
    });
  });

  test('answers in a read-only transaction, and while another session counts', async () => {
    const owner = db.as('owner');
    await put(owner, 'read', { n: 1 });
    await owner.begin('read only', async (sql) => {
      expect(await get(sql, 'read')).toEqual({ n: 1 });
    });
    await owner.begin(async (sql) => {
      await get(sql, 'read');
      expect(await get(owner, 'read')).toEqual({ n: 1 });
    });
    await owner`delete from app_private.query_cache`;
  });

  test('goes with its user', async () => {
    await asOwner(async (sql) => {
      const user = await createUser(sql);
      await sql`select app_private.set_app_user(${user.id})`;
      await put(sql, 'mine', {});
      await sql`delete from app_public.users where id = ${user.id}`;
      expect(await sql`select from app_private.query_cache`).toHaveLength(0);
    });
  });

  test('is closed to users, and to the API itself but for its functions', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      await become(sql, user.id);
      await expectRefusal(sql, '42501', (inner) => inner`select app_private.query_cache_get('x')`);
      await actFor(sql, user.id);
      await expectRefusal(sql, '42501', (inner) => inner`select from app_private.query_cache`);
    });
  });

  test('refuses a result that would have expired already', async () => {
    await asOwner(async (sql) => {
      await expectRefusal(sql, '23514', (inner) => put(inner, 'x', {}, [], '0'));
    });
  });
});

test('insights are for whoever has signed in, and of one to a hundred weeks', async () => {
  await rolledBack(db.as('superuser'), async (sql) => {
    const { id } = await createUser(sql);
    await become(sql, null);
    await expectRefusal(sql, '42501', (inner) => inner`select app_public.insights()`);
    await sql`set local role none`;
    await sql`set local role app_user`;
    await expectRefusal(sql, 'GW001', (inner) => inner`select app_public.insights()`);
    await become(sql, id);
    for (const weeks of [0, 101, null]) {
      await expectRefusal(
        sql,
        'GW002',
        (inner) => inner`select app_public.insights(${weeks}::integer)`,
      );
    }
    for (const weeks of [1, 100]) await sql`select app_public.insights(${weeks}::integer)`;
  });
});
