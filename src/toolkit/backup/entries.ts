import { type Sql, withSql } from '../../postgres/connect.ts';

/** Works on ops.backups, as gw_owner; does nothing in a database that has no such table. */
export async function withEntries(
  ownerUrl: string,
  work: (sql: Sql) => Promise<void>,
): Promise<void> {
  await withSql(ownerUrl, async (sql) => {
    const [found] = await sql`select to_regclass('ops.backups') is not null as exists`;
    if (found?.exists === true) await work(sql);
  });
}
