import { beforeAll, expect, test } from 'vitest';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { attempt, planned } from '../helpers/message-stages.ts';

const db = useDatabase();
const api = useApi(db);

let ann: Session;
let bob: Session;

beforeAll(async () => {
  ann = await api.register('ann@example.com');
  bob = await api.register('bob@example.com');
  const owner = db.as('owner');
  const user = await planned(owner);
  await attempt(owner, user, { status: 'RETRYING', code: 503, error: 'busy' });
  // The message becomes Ann's.
  await owner`
    update app_public.message_logs set user_id = ${ann.userId} where id = ${user.messageId}`;
});

const query = `{
  messageLogs { nodes { messageType messageSubject messageContent status retryCount } totalCount }
}`;

test('users see their own messages, and nobody else does', async () => {
  const mine = await api.query(query, {}, ann.accessToken);
  expect(mine.errors).toEqual([]);
  expect(mine.data).toEqual({
    messageLogs: {
      nodes: [
        {
          messageType: 'BIRTHDAY',
          messageSubject: 'Happy birthday, Test!',
          messageContent: expect.stringContaining('Test'),
          status: 'RETRYING',
          retryCount: 1,
        },
      ],
      totalCount: 1,
    },
  });
  const theirs = await api.query(query, {}, bob.accessToken);
  expect(theirs.data).toEqual({ messageLogs: { nodes: [], totalCount: 0 } });
});

test('what the vendor answered, jobs and addresses are not in the API', async () => {
  const { data } = await api.query<{ __type: { fields: { name: string }[] } }>(
    '{ __type(name: "MessageLog") { fields { name } } }',
    {},
    ann.accessToken,
  );
  const fields = data.__type.fields.map(({ name }) => name);
  expect(fields).toEqual(
    expect.arrayContaining(['messageType', 'messageContent', 'status', 'scheduledSendTime']),
  );
  expect(fields.join(' ')).not.toMatch(
    /job|recipient|attempt|uncertain|sendUntil|apiResponse|error|idempotency|lastRetry/i,
  );
});
