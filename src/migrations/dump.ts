import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { GwError } from '../errors.ts';
import { withSql } from '../postgres/connect.ts';
import { parseUrl } from '../postgres/urls.ts';
import { forLibpq } from '../tls.ts';

/** One object of a dump: what kind it is, what it is called, and its statements. */
export interface DumpedObject {
  type: string;
  schema: string;
  name: string;
  text: string;
}

/** Other products' schemas, which no topic of ours defines. */
const foreignSchemas = ['cron', 'graphile_migrate'];

async function pgDump(bin: string, superuserUrl: string): Promise<string> {
  const url = parseUrl(forLibpq(superuserUrl));
  const password = decodeURIComponent(url.password);
  url.password = '';
  const child = spawn(
    join(bin, 'pg_dump'),
    [
      '--schema-only',
      // A dump waits for locks, and everybody behind it.
      '--lock-wait-timeout=5s',
      ...foreignSchemas.map((name) => `--exclude-schema=${name}`),
      url.href,
    ],
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
  if (code !== 0) throw new GwError(`pg_dump failed: ${said.trim()}`);
  return output;
}

/** What a table of contents line of pg_dump says of the statements that follow it. */
const entry = /^-- Name: (.+); Type: (.+); Schema: (.+); Owner: .*$/;

/**
 * Statements in one order. pg_dump names the roles of a policy as they lie in pg_authid, which
 * ALTER ROLE changes, and grants in the order in which they were given.
 */
function inOneOrder(type: string, text: string): string {
  if (type === 'POLICY') {
    return text.replace(
      /^(CREATE POLICY .*? TO )([\w", ]+?)( USING | WITH CHECK |;$)/m,
      (_, head: string, roles: string, rest: string) =>
        `${head}${roles.split(', ').sort().join(', ')}${rest}`,
    );
  }
  if (!/ACL$/.test(type)) return text;
  return `${text.trimEnd().split('\n').sort().join('\n')}\n`;
}

/**
 * Every object of a database as pg_dump writes it, by kind and name. Extensions are left out,
 * and what hangs on other products' schemas.
 */
export async function dumpObjects(
  bin: string,
  superuserUrl: string,
): Promise<Map<string, DumpedObject>> {
  const objects = new Map<string, DumpedObject>();
  let current: DumpedObject | undefined;
  for (const line of (await pgDump(bin, superuserUrl)).split('\n')) {
    const [, name, type, schema] = entry.exec(line) ?? [];
    if (name !== undefined && type !== undefined && schema !== undefined) {
      const key = `${type} ${schema} ${name}`;
      current = objects.get(key) ?? { type, schema, name, text: '' };
      objects.set(key, current);
    } else if (current !== undefined && !/^(--|SET |\\(un)?restrict)/.test(line)) {
      if (line.trim() !== '') current.text += `${line}\n`;
    }
  }
  for (const [key, { type, schema, name, text }] of objects) {
    const isForeign =
      type === 'EXTENSION' ||
      foreignSchemas.includes(schema) ||
      /^EXTENSION |^SCHEMA cron$/.test(name);
    if (isForeign || text === '') objects.delete(key);
    else objects.set(key, { type, schema, name, text: inOneOrder(type, text) });
  }
  return objects;
}

/** What was done to a database, and where it is: not part of what it is. */
const logs = ['ops.audit_log', 'ops.audit_log_head', 'ops.identity'];

/**
 * The rows that migrations insert, by table, each as JSON in one order. Columns that the
 * clock or chance fills are left out.
 */
export async function dumpRows(superuserUrl: string): Promise<Map<string, string[]>> {
  return withSql(superuserUrl, async (sql) => {
    const tables = await sql<{ name: string; volatile: string[] }[]>`
      select pg_namespace.nspname || '.' || pg_class.relname as name,
        array(
          select pg_attribute.attname::text
          from pg_catalog.pg_attribute
          inner join pg_catalog.pg_attrdef
            on pg_attrdef.adrelid = pg_attribute.attrelid
            and pg_attrdef.adnum = pg_attribute.attnum
          where pg_attribute.attrelid = pg_class.oid
            and pg_attribute.attgenerated = ''
            and pg_get_expr(pg_attrdef.adbin, pg_attrdef.adrelid)
              ~ '(now|clock_timestamp|gen_random_uuid|current_database)[(]|CURRENT_'
        ) as volatile
      from pg_catalog.pg_class
      inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
      where pg_class.relkind in ('r', 'p')
        and not pg_class.relispartition
        and pg_namespace.nspname in
          ('app_public', 'app_hidden', 'app_private', 'ops', 'pgboss')
      order by 1`;
    const rows = new Map<string, string[]>();
    for (const { name, volatile } of tables) {
      if (logs.includes(name)) continue;
      const found = await sql<{ row: string }[]>`
        select (to_jsonb(each) - ${volatile}::text[])::text as row
        from ${sql(name)} as each
        order by 1`;
      if (found.length > 0)
        rows.set(
          name,
          found.map(({ row }) => row),
        );
    }
    return rows;
  });
}
