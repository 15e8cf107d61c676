import { TYPES } from 'postgraphile/@dataplan/pg';
import type { GraphileConfig } from 'postgraphile/graphile-build';

/**
 * PostGraphile knows no type vector (pgvector) and says so at length on each start. As text
 * a column of it can be described, and then hidden by its comment: 1536 numbers are found
 * by a function, not read.
 */
export const VectorPlugin: GraphileConfig.Plugin = {
  name: 'VectorPlugin',
  version: '1.0.0',
  gather: {
    hooks: {
      pgCodecs_findPgCodec(_info, event) {
        if (!event.pgCodec && event.pgType.typname === 'vector') event.pgCodec = TYPES.text;
      },
    },
  },
};
