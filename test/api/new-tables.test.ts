import { beforeAll, expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
beforeAll(async () => {
  await db.as('owner').unsafe(`
    create table app_public.shirts (
      user_id uuid not null default app_hidden.current_app_user_id(),
      id uuid not null default gen_random_uuid(),
      size text not null default '1-2',
      constraint shirts_pkey primary key (user_id, id),
      constraint shirts_size_check check (size in ('1-2', '3+', 'it''s, large'))
    );
    alter table app_public.shirts enable row level security;
    create policy own on app_public.shirts for all to app_user
      using (user_id = app_hidden.current_app_user_id());
    grant select, delete, insert (size), update (size) on app_public.shirts to app_user`);
});
const api = useApi(db);

interface Shirts {
  createShirts: { shirts: { size: string }[] };
}

test('values that are no names of GraphQL stay text, and a key may be one that nobody inserts', async () => {
  const { accessToken } = await api.register('shirts@example.com');
  const create = async (shirts: object[]): Promise<string[]> => {
    const { data, errors } = await api.query<Shirts>(
      `mutation ($shirts: [ShirtInput!]!) {
        createShirts(input: { shirts: $shirts }) { shirts { size } } }`,
      { shirts },
      accessToken,
    );
    expect(errors).toEqual([]);
    return data.createShirts.shirts.map(({ size }) => size);
  };
  expect(await create([{}, {}])).toEqual(['1-2', '1-2']);
  const sizes = ["it's, large", '3+', '1-2'];
  expect(await create(sizes.map((size) => ({ size })))).toEqual(sizes);
});
