import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { audit } from '../postgres/audit.ts';
import { withSql } from '../postgres/connect.ts';
import { projectRoot } from '../project.ts';

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
    // The history's months. On their own: while a partition is attached, nobody reads DEFAULT.
    for (const [table, months] of [
      ['app_public.message_logs', 14],
      ['app_private.performance_metrics', 1],
      ['app_private.connection_pool_stats', 1],
    ] as const) {
      await sql`
        select ops.create_range_partition(
          ${table}::text::regclass, now() - make_interval(months => ago), interval '1 month')
        from generate_series(1, ${months}::integer) as ago`;
    }
    await sql`select set_config('groundwork.seed_users', ${String(users)}, false)`;
    await sql.unsafe(text).simple();
    const after = await count();
    const added = { users: after.users - before.users, tasks: after.tasks - before.tasks };
    if (added.users > 0) await audit(sql, 'demo_data.added', { ...added });
    return added;
  });
}

/** Whether nobody uses this database yet. */
export async function isEmpty(ownerUrl: string): Promise<boolean> {
  return withSql(ownerUrl, async (sql) => {
    const [row] = await sql`select from app_public.users limit 1`;
    return row === undefined;
  });
}
