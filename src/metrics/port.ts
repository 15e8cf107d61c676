import { createServer } from 'node:http';
import { sendError, sendJson } from '../http.ts';
import { mayReadMetrics } from './access.ts';

export interface PortOptions {
  host: string;
  /** 0 for a free one. */
  port: number;
  /** Whoever knows it may read /metrics; without one, this machine only. */
  token?: string | undefined;
  /** In Prometheus' text form. */
  metrics: () => Promise<string>;
  /** Whether the process does its work; else it should be started anew. */
  isAlive: () => boolean;
  /** What /readyz says: "ok", or what is wrong, of each thing that is looked at. */
  checks: () => Record<string, string>;
}

export interface MetricsPort {
  port: number;
  close(): void;
}

/**
 * Opens the port of a process that has no other: /healthz, /readyz and /metrics.
 *
 * @throws when the port is taken
 */
export async function openMetricsPort(options: PortOptions): Promise<MetricsPort> {
  const { host, port, token, metrics, isAlive, checks } = options;
  const server = createServer(async (request, response) => {
    response.setHeader('x-content-type-options', 'nosniff');
    const path = (request.url ?? '/').split('?', 1)[0];
    if (path === '/healthz') {
      const alive = isAlive();
      return sendJson(response, alive ? 200 : 503, { alive });
    }
    if (path === '/readyz') {
      const found = checks();
      const ready = Object.values(found).every((text) => text === 'ok');
      return sendJson(response, ready ? 200 : 503, { ready, checks: found });
    }
    if (path !== '/metrics') {
      return sendError(response, 404, 'NOT_FOUND', 'there are /healthz, /readyz and /metrics');
    }
    if (!mayReadMetrics(request, token)) {
      return sendError(response, 403, 'FORBIDDEN', 'metrics are not for you');
    }
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
    response.end(await metrics());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  // It does not keep a process alive that has nothing else to do.
  server.unref();
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
