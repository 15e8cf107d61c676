import { appendFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Pool } from 'pg';
import { request } from 'undici';
import { formatSeal, makeSeal } from '../audit/seals.ts';
import { errorText, type Log } from '../log.ts';

export interface SealOptions {
  pool: Pool;
  log: Log;
  key: string;
  /** A file: URL, to whose end each seal is written, or an http one, to which it is posted. */
  url: string;
}

/** How often the end of the audit log is looked at. */
const everyMs = 60_000;

/** One is made without a new row, too: its age says that sealing works. */
const atLeastEveryMs = 3_600_000;

async function keep(url: string, line: string): Promise<void> {
  if (url.startsWith('file:')) {
    // On disk before the next row can be sealed.
    await appendFile(fileURLToPath(url), `${line}\n`, { mode: 0o600, flush: true });
    return;
  }
  const { statusCode, body } = await request(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: line,
    headersTimeout: 10_000,
    bodyTimeout: 10_000,
  });
  await body.dump();
  if (statusCode >= 300) throw new Error(`the receiver of seals answered ${statusCode}`);
}

/**
 * Seals the end of the audit log now, and each minute when it has moved.
 *
 * @returns ends it
 */
export function sealAuditLog({ pool, log, key, url }: SealOptions): () => void {
  let sealed = { id: '', at: 0 };
  async function seal(): Promise<void> {
    const { rows } = await pool.query<{ database: string; id: string; hash: string }>(
      `select current_database() as database, last_id as id, encode(last_hash, 'hex') as hash
       from ops.audit_log_head
       where last_id > 0`,
    );
    const [head] = rows;
    if (head === undefined) return;
    if (head.id === sealed.id && Date.now() - sealed.at < atLeastEveryMs) return;
    const sealedAt = new Date().toISOString();
    const made = makeSeal(key, { ...head, id: BigInt(head.id), sealedAt });
    await keep(url, formatSeal(made));
    sealed = { id: head.id, at: Date.now() };
  }
  const run = (): void => {
    seal().catch((error: unknown) =>
      log.error({ error: errorText(error) }, 'the audit log could not be sealed'),
    );
  };
  run();
  const timer = setInterval(run, everyMs);
  return () => clearInterval(timer);
}
