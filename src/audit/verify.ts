import type { Transaction } from '../postgres/connect.ts';
import { isGenuine, type Seal } from './seals.ts';

export interface Verdict {
  /** Rows of the log. */
  rows: number;
  /** Seals that were made with the key, for this database. */
  seals: number;
  /** The newest row that a seal vouches for, with all before it; 0 for none. */
  sealedTo: string;
  sealedAt: string | null;
  /** Sentences; empty when everything is as it was sealed. */
  faults: string[];
}

interface Row {
  id: string;
  prev_hash: string;
  hash: string;
  right_hash: string;
}

const chunk = 10_000;
const nothing = '0'.repeat(64);

/*
 * The same as ops.audit_log_hash(), which belongs to the role that is not to be trusted here. Every
 * name without a schema is PostgreSQL's own: see withSuperuser().
 */
const rowsAfter = (sql: Transaction, id: string) => sql<Row[]>`
  select id, encode(prev_hash, 'hex') as prev_hash, encode(hash, 'hex') as hash,
    encode(sha256(convert_to(jsonb_build_array(
      id, occurred_at, actor, application_name, client_address, action, details,
      encode(prev_hash, 'hex'))::text, 'UTF8')), 'hex') as right_hash
  from ops.audit_log
  where id > ${id}
  order by id
  limit ${chunk}`;

/**
 * Compares the audit log with its seals: hashes every row anew, follows the chain, and looks up the
 * row of each seal.
 *
 * @param sql a transaction whose search_path is pg_catalog and whose time zone is UTC
 * @param lines seals, or the numbers of lines that are none
 */
export async function verifyAuditLog(
  sql: Transaction,
  key: string,
  database: string,
  lines: readonly (Seal | number)[],
): Promise<Verdict> {
  const faults = lines
    .filter((line) => typeof line === 'number')
    .map((line) => `line ${line} of the seals is not a seal`);
  const seals = lines.filter((line) => typeof line !== 'number');
  const own = seals.filter((seal) => seal.database === database);
  const genuine = own.filter((seal) => isGenuine(key, seal));
  if (genuine.length < own.length) {
    faults.push(`${own.length - genuine.length} seals were not made with this key, or altered`);
  }
  const wanted = new Map<string, Seal[]>();
  for (const seal of genuine) {
    const id = String(seal.id);
    wanted.set(id, [...(wanted.get(id) ?? []), seal]);
  }

  let before = { id: '0', hash: nothing };
  let rows = 0;
  let broken: string | undefined;
  const vouched: Seal[] = [];
  for (;;) {
    const found = await rowsAfter(sql, before.id);
    for (const row of found) {
      const isNext = BigInt(row.id) === BigInt(before.id) + 1n;
      if (!isNext || row.prev_hash !== before.hash || row.hash !== row.right_hash) {
        broken ??= isNext
          ? `row ${row.id} was altered, or the row before it`
          : `rows between ${before.id} and ${row.id} are missing`;
      }
      for (const seal of wanted.get(row.id) ?? []) {
        if (seal.hash === row.right_hash && broken === undefined) vouched.push(seal);
        else faults.push(`row ${row.id} is not what was sealed at ${seal.sealedAt}`);
      }
      wanted.delete(row.id);
      before = { id: row.id, hash: row.hash };
      rows += 1;
    }
    if (found.length < chunk) break;
  }
  if (broken !== undefined) faults.unshift(broken);
  for (const [id, [seal]] of wanted) {
    faults.push(`row ${id} is missing, and was there at ${seal?.sealedAt}`);
  }
  const last = vouched.toSorted((a, b) => Number(a.id - b.id)).at(-1);
  return {
    rows,
    seals: genuine.length,
    sealedTo: String(last?.id ?? 0),
    sealedAt: last?.sealedAt ?? null,
    faults,
  };
}
