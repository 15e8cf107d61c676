import type { Database } from '../postgres/urls.ts';
import { bootstrapDatabase, createDatabase } from '../server/bootstrap.ts';
import { databaseAt } from '../server/scratch.ts';
import { migrate, migrationUrls } from './run.ts';

/** Makes a database on a server and runs every migration in it. */
export async function createMigrated(superuserUrl: string, name: string): Promise<Database> {
  await createDatabase(superuserUrl, name);
  const database = databaseAt(superuserUrl, name);
  await bootstrapDatabase(database.urls.superuser ?? '');
  await migrate(migrationUrls(database, ''));
  return database;
}
