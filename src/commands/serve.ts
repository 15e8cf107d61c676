import type { Command } from 'commander';
import { loadConfigOf } from '../config.ts';
import { codeOf } from '../errors.ts';
import { openProcessLog } from '../log.ts';
import { connectionError } from '../postgres/connect.ts';
import { locateDatabase } from '../server/locate.ts';
import { readSecrets, readState } from '../server/state.ts';
import { startTracing } from '../tracing.ts';
import {
  drainOf,
  explainPort,
  graceOf,
  sayReady,
  untilMigrated,
  untilStopped,
  waitHelp,
} from './process.ts';

export function registerServe(program: Command): void {
  program
    .command('serve')
    .description('serve the GraphQL API')
    .option('--watch', 'rebuild the GraphQL schema when the database schema changes')
    .option('--wait', waitHelp)
    .action(async (options: { watch?: boolean; wait?: boolean }) => {
      const { startApi } = await import('../api/server.ts');
      const log = openProcessLog('api');
      const config = loadConfigOf(['serve']);
      log.level = config.GW_LOG_LEVEL;
      const stopTracing = await startTracing('groundwork-api');
      const { urls } = locateDatabase(config);
      const port = config.GW_PORT ?? readState().apiPort ?? 5678;
      await untilMigrated(
        { url: urls.authenticator, forServer: options.wait === true, log },
        { host: config.GW_HOST, ports: [port, config.GW_METRICS_PORT] },
      );
      const api = await startApi({
        authenticatorUrl: urls.authenticator,
        watchUrl: options.watch === true ? urls.superuser : undefined,
        jwtSecret: config.GW_JWT_SECRET ?? readSecrets().jwt,
        stripeWebhookSecret: config.GW_STRIPE_WEBHOOK_SECRET,
        host: config.GW_HOST,
        port,
        poolSize: config.GW_POOL_SIZE,
        maxWaiting: config.GW_MAX_WAITING,
        liveLimits: { maxSubscriptions: config.GW_MAX_SUBSCRIPTIONS },
        metrics: {
          sample: config.GW_METRICS_SAMPLE,
          slowMs: config.GW_METRICS_SLOW_MS,
          token: config.GW_METRICS_TOKEN,
          port: config.GW_METRICS_PORT,
        },
        log,
      }).catch((error: unknown) => {
        if (codeOf(error) === 'EADDRINUSE') explainPort(error);
        throw codeOf(error) === undefined
          ? error
          : connectionError(error, urls.authenticator, 'DATABASE_URL');
      });
      log.info({ port: api.port }, 'listening');
      sayReady({ port: api.port });
      const graceMs = graceOf(config);
      await untilStopped(log, graceMs, async () => {
        await api.close({ drainMs: drainOf(config), graceMs });
        await stopTracing();
      });
    });
}
