import type { Command } from 'commander';
import { loadConfigOf } from '../config.ts';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { createLog } from '../log.ts';
import { connectionError } from '../postgres/connect.ts';
import { locateDatabase } from '../server/locate.ts';
import { readSecrets, readState } from '../server/state.ts';
import { drainOf, graceOf, sayReady, untilStopped } from './process.ts';

export function registerServe(program: Command): void {
  program
    .command('serve')
    .description('serve the GraphQL API')
    .option('--watch', 'rebuild the GraphQL schema when the database schema changes')
    .action(async (options: { watch?: boolean }) => {
      const { startApi } = await import('../api/server.ts');
      const config = loadConfigOf(['serve']);
      const log = createLog('api', config.GW_LOG_LEVEL);
      const { urls } = locateDatabase(config);
      const port = config.GW_PORT ?? readState().apiPort ?? 5678;
      const api = await startApi({
        authenticatorUrl: urls.authenticator,
        watchUrl: options.watch === true ? urls.superuser : undefined,
        jwtSecret: config.GW_JWT_SECRET ?? readSecrets().jwt,
        stripeWebhookSecret: config.GW_STRIPE_WEBHOOK_SECRET,
        host: config.GW_HOST,
        port,
        poolSize: config.GW_POOL_SIZE,
        liveLimits: { maxSubscriptions: config.GW_MAX_SUBSCRIPTIONS },
        metrics: {
          sample: config.GW_METRICS_SAMPLE,
          slowMs: config.GW_METRICS_SLOW_MS,
          token: config.GW_METRICS_TOKEN,
          port: config.GW_METRICS_PORT,
        },
        log,
      }).catch((error: unknown) => {
        if (codeOf(error) === 'EADDRINUSE') {
          throw new GwError(`port ${(error as { port?: number }).port} is taken`, {
            hint: 'Choose another with GW_PORT, or GW_METRICS_PORT.',
            exitCode: EXIT.usage,
          });
        }
        throw codeOf(error) === undefined
          ? error
          : connectionError(error, urls.authenticator, 'DATABASE_URL');
      });
      log.info({ port: api.port }, 'listening');
      sayReady({ port: api.port });
      const graceMs = graceOf(config);
      await untilStopped(log, graceMs, () => api.close({ drainMs: drainOf(config), graceMs }));
    });
}
