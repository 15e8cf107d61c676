import { setFlagsFromString } from 'node:v8';
import type { Command } from 'commander';
import { type Config, loadConfigOf } from '../config.ts';
import { codeOf } from '../errors.ts';
import { logConsole, openProcessLog } from '../log.ts';
import { connectionError } from '../postgres/connect.ts';
import { locateDatabase } from '../server/locate.ts';
import { readSecrets, readState } from '../server/state.ts';
import { startTracing } from '../tracing.ts';
import { startWatchdog } from '../watchdog.ts';
import {
  drainOf,
  explainPort,
  graceOf,
  sayReady,
  untilMigrated,
  untilStopped,
  waitHelp,
} from './process.ts';

const usualIntrospection = ({ NODE_ENV }: Config): 'on' | 'off' =>
  NODE_ENV === 'production' ? 'off' : 'on';

export function registerServe(program: Command): void {
  program
    .command('serve')
    .description('serve the GraphQL API')
    .option('--watch', 'rebuild the GraphQL schema when the database schema changes')
    .option('--wait', waitHelp)
    .action(async (options: { watch?: boolean; wait?: boolean }) => {
      const { startApi } = await import('../api/server.ts');
      const { readOperations } = await import('../api/operations.ts');
      // V8 lets a heap grow to four times what is alive before it looks for garbage.
      setFlagsFromString('--heap-growing-percent=30');
      const log = openProcessLog('api');
      const config = loadConfigOf(['serve']);
      log.level = config.GW_LOG_LEVEL;
      logConsole(log);
      const operations =
        config.GW_PERSISTED_OPERATIONS === undefined
          ? undefined
          : {
              list: readOperations(config.GW_PERSISTED_OPERATIONS),
              alone: config.GW_OPERATIONS === 'persisted',
            };
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
        deliverySecrets: {
          generic: config.GW_DELIVERY_EVENTS_SECRET,
          sendgrid: config.GW_DELIVERY_EVENTS_SENDGRID_KEY,
          mailgun: config.GW_DELIVERY_EVENTS_MAILGUN_KEY,
        },
        host: config.GW_HOST,
        port,
        poolSize: config.GW_POOL_SIZE,
        maxWaiting: config.GW_MAX_WAITING,
        trustProxy: config.GW_TRUST_PROXY,
        corsOrigins: config.GW_CORS_ORIGINS,
        rates: {
          anonymous: config.GW_RATE_LIMIT_ANONYMOUS,
          signIn: config.GW_RATE_LIMIT_SIGN_IN,
          user: config.GW_RATE_LIMIT_USER,
        },
        showsSchema: (config.GW_INTROSPECTION ?? usualIntrospection(config)) === 'on',
        operations,
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
      const graceMs = graceOf(config);
      // Before anybody is told that it is ready: whoever is told may stop it at once.
      const stopped = untilStopped(log, graceMs, async () => {
        await api.close({ drainMs: drainOf(config), graceMs });
        await stopTracing();
      });
      log.info({ port: api.port }, 'listening');
      sayReady({ port: api.port });
      // Building the schema anew takes a while.
      if (options.watch !== true) startWatchdog('api');
      await stopped;
    });
}
