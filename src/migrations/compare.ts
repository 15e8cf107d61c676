import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { GwError } from '../errors.ts';
import { withSql } from '../postgres/connect.ts';
import type { Database } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';

/** What frontends and DBAs read without running anything. */
export const schemaFiles = {
  graphql: join(projectRoot, 'docs', 'schema.graphql'),
};

/**
 * The database schema as SQL, by pg_dump. What differs from server to server or from month
 * to month is left out: versions, session settings, partitions, and the schemas of other
 * products.
 */
export async function dumpSql(bin: string, database: Database): Promise<string> {
  const url = new URL(database.urls.superuser ?? '');
  const password = decodeURIComponent(url.password);
  url.password = '';
  const excluded = ['app_partitions', 'pgboss', 'cron', 'graphile_migrate', 'public'];
  const child = spawn(
    join(bin, 'pg_dump'),
    ['--schema-only', ...excluded.map((name) => `--exclude-schema=${name}`), url.href],
    { env: { PATH: process.env.PATH, PGPASSWORD: password, LC_ALL: 'C.UTF-8' } },
  );
  let output = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (said += text));
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new GwError(`pg_dump failed: ${said}`);
  const text = output
    .split('\n')
    .filter((line) => !/^(--|SET |\\(un)?restrict|SELECT pg_catalog\.set_config)/.test(line))
    .filter(
      (line) => !/^(CREATE|COMMENT ON) EXTENSION |^GRANT .* ON (SCHEMA|TABLE) cron\b/.test(line),
    )
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .trim();
  return `-- Made by \`npm run gw -- schema --write\` from the migrations. Do not edit.\n\n${text}\n`;
}

export interface FunctionFinding {
  function: string;
  line: number | null;
  level: string;
  message: string;
}

/**
 * Runs plpgsql_check over every PL/pgSQL function of ours, trigger functions with each
 * table that they serve. The extension is created in this (scratch) database.
 */
export async function checkFunctions(database: Database): Promise<FunctionFinding[]> {
  return withSql(database.urls.superuser ?? '', async (sql) => {
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
