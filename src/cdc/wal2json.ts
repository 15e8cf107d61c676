import { parseLsn } from './lsn.ts';
import type { Decoder, ReplicationMessage } from './protocol.ts';

interface Column {
  name: string;
  value: unknown;
}

interface Wal2json {
  action: 'B' | 'C' | 'I' | 'U' | 'D' | 'T' | 'M';
  timestamp?: string;
  xid: number;
  lsn: string;
  nextlsn: string;
  schema?: string;
  table?: string;
  columns?: Column[];
  identity?: Column[];
}

const toRow = (columns: Column[] = []): Record<string, unknown> =>
  Object.fromEntries(columns.map(({ name, value }) => [name, value]));

/** Escapes a name for filter-tables, where these characters mean something. */
const escapeName = (name: string): string => name.replace(/[\\ ,.*']/g, '\\$&');

/**
 * The options of a slot with wal2json.
 *
 * @param ignored tables that certainly hold nothing of ours. Those made later come through,
 *   which a list of wanted tables would not let them.
 */
export function wal2jsonOptions(ignored: { schema: string; name: string }[]) {
  const filter = ignored.map(({ schema, name }) => `${escapeName(schema)}.${escapeName(name)}`);
  return {
    'format-version': '2',
    'include-lsn': 'true',
    'include-timestamp': 'true',
    'include-xids': 'true',
    'include-types': 'false',
    ...(filter.length === 0 ? {} : { 'filter-tables': filter.join(',') }),
  };
}

/** Reads wal2json's format 2: one JSON object a change. */
export class Wal2jsonDecoder implements Decoder {
  decode(frame: Buffer): ReplicationMessage | undefined {
    const said = JSON.parse(frame.toString('utf8')) as Wal2json;
    switch (said.action) {
      case 'B':
        return {
          kind: 'begin',
          commitLsn: parseLsn(said.lsn),
          committedAt: said.timestamp ?? '',
          xid: said.xid,
        };
      case 'C':
        return { kind: 'commit', endLsn: parseLsn(said.nextlsn) };
      case 'M':
        return undefined;
    }
    const relation = `${said.schema}.${said.table}`;
    if (said.action === 'T') return { kind: 'truncate', relations: [relation] };
    const after = said.action === 'D' ? undefined : toRow(said.columns);
    const before = said.action === 'I' ? undefined : toRow(said.identity);
    return { kind: 'row', relation, after, before };
  }
}
