import { createECDH, randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Session } from '../helpers/api.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

/*
 * Browsers that show notifications, as a page registers them.
 */
const db = useDatabase();
const api = useApi(db);

let ann: Session;
let bob: Session;

let number = 0;

beforeEach(async () => {
  number += 1;
  ann = await api.register(`ann${number}@example.com`);
  bob = await api.register(`bob${number}@example.com`);
});

/** As PushSubscription.toJSON() gives it. */
const subscription = (
  address = `https://fcm.googleapis.com/fcm/send/${randomBytes(20).toString('base64url')}`,
) => ({
  address,
  publicKey: createECDH('prime256v1').generateKeys('base64url'),
  auth: randomBytes(16).toString('base64url'),
});

const register = (session: Session | undefined, input: Record<string, string>) =>
  api.query<{ registerPushEndpoint: { result: { rowId: string; label: string } } }>(
    `mutation ($input: RegisterPushEndpointInput!) {
      registerPushEndpoint(input: $input) { result { rowId kind label } }
    }`,
    { input },
    session?.accessToken,
  );

const mine = async (session: Session) => {
  const { data, errors } = await api.query<{
    userEndpoints: { nodes: { rowId: string; label: string }[] };
  }>('{ userEndpoints { nodes { rowId label } } }', {}, session.accessToken);
  expect(errors).toEqual([]);
  return data.userEndpoints.nodes;
};

test('a browser is registered once, renamed and removed', async () => {
  const input = subscription();
  const { data, errors } = await register(ann, input);
  expect(errors).toEqual([]);
  const [endpoint] = await mine(ann);
  expect(endpoint?.rowId).toBe(data.registerPushEndpoint.result.rowId);
  const renamed = await api.query(
    `mutation ($id: UUID!) {
      updateUserEndpoint(input: { rowId: $id, patch: { label: "at work" } }) { userEndpoint { label } }
    }`,
    { id: endpoint?.rowId },
    ann.accessToken,
  );
  expect(renamed.errors).toEqual([]);
  // The page registers with each visit.
  await register(ann, input);
  expect(await mine(ann)).toMatchObject([{ rowId: endpoint?.rowId, label: 'at work' }]);
  await api.query(
    'mutation ($id: UUID!) { deleteUserEndpoint(input: { rowId: $id }) { clientMutationId } }',
    { id: endpoint?.rowId },
    ann.accessToken,
  );
  expect(await mine(ann)).toEqual([]);
});

test('a browser has one owner: whoever signs in there', async () => {
  const input = subscription();
  await register(ann, input);
  await register(bob, input);
  expect(await mine(ann)).toEqual([]);
  expect(await mine(bob)).toHaveLength(1);
});

test('of more than ten the oldest go', async () => {
  const made: string[] = [];
  for (let count = 0; count < 12; count += 1) {
    const { data } = await register(ann, subscription());
    made.push(data.registerPushEndpoint.result.rowId);
  }
  expect((await mine(ann)).map(({ rowId }) => rowId)).toEqual(made.slice(2));
});

test('nobody registers without signing in; what the address and keys are, nobody reads', async () => {
  const { errors } = await register(undefined, subscription());
  expect(errors[0]?.extensions?.code).toBe('UNAUTHENTICATED');
  const { errors: unknown } = await api.query(
    '{ userEndpoints { nodes { address } } }',
    {},
    ann.accessToken,
  );
  expect(unknown[0]?.message).toContain('Cannot query field "address"');
});

describe('an address is refused that', () => {
  test.each([
    ['is of no push service', 'https://example.com/push'],
    ['only ends like one', 'https://evilfcm.googleapis.com/x'],
    ['only ends like one of many', 'https://evilpush.apple.com/x'],
    ['only begins like one', 'https://fcm.googleapis.com.example.com/x'],
    ['has a user that looks like one', 'https://fcm.googleapis.com@example.com/x'],
    ['has another port', 'https://fcm.googleapis.com:8443/x'],
    ['is not encrypted', 'http://fcm.googleapis.com/x'],
    ['is on this machine', 'http://127.0.0.1:5432/x'],
    ['is the cloud’s own', 'http://169.254.169.254/latest/meta-data'],
    ['has a line break', 'https://fcm.googleapis.com/x\r\nHost: example.com'],
    ['is too long', `https://fcm.googleapis.com/${'x'.repeat(1_000)}`],
    ['is a star', 'https://*.push.apple.com/x'],
    ['is empty', ''],
  ])('%s', async (_, address) => {
    const { errors } = await register(ann, subscription(address));
    expect(errors[0]).toMatchObject({
      message: 'the address is of no push service that is known here',
      extensions: { code: 'VALIDATION_FAILED', field: 'address' },
    });
  });

  test.each([
    ['publicKey', 'short'],
    ['auth', 'A'.repeat(23)],
  ])('the key %s too', async (field, value) => {
    const { errors } = await register(ann, { ...subscription(), [field]: value });
    expect(errors[0]?.extensions).toMatchObject({ code: 'VALIDATION_FAILED', field });
  });

  test('and one of a service of many hosts is taken', async () => {
    const { errors } = await register(bob, subscription('https://web.push.apple.com/QabC-1'));
    expect(errors).toEqual([]);
  });
});

test('the key to subscribe with is for everybody, and null while nobody sends', async () => {
  const { data } = await api.query<{ pushPublicKey: string | null }>('{ pushPublicKey }');
  expect(data).toEqual({ pushPublicKey: null });
});

test('the application gives a telephone to its present owner, and takes it back', async () => {
  const owner = db.as('superuser');
  const put = (userId: string) =>
    owner.begin(async (sql) => {
      await sql`set local role gw_sender`;
      await sql`select app_hidden.put_endpoint(${userId}, 'sms', '+49 30 1234', 'phone')`;
    });
  await put(ann.userId);
  await put(bob.userId);
  const phones = async (session: Session) =>
    (await mine(session)).filter(({ label }) => label === 'phone');
  expect([await phones(ann), await phones(bob)]).toMatchObject([[], [{ label: 'phone' }]]);
  const [removed] = await owner`
    select app_hidden.remove_endpoint(${bob.userId}, 'sms', '+49 30 1234') as is_removed`;
  expect(removed).toEqual({ is_removed: true });
  await expect(
    owner`select app_hidden.put_endpoint(${ann.userId}, 'push', 'https://fcm.googleapis.com/x')`,
  ).rejects.toMatchObject({ code: 'GW043' });
});
