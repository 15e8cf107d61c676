import { GwError } from '../errors.ts';
import { withSuperuser } from '../postgres/connect.ts';
import { requireBinaries, withScratch } from '../server/scratch.ts';
import { differences } from './compare.ts';
import { type DumpedObject, dumpObjects } from './dump.ts';
import { createMigrated } from './scratch.ts';

/** An object that is in the database otherwise than the migrations make it. */
export interface Drift {
  /** Such as "function app_public.login(text, text)". */
  object: string;
  /** Where migrations/fixtures speaks of it, as file:line; null where nothing does. */
  place: string | null;
  /** What the migrations make of it; null when they make none. */
  migrations: string | null;
  /** What is in the database; null when it is not there. */
  database: string | null;
}

/** Partitions of months and days come and go by policy, not by migration. */
const rangePartition = /_p\d{6}(\d{2})?(_|\b)/;

const lasting = (objects: Map<string, DumpedObject>): Map<string, DumpedObject> =>
  new Map(
    [...objects].filter(
      ([, { schema, name }]) => schema !== 'app_partitions' || !rangePartition.test(name),
    ),
  );

const majorOf = (url: string): Promise<string> =>
  withSuperuser(url, async (sql) => {
    const [row] = await sql<{ version: string }[]>`
      select current_setting('server_version_num')::integer / 10000 as version`;
    return String(row?.version);
  });

/**
 * Compares a database with what the committed migrations make on a scratch server. Rows are not
 * looked at.
 *
 * @param url of a superuser, or of gw_owner where everything belongs to it
 * @throws GwError when the two cannot be compared
 */
export function findDrift(url: string): Promise<Drift[]> {
  return withScratch('postgres', async ({ superuserUrl }) => {
    const [here, there] = await Promise.all([majorOf(superuserUrl), majorOf(url)]);
    if (here !== there) {
      throw new GwError(
        `cannot tell: the database is on PostgreSQL ${there}, and the scratch server is ${here}`,
        { hint: `Install PostgreSQL ${there} on this machine.` },
      );
    }
    const bin = await requireBinaries();
    const made = await createMigrated(superuserUrl, 'gw_drift');
    const [expected, found] = await Promise.all([
      dumpObjects(bin, made.urls.superuser ?? ''),
      dumpObjects(bin, url),
    ]);
    const rows = new Map<string, string[]>();
    return differences({ objects: lasting(expected), rows }, { objects: lasting(found), rows }).map(
      ({ object, place, committed, fixtures }) => ({
        object,
        place: place ?? null,
        migrations: committed ?? null,
        database: fixtures ?? null,
      }),
    );
  });
}
