import type { Command } from 'commander';
import { type Config, loadConfigOf } from '../config.ts';
import { codeOf, messageOf } from '../errors.ts';
import { openProcessLog } from '../log.ts';
import { ReturnPaths } from '../messages/return-path.ts';
import { unsubscribeLinks } from '../messages/unsubscribe-links.ts';
import { connectionError } from '../postgres/connect.ts';
import { locateDatabase } from '../server/locate.ts';
import { ensureStateDirectory, paths, readSecrets } from '../server/state.ts';
import { startTracing } from '../tracing.ts';
import {
  endWhenFenced,
  graceOf,
  openPort,
  sayReady,
  untilMigrated,
  untilStopped,
  waitHelp,
} from './process.ts';

function sealsOf({ GW_AUDIT_KEY: key, GW_AUDIT_SEALS: url }: Config) {
  return key === undefined || url === undefined ? undefined : { key, url };
}

export function registerWorker(program: Command): void {
  program
    .command('worker')
    .description('deliver messages and run the other background jobs')
    .option('--wait', waitHelp)
    .action(async (options: { wait?: boolean }) => {
      const { startWorker } = await import('../worker/worker.ts');
      const { openChannel, openVendors } = await import('../worker/channels/open.ts');
      const { alertDestinations } = await import('../worker/alerts.ts');
      const log = openProcessLog('worker');
      const config = loadConfigOf(['worker']);
      const alerts = alertDestinations(config);
      log.level = config.GW_LOG_LEVEL;
      const stopTracing = await startTracing('groundwork-worker');
      const { urls } = locateDatabase(config);
      // The outbox is the only file that a worker writes.
      if ((config.GW_DELIVERY_URL ?? 'file:') === 'file:') ensureStateDirectory();
      const channel = openChannel(config, paths.outbox);
      const vendors = openVendors(config);
      const publicUrl = config.GW_PUBLIC_URL;
      const unsubscribeUrl =
        publicUrl === undefined
          ? undefined
          : unsubscribeLinks(publicUrl, config.GW_JWT_SECRET ?? readSecrets().jwt);
      const bounces = config.GW_MAIL_BOUNCES;
      const returnPaths =
        bounces === undefined
          ? undefined
          : new ReturnPaths(bounces, config.GW_JWT_SECRET ?? readSecrets().jwt);
      await untilMigrated(
        { url: urls.worker, forServer: options.wait === true, forAdoption: true, log },
        { host: config.GW_HOST, ports: [config.GW_METRICS_PORT] },
      );
      const worker = await startWorker({
        workerUrl: urls.worker,
        channel,
        vendors,
        alerts,
        log,
        unsubscribeUrl,
        returnPath: returnPaths?.addressOf.bind(returnPaths),
        seals: sealsOf(config),
      }).catch((error: unknown) => {
        // A server that goes down while we connect gives no code.
        const isCut = /^Connection terminated/.test(messageOf(error));
        if (codeOf(error) === undefined && !isCut) throw error;
        throw connectionError(error, urls.worker, 'DATABASE_URL');
      });
      const { figures } = worker;
      const open = await openPort(config, {
        metrics: () => figures.registry.metrics(),
        isAlive: () => figures.isAlive,
        checks: () => figures.checks(),
      });
      log.info(
        {
          channel: channel.description,
          ...(vendors.length === 0 ? {} : { vendors: vendors.map(({ name }) => name) }),
          metrics_port: open?.port,
        },
        'working',
      );
      const graceMs = graceOf(config);
      const fence = await endWhenFenced(urls.worker, 'gw-worker-fence', log);
      const stopped = untilStopped(log, graceMs, async () => {
        await fence.stop();
        await worker.close(graceMs);
        await stopTracing();
        open?.close();
      });
      sayReady();
      await stopped;
    });
}
