import { describe, expect, test } from 'vitest';
import { createUser, rolledBack, useDatabase } from '../helpers/database.ts';

const db = useDatabase();

describe('users', () => {
  test('two open accounts cannot have one e-mail, whatever the case', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await createUser(sql, { email: 'ann@example.com' });
      await expect(sql.savepoint((inner) => createUser(inner, { email: 'ANN@example.com' }))).rejects.toMatchObject({
        code: '23505',
      });
    });
  });
});
