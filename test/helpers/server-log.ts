import type { Sql } from '../../src/postgres/connect.ts';

/** All that the server has logged, of each of its files. */
export async function serverLog(superuser: Sql): Promise<string> {
  const [row] = await superuser<{ text: string }[]>`
    select string_agg(pg_read_file(file), E'\n') as text
    from (
      select current_setting('log_directory') || '/' || name as file from pg_ls_logdir()
      union all
      select '../' || name from pg_ls_dir('..') as name where name like '%.log'
    ) as files`;
  return row?.text ?? '';
}

/** Has the server log each statement of these roles in this database, and each wait. */
export async function logEverything(superuser: Sql, roles: readonly string[]): Promise<void> {
  const [row] = await superuser<{ name: string }[]>`select current_database() as name`;
  for (const role of roles) {
    for (const setting of [
      ...['log_min_duration_statement = 0', 'log_duration = on', 'log_temp_files = 0'],
      ...['log_lock_waits = on', 'deadlock_timeout = 20'],
    ]) {
      await superuser.unsafe(`alter role ${role} in database ${row?.name} set ${setting}`);
    }
  }
}
