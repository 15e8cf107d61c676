import { codeOf, EXIT, GwError, messageOf } from '../errors.ts';
import type { Sql } from '../postgres/connect.ts';
import { type Column, formatTable } from '../terminal/table.ts';
import { stamp } from '../terminal/values.ts';

/** A change that a second person has to approve. */
export interface Approval {
  id: number;
  action: string;
  details: Record<string, unknown>;
  size: number;
  requested_by: string;
  requested_at: Date;
  approved_by: string | null;
}

/**
 * Does something that may need the approval of a second person, and asks for one where it does.
 *
 * @throws GwError which says how it goes on then
 */
export async function withApproval<Result>(
  sql: Sql,
  work: (sql: Sql) => Promise<Result>,
): Promise<Result> {
  try {
    return await work(sql);
  } catch (error) {
    if (codeOf(error) !== 'GW045') throw error;
    const { detail = '{}' } = error as { detail?: string };
    const { action, details, size } = JSON.parse(detail) as Approval;
    const [row] = await sql<{ id: number }[]>`
      select ops.request_approval(${action}, ${sql.json(details as never)}, ${size}) as id`;
    throw new GwError(messageOf(error), {
      hint: `Another person runs: gw messages approve ${row?.id}. Then run this command again.`,
      exitCode: EXIT.failure,
      cause: error,
    });
  }
}

/** What was asked for within a day, and is not made yet. */
export const approvals = async (sql: Sql): Promise<Approval[]> => [
  ...(await sql<Approval[]>`
    select id, action, details, size::integer, requested_by, requested_at, approved_by
    from ops.approvals
    where used_at is null and requested_at > now() - interval '1 day'
    order by id`),
];

const columns: Column<Approval>[] = [
  { title: 'request', value: ({ id }) => String(id), isNumber: true },
  { title: 'of', value: ({ action }) => action },
  { title: 'messages', value: ({ size }) => String(size), isNumber: true },
  { title: 'asked by', value: (row) => row.requested_by },
  { title: 'at', value: (row) => stamp(row.requested_at) },
  { title: 'approved by', value: (row) => row.approved_by ?? '' },
  { title: 'what', value: ({ details }) => JSON.stringify(details), isFlexible: true },
];

export const formatApprovals = (rows: Approval[]): string =>
  rows.length === 0 ? 'nothing waits for an approval\n' : formatTable(rows, columns);

export const approve = (sql: Sql, id: number) => sql`select ops.approve_change(${id})`;
