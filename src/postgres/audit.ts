import type postgres from 'postgres';
import { type Sql, withSql } from './connect.ts';

/**
 * Enters what the toolkit did into ops.audit_log. Does nothing in a database that has no such
 * log: one that is not migrated yet, or is not ours.
 *
 * @param action such as `session.issued`
 * @param details without secrets, addresses and texts of users
 */
export async function audit(
  target: string | Sql,
  action: string,
  details: postgres.JSONValue,
): Promise<void> {
  if (typeof target === 'string') return withSql(target, (sql) => audit(sql, action, details));
  const [log] = await target`
    select to_regprocedure('ops.audit(text, jsonb)') is not null as exists`;
  if (log?.exists !== true) return;
  await target`select ops.audit(${action}, ${target.json(details)})`;
}
