import type { Row } from './changes.ts';

/** What an output plugin says, whichever it is. */
export type ReplicationMessage =
  | { kind: 'begin'; commitLsn: bigint; committedAt: string; xid: number }
  | { kind: 'commit'; endLsn: bigint }
  /**
   * Inserted (no `before`), updated or deleted (no `after`). `before` holds the key only; it
   * may be missing in an update that does not change the key.
   */
  | { kind: 'row'; relation: string; after: Row | undefined; before: Row | undefined }
  | { kind: 'truncate'; relations: string[] };

export interface Decoder {
  /** @returns undefined when there is nothing in it for us */
  decode(frame: Buffer): ReplicationMessage | undefined;
}

/** A value that an update did not touch and that the log therefore does not repeat. */
export const unchanged = Symbol('unchanged');
