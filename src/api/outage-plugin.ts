import type { GraphileConfig } from 'postgraphile/graphile-build';

/** A response in which nothing but errors stands is short. */
const longest = 20_000;

interface Payload {
  data?: Record<string, unknown> | null;
  errors?: { extensions?: { code?: string } }[];
}

/** Whether the database gave nothing of what was asked. */
const isOutage = ({ data, errors = [] }: Payload): boolean =>
  errors.length > 0 &&
  errors.every(({ extensions }) => extensions?.code === 'UNAVAILABLE') &&
  Object.values(data ?? {}).every((value) => value === null);

function parse(buffer: Buffer): Payload | undefined {
  if (buffer.length > longest || !buffer.includes('"UNAVAILABLE"')) return undefined;
  try {
    return JSON.parse(buffer.toString()) as Payload;
  } catch {
    return undefined;
  }
}

/**
 * Balancers, monitors and clients that look at the status alone have to see an outage: a response
 * without any data, because the database is away, is 503 and says when to try again.
 */
export const OutagePlugin: GraphileConfig.Plugin = {
  name: 'OutagePlugin',
  version: '1.0.0',
  after: ['DocumentPlugin'],
  grafserv: {
    middleware: {
      async processRequest(next) {
        const result = await next();
        if (result === null || !('statusCode' in result) || result.statusCode !== 200)
          return result;
        const payload =
          result.type === 'buffer'
            ? parse(result.buffer)
            : result.type === 'json'
              ? (result.json as Payload)
              : undefined;
        if (payload === undefined || !isOutage(payload)) return result;
        return { ...result, statusCode: 503, headers: { ...result.headers, 'Retry-After': '1' } };
      },
    },
  },
};
