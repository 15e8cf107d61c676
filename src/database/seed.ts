import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { withSql } from './connect.ts';
import { projectRoot } from './state.ts';

export interface SeedResult {
  users: number;
  tasks: number;
}

/**
 * Fills the database with demo data until it has this many demo users.
 *
 * @returns how many rows were added
 */
export async function seed(ownerUrl: string, users: number): Promise<SeedResult> {
  const text = readFileSync(join(projectRoot, 'sql', 'seed', 'demo.sql'), 'utf8');
  return withSql(ownerUrl, async (sql) => {
    const count = async (): Promise<SeedResult> => {
      const [row] = await sql<SeedResult[]>`
        select (select count(*)::integer from app_public.users) as users,
          (select count(*)::integer from app_public.tasks) as tasks`;
      return row as SeedResult;
    };
    const before = await count();
    await sql`select set_config('groundwork.seed_users', ${String(users)}, false)`;
    await sql.unsafe(text).simple();
    const after = await count();
    return { users: after.users - before.users, tasks: after.tasks - before.tasks };
  });
}

/** Whether nobody uses this database yet. */
export async function isEmpty(ownerUrl: string): Promise<boolean> {
  return withSql(ownerUrl, async (sql) => {
    const [row] = await sql`select from app_public.users limit 1`;
    return row === undefined;
  });
}
