/** A row as the database's function wants it; values as PostgreSQL prints them. */
export type Row = Record<string, unknown>;

export type Table = 'users' | 'tasks' | 'reflections';

/** What we capture of each table: its key, and the columns that count. */
export const captured: Record<Table, { root: string; key: string[]; columns: string[] }> = {
  users: { root: 'app_public.users', key: ['id'], columns: ['id', 'timezone'] },
  tasks: {
    root: 'app_public.tasks',
    key: ['user_id', 'id'],
    columns: ['user_id', 'id', 'created_at', 'completed_at'],
  },
  reflections: {
    root: 'app_public.reflections',
    key: ['user_id', 'id'],
    columns: ['user_id', 'id', 'reflection_date', 'mood_score'],
  },
};

/** The table through which heartbeats and truncated partitions come. */
export const signalTable = 'app_private.capture_signals';

export type Change =
  | { kind: 'written'; table: Table; row: Row }
  | { kind: 'deleted'; table: Table; row: Row }
  /** A table, or a partition of one, by its quoted name. */
  | { kind: 'truncated'; table: Table; object: string }
  /** Nothing but that the log has come this far. */
  | { kind: 'heartbeat' };

export interface Transaction {
  /** Where its commit record begins: what decides whether a snapshot has seen it. */
  commitLsn: bigint;
  /** Where its commit record ends: where reading goes on after it. */
  endLsn: bigint;
  committedAt: string;
  /** The lower 32 bits of its id. */
  xid: number;
  changes: Change[];
}

/** One call's worth of changes: the last state of each row. */
class Part {
  readonly truncated: string[] = [];
  readonly #rows: Record<Table, Map<string, Change & { row: Row }>> = {
    users: new Map(),
    tasks: new Map(),
    reflections: new Map(),
  };

  /** @returns false when the change has to be in a later part than those before it */
  add(change: Change): boolean {
    if (change.kind === 'heartbeat') return true;
    const rows = this.#rows[change.table];
    if (change.kind !== 'truncated') {
      rows.set(captured[change.table].key.map((name) => change.row[name]).join(), change);
      return true;
    }
    const { root } = captured[change.table];
    if (change.object === root) rows.clear();
    // Which of the rows before it were in that partition, only the database can tell.
    else if (rows.size > 0) return false;
    if (!this.truncated.includes(root)) this.truncated.push(change.object);
    return true;
  }

  toJson(xids: readonly number[]): string {
    const parts: Record<string, unknown> = { truncated: this.truncated, xids };
    for (const [table, rows] of Object.entries(this.#rows)) {
      if (rows.size === 0) continue;
      const changes = [...rows.values()];
      parts[table] = changes.filter(({ kind }) => kind === 'written').map(({ row }) => row);
      parts[`${table}_gone`] = changes
        .filter(({ kind }) => kind === 'deleted')
        .map(({ row }) => row);
    }
    return JSON.stringify(parts);
  }
}

/**
 * Changes as arguments of app_private.apply_changes(), one JSON text a call. Of several
 * changes of a row the last is left, because the function looks at states, not at steps.
 *
 * @param xids the transactions that they are of
 */
export function toCalls(changes: Iterable<Change>, xids: readonly number[]): string[] {
  const parts = [new Part()];
  for (const change of changes) {
    if (parts.at(-1)?.add(change)) continue;
    const next = new Part();
    next.add(change);
    parts.push(next);
  }
  return parts.map((part) => part.toJson(xids));
}
