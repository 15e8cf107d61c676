import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import Negotiator from 'negotiator';
import type { GraphileConfig } from 'postgraphile/graphile-build';

/** Shorter ones fit into a packet or two anyway, in bytes. */
const shortest = 1_024;

const brotli = promisify(brotliCompress);

const encoders: Record<string, (text: Buffer) => Promise<Buffer>> = {
  // As fast as gzip, and smaller; the usual quality, 11, takes seconds for a megabyte.
  br: (text) => brotli(text, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  gzip: promisify(gzip),
};

/** Compresses what is longer than a kilobyte, in another thread, as the client accepts it. */
export const CompressionPlugin: GraphileConfig.Plugin = {
  name: 'CompressionPlugin',
  version: '1.0.0',
  // Outside of those that read a response.
  before: ['DocumentPlugin', 'OutagePlugin'],
  grafserv: {
    middleware: {
      async processRequest(next, { requestDigest: { requestContext } }) {
        const result = await next();
        if (result === null || (result.type !== 'buffer' && result.type !== 'json')) return result;
        const text =
          result.type === 'buffer' ? result.buffer : Buffer.from(JSON.stringify(result.json));
        const type = String(result.headers['content-type'] ?? result.headers['Content-Type']);
        if (text.length < shortest || !/^(text|application)\//.test(type)) return result;
        const { req, res } = requestContext.node ?? {};
        res?.appendHeader('vary', 'Accept-Encoding');
        const accepted =
          req === undefined ? [] : new Negotiator(req).encodings(Object.keys(encoders));
        const encoding = accepted.includes('br') ? 'br' : accepted[0];
        const encode = encoders[encoding ?? ''];
        if (encoding === undefined || encode === undefined) return result;
        const buffer = await encode(text);
        const headers = { ...result.headers };
        for (const name of Object.keys(headers)) {
          if (name.toLowerCase() === 'content-length') delete headers[name];
        }
        return {
          ...result,
          type: 'buffer',
          buffer,
          headers: {
            ...headers,
            'content-encoding': encoding,
            'content-length': String(buffer.length),
          },
        };
      },
    },
  },
};
