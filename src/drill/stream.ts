import { connect } from '../postgres/connect.ts';

/** What was written, as whoever wrote it knows. */
export interface Written {
  /** How many rows were acknowledged: they are numbered from 1. */
  rows: number;
  firstAt: Date;
  /** When the last one was. */
  lastAt: Date;
}

export interface WriteStream {
  /** What was acknowledged so far. */
  readonly written: Written;
  /** Ends; what the server did not acknowledge does not count. */
  stop(): Promise<Written>;
}

/**
 * Writes one row after the other, each in a transaction of its own, into ops.drill_rows, which it
 * makes.
 */
export async function startStream(ownerUrl: string): Promise<WriteStream> {
  const sql = connect(ownerUrl, { max: 1, connect_timeout: 2 });
  await sql`
    create table ops.drill_rows (
      n integer primary key,
      at timestamptz not null default clock_timestamp()
    )`;
  const written: Written = { rows: 0, firstAt: new Date(), lastAt: new Date() };
  let isEnding = false;
  const running = (async () => {
    while (!isEnding) {
      try {
        await sql`insert into ops.drill_rows (n) values (${written.rows + 1})`;
      } catch {
        // The server is gone.
        return;
      }
      written.rows += 1;
      written.lastAt = new Date();
    }
  })();
  return {
    written,
    async stop() {
      isEnding = true;
      await Promise.race([running, new Promise((resolve) => setTimeout(resolve, 2_000))]);
      await sql.end({ timeout: 1 }).catch(() => {});
      return written;
    },
  };
}
