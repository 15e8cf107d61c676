import { delimiter, join } from 'node:path';
import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { migrationUrls } from '../migrations/run.ts';
import { databaseName, parseUrl } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { locateDatabase } from '../server/locate.ts';
import { forLibpq, tlsVariables } from '../tls.ts';

/** Quotes a word for a POSIX shell. */
const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

export function registerEnv(program: Command): void {
  program
    .command('env')
    .description('print shell lines that let psql, pg_dump and graphile-migrate find the database')
    .addHelpText('after', '\nUse it with: eval "$(npm run -s gw -- env)"')
    .action(() => {
      const urls = migrationUrls(locateDatabase(loadConfig()));
      const owner = parseUrl(urls.owner);
      const variables: Record<string, string | undefined> = {
        DATABASE_URL: forLibpq(urls.owner),
        SHADOW_DATABASE_URL: forLibpq(urls.shadow),
        ROOT_DATABASE_URL: urls.superuser && forLibpq(urls.superuser),
        PGHOST: owner.hostname,
        PGPORT: owner.port || '5432',
        PGUSER: decodeURIComponent(owner.username),
        PGPASSWORD: decodeURIComponent(owner.password),
        PGDATABASE: databaseName(urls.owner),
        ...tlsVariables(urls.owner),
      };
      for (const [name, text] of Object.entries(variables)) {
        if (text !== undefined) process.stdout.write(`export ${name}=${quote(text)}\n`);
      }
      // graphile-migrate needs the Node that comes with the packages.
      const bin = join(projectRoot, 'node_modules', '.bin');
      process.stdout.write(`export PATH=${quote(bin)}${delimiter}"$PATH"\n`);
    });
}
