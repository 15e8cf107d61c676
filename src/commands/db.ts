import { spawn } from 'node:child_process';
import process from 'node:process';
import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { codeOf, EXIT, formatError, GwError } from '../errors.ts';
import { connectionError, withSql } from '../postgres/connect.ts';
import { parseUrl, type Role, roles } from '../postgres/urls.ts';
import { clusterHome, dataDirectory, removeCluster, runningPort } from '../server/cluster.ts';
import { containerPort, removeContainer } from '../server/docker.ts';
import { localCluster, locateDatabase, reachDatabase } from '../server/locate.ts';
import { provideDatabase } from '../server/provide.ts';
import { stopDatabase } from '../server/restart.ts';
import { readState, updateState } from '../server/state.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { formatRecord } from '../terminal/table.ts';
import { forLibpq } from '../tls.ts';

function parseRole(text: string): Role {
  if ((roles as readonly string[]).includes(text)) return text as Role;
  throw new GwError(`there is no role "${text}"`, {
    hint: `One of: ${roles.join(', ')}`,
    exitCode: EXIT.usage,
  });
}

function urlOf(role: Role): string {
  const url = locateDatabase(loadConfig()).urls[role];
  if (url !== undefined) return url;
  throw new GwError("no superuser's connection is known for this database", {
    hint: 'Set ROOT_DATABASE_URL.',
    exitCode: EXIT.usage,
  });
}

export function registerDb(program: Command): void {
  const db = program
    .command('db')
    .description('start, stop, find and open the database of this checkout');

  db.command('start')
    .description('start the database server; npm start does this too')
    .action(async () => {
      await provideDatabase(loadConfig(), new Progress());
    });

  db.command('stop')
    .description('stop the database server of this checkout')
    .action(async () => {
      const { DATABASE_URL } = loadConfig();
      if (DATABASE_URL !== undefined && locateDatabase(loadConfig()).source === 'url') {
        throw new GwError('the database comes from DATABASE_URL; it is not ours to stop', {
          hint: 'Stop it where it was started, or unset DATABASE_URL.',
          exitCode: EXIT.usage,
        });
      }
      await stopDatabase();
      process.stderr.write('stopped\n');
    });

  db.command('status')
    .description('print where the database is, and whether it answers (exit 3 when not)')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const database = locateDatabase(loadConfig());
      const answer = await withSql(database.urls.owner, async (sql) => {
        const [row] = await sql<{ version: string; bytes: string }[]>`
          select current_setting('server_version') as version,
            pg_database_size(current_database())::text as bytes`;
        // Not there before the first migration.
        const [last] = await sql<{ migration: string | null }[]>`
          select ops.last_migration() as migration`.catch(() => []);
        return { version: row?.version, bytes: Number(row?.bytes), migration: last?.migration };
      }).catch((error: unknown) => {
        process.stderr.write(
          formatError(connectionError(error, database.urls.owner, 'DATABASE_URL')),
        );
        process.exitCode = EXIT.unavailable;
      });
      const result = {
        source: database.source,
        address: database.description,
        running: answer != null,
        version: answer?.version ?? null,
        bytes: answer?.bytes ?? null,
        lastMigration: answer?.migration ?? null,
      };
      print(options.json, result, formatRecord(result));
    });

  db.command('url')
    .description('print the connection URL of a role')
    .requiredOption('--role <role>', roles.join(', '))
    .action((options: { role: string }) => {
      process.stdout.write(`${forLibpq(urlOf(parseRole(options.role)))}\n`);
    });

  db.command('psql')
    .description('open psql as a role')
    .option('--role <role>', roles.join(', '), 'owner')
    .argument('[args...]', 'passed on to psql; write -- before them')
    .action(async (args: string[], options: { role: string }) => {
      await reachDatabase(loadConfig());
      const url = parseUrl(forLibpq(urlOf(parseRole(options.role))));
      const password = decodeURIComponent(url.password);
      url.password = '';
      const child = spawn('psql', [url.href, ...args], {
        stdio: 'inherit',
        // Not in the arguments, where ps would show it.
        env: { ...process.env, PGPASSWORD: password },
      });
      process.on('SIGINT', () => {});
      process.exitCode = await new Promise<number>((resolve, reject) => {
        child.on('error', (error) =>
          reject(
            codeOf(error) === 'ENOENT'
              ? new GwError('psql is not installed', { hint: 'apt-get install postgresql-client' })
              : error,
          ),
        );
        child.on('exit', (code) => resolve(code ?? EXIT.failure));
      });
    });

  db.command('reset')
    .description('delete the local cluster or container with everything in it')
    .option('--dry-run', 'say what would be deleted')
    .option('--yes', 'do not ask')
    .action(async (options: { dryRun?: boolean; yes?: boolean }) => {
      const { cluster: home, container } = readState();
      if (container === undefined && home === undefined) {
        throw new GwError('this checkout has no cluster', {
          hint: 'To empty the database of DATABASE_URL: npm run gw -- reset',
          exitCode: EXIT.usage,
        });
      }
      const cluster = { home: home ?? clusterHome(), bin: '' };
      const what =
        container === undefined ? dataDirectory(cluster) : `container and volume ${container}`;
      if (options.dryRun === true) {
        process.stdout.write(`would delete ${what}\n`);
        return;
      }
      const isRunning =
        container === undefined
          ? runningPort(cluster) !== undefined
          : containerPort(container) !== undefined;
      await confirm(`Delete ${what}${isRunning ? ' (running)' : ''}?`, options.yes);
      if (container === undefined) {
        if (localCluster() !== undefined) await stopDatabase();
        removeCluster(cluster);
        updateState({ cluster: undefined });
      } else {
        removeContainer(container);
        updateState({ container: undefined });
      }
      process.stderr.write(`deleted ${what}\n`);
    });
}
