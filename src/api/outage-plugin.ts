import type { GraphileConfig } from 'postgraphile/graphile-build';

/** A response in which nothing but errors stands is short. */
const longest = 20_000;

interface Payload {
  data?: Record<string, unknown> | null;
  errors?: { extensions?: { code?: string; retryAfter?: number } }[];
}

/** What a response without any data says with its status. */
const statuses: Record<string, number> = { UNAVAILABLE: 503, RATE_LIMITED: 429 };

/** The status of a response that has nothing but errors of one kind; undefined for others. */
function statusOf({ data, errors = [] }: Payload): number | undefined {
  const code = errors[0]?.extensions?.code ?? '';
  const isAll =
    errors.every(({ extensions }) => extensions?.code === code) &&
    Object.values(data ?? {}).every((value) => value === null);
  return isAll ? statuses[code] : undefined;
}

function parse(buffer: Buffer): Payload | undefined {
  if (buffer.length > longest) return undefined;
  if (!Object.keys(statuses).some((code) => buffer.includes(`"${code}"`))) return undefined;
  try {
    return JSON.parse(buffer.toString()) as Payload;
  } catch {
    return undefined;
  }
}

/**
 * Balancers, monitors and clients that look at the status alone have to see an outage: a response
 * without any data, because the database is away, is 503 and says when to try again. One that was
 * refused because the caller asks too much at once is 429.
 */
export const OutagePlugin: GraphileConfig.Plugin = {
  name: 'OutagePlugin',
  version: '1.0.0',
  after: ['DocumentPlugin'],
  grafserv: {
    middleware: {
      async processRequest(next) {
        const result = await next();
        if (result === null || !('statusCode' in result)) return result;
        // 400 is a response without data, to a client that takes application/graphql-response+json.
        if (result.statusCode !== 200 && result.statusCode !== 400) return result;
        const payload =
          result.type === 'buffer'
            ? parse(result.buffer)
            : result.type === 'json'
              ? (result.json as Payload)
              : undefined;
        const statusCode = payload === undefined ? undefined : statusOf(payload);
        if (statusCode === undefined) return result;
        const retryAfter = String(payload?.errors?.[0]?.extensions?.retryAfter ?? 1);
        return { ...result, statusCode, headers: { ...result.headers, 'retry-after': retryAfter } };
      },
    },
  },
};
