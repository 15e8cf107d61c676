import { withSql } from '../postgres/connect.ts';
import { bootstrapDatabase } from '../server/bootstrap.ts';
import { databaseAt } from '../server/scratch.ts';

export interface FunctionFinding {
  function: string;
  line: number | null;
  level: string;
  message: string;
}

/**
 * Runs plpgsql_check over every PL/pgSQL function of ours, trigger functions with each
 * table that they serve. Works in a copy of a (scratch) database, with pg_cron's tables when
 * the copy has the name of the server's `cron.database_name`.
 */
export async function checkFunctions(
  superuserUrl: string,
  name: string,
  template: string,
): Promise<FunctionFinding[]> {
  await withSql(
    superuserUrl,
    (sql) => sql`create database ${sql(name)} template ${sql(template)} owner gw_owner`,
  );
  const url = databaseAt(superuserUrl, name).urls.superuser ?? '';
  await bootstrapDatabase(url);
  return withSql(url, async (sql) => {
    await sql`create extension if not exists plpgsql_check with schema public`;
    return [
      ...(await sql<FunctionFinding[]>`
        select checked.oid::regprocedure::text as function, finding.lineno as line,
          finding.level, finding.message
        from (
          select pg_proc.oid, coalesce(pg_trigger.tgrelid, 0) as relation,
            pg_trigger.old_table, pg_trigger.new_table
          from pg_catalog.pg_proc
          inner join pg_catalog.pg_language on pg_language.oid = pg_proc.prolang
          -- A function that serves several tables is checked with one of them.
          left join lateral (
            select min(pg_trigger.tgrelid::oid) as tgrelid,
              max(pg_trigger.tgoldtable) as old_table, max(pg_trigger.tgnewtable) as new_table
            from pg_catalog.pg_trigger
            where pg_trigger.tgfoid = pg_proc.oid
          ) as pg_trigger on true
          where pg_language.lanname = 'plpgsql'
            and pg_proc.pronamespace in ('app_public'::regnamespace,
              'app_hidden'::regnamespace, 'app_private'::regnamespace, 'ops'::regnamespace)
            and (pg_proc.prorettype <> 'trigger'::regtype or pg_trigger.tgrelid is not null)
        ) as checked
        cross join lateral public.plpgsql_check_function_tb(checked.oid, checked.relation,
          oldtable => checked.old_table, newtable => checked.new_table, extra_warnings => true, performance_warnings => false) as finding
        order by 1, 2`),
    ];
  });
}
