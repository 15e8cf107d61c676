import type { Row } from './changes.ts';
import { type Decoder, type ReplicationMessage, unchanged } from './protocol.ts';

/** The publication that the migrations make. */
export const publication = 'gw_cdc';

export const pgoutputOptions = { proto_version: '1', publication_names: publication };

/** Microseconds between 1970 and 2000, where PostgreSQL's time begins. */
const epoch = 946_684_800_000_000n;

/** ISO 8601 with microseconds, which Date would cut off. */
function toTimestamp(microseconds: bigint): string {
  const since1970 = microseconds + epoch;
  const fraction = String(since1970 % 1_000_000n).padStart(6, '0');
  return new Date(Number(since1970 / 1000n)).toISOString().replace(/\.\d+Z$/, `.${fraction}Z`);
}

/** Reads the fields of one message in their order. */
class Fields {
  readonly #frame: Buffer;
  #at = 1;

  constructor(frame: Buffer) {
    this.#frame = frame;
  }

  byte(): string {
    this.#at += 1;
    return String.fromCharCode(this.#frame[this.#at - 1] ?? 0);
  }

  skip(bytes: number): void {
    this.#at += bytes;
  }

  int16(): number {
    this.#at += 2;
    return this.#frame.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#frame.readInt32BE(this.#at - 4);
  }

  int64(): bigint {
    this.#at += 8;
    return this.#frame.readBigInt64BE(this.#at - 8);
  }

  /** Up to a zero byte. */
  name(): string {
    const end = this.#frame.indexOf(0, this.#at);
    const text = this.#frame.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return text;
  }

  text(): string {
    const length = this.int32();
    this.#at += length;
    return this.#frame.toString('utf8', this.#at - length, this.#at);
  }
}

interface Relation {
  name: string;
  columns: string[];
}

/** Reads pgoutput's protocol 1: whole, committed transactions, values as text. */
export class PgoutputDecoder implements Decoder {
  readonly #relations = new Map<number, Relation>();

  decode(frame: Buffer): ReplicationMessage | undefined {
    const fields = new Fields(frame);
    switch (String.fromCharCode(frame[0] ?? 0)) {
      case 'B':
        return {
          kind: 'begin',
          commitLsn: fields.int64(),
          committedAt: toTimestamp(fields.int64()),
          xid: fields.int32() >>> 0,
        };
      case 'C':
        fields.skip(9); // flags, and where the commit begins
        return { kind: 'commit', endLsn: fields.int64() };
      case 'R':
        this.#readRelation(fields);
        return undefined;
      case 'I': {
        const relation = this.#relation(fields.int32());
        fields.byte();
        const after = this.#readTuple(fields, relation);
        return { kind: 'row', relation: relation.name, after, before: undefined };
      }
      case 'U': {
        const relation = this.#relation(fields.int32());
        let before: Row | undefined;
        if (fields.byte() !== 'N') {
          before = this.#readTuple(fields, relation);
          fields.byte();
        }
        const after = this.#readTuple(fields, relation);
        return { kind: 'row', relation: relation.name, after, before };
      }
      case 'D': {
        const relation = this.#relation(fields.int32());
        fields.byte();
        const before = this.#readTuple(fields, relation);
        return { kind: 'row', relation: relation.name, after: undefined, before };
      }
      case 'T': {
        const count = fields.int32();
        fields.byte();
        const relations = Array.from({ length: count }, () => this.#relation(fields.int32()).name);
        return { kind: 'truncate', relations };
      }
      default:
        // Types, origins and messages.
        return undefined;
    }
  }

  #relation(oid: number): Relation {
    const relation = this.#relations.get(oid);
    if (relation === undefined) throw new Error(`pgoutput did not describe relation ${oid}`);
    return relation;
  }

  #readRelation(fields: Fields): void {
    const oid = fields.int32();
    const name = `${fields.name()}.${fields.name()}`;
    fields.byte();
    const columns: string[] = [];
    for (let left = fields.int16(); left > 0; left -= 1) {
      fields.byte();
      columns.push(fields.name());
      fields.skip(8); // type and its modifier
    }
    this.#relations.set(oid, { name, columns });
  }

  #readTuple(fields: Fields, { columns }: Relation): Row {
    const row: Row = {};
    const count = fields.int16();
    for (let index = 0; index < count; index += 1) {
      const kind = fields.byte();
      const name = columns[index] ?? '';
      if (kind === 't') row[name] = fields.text();
      else row[name] = kind === 'n' ? null : unchanged;
    }
    return row;
  }
}
