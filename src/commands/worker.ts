import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { connectionError } from '../database/connect.ts';
import { locateDatabase } from '../database/source.ts';
import { ensureStateDirectory, paths } from '../database/state.ts';
import { codeOf, GwError, messageOf } from '../errors.ts';
import { createLog } from '../log.ts';
import { sayReady, untilStopped } from './process.ts';

export function registerWorker(program: Command): void {
  program
    .command('worker')
    .description('deliver messages and run the other background jobs')
    .action(async () => {
      const { startWorker } = await import('../worker/worker.ts');
      const { FileChannel } = await import('../worker/channels/file.ts');
      const { HttpChannel } = await import('../worker/channels/http.ts');
      const config = loadConfig();
      const log = createLog('worker', config.GW_LOG_LEVEL);
      const { urls } = locateDatabase(config);
      ensureStateDirectory();
      const channel =
        config.GW_DELIVERY_URL === undefined
          ? new FileChannel(paths.outbox)
          : new HttpChannel(config.GW_DELIVERY_URL, {
              concurrency: config.GW_DELIVERY_CONCURRENCY,
              timeoutMs: config.GW_DELIVERY_TIMEOUT_MS,
            });
      const worker = await startWorker({ workerUrl: urls.worker, channel, log }).catch(
        (error: unknown) => {
          // A server that goes down while we connect gives no code.
          const isCut = /^Connection terminated/.test(messageOf(error));
          if (error instanceof GwError || (codeOf(error) === undefined && !isCut)) throw error;
          throw connectionError(error, urls.worker, 'DATABASE_URL');
        },
      );
      log.info({ channel: channel.description }, 'working');
      sayReady();
      await untilStopped(log, () => worker.close());
    });
}
