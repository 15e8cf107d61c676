import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { audit } from '../postgres/audit.ts';
import { connectionError, type Sql, withSql, withSuperuser } from '../postgres/connect.ts';
import { type LoginName, loginNames, loginRoles, roleNames } from '../postgres/roles.ts';
import { scramVerifier } from '../postgres/scram.ts';
import { changeUrl, type Database } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';

const readSql = (name: string): string =>
  readFileSync(join(projectRoot, 'sql', 'bootstrap', name), 'utf8');

export type RolePasswords = Record<LoginName, string>;

/** What a file of sql/bootstrap could not do, since its session was no superuser's: statements. */
async function runBootstrap(sql: Sql, name: string): Promise<string[]> {
  await sql.unsafe(readSql(name)).simple();
  const left = await sql<{ statement: string }[]>`
    select statement from pg_temp.groundwork_left order by statement`;
  return left.map(({ statement }) => `${statement.trim()};`);
}

/**
 * Makes the roles, and sets these passwords. Needs a superuser's connection, or that of a role
 * with CREATEROLE.
 *
 * @returns the statements that a superuser must still run
 */
export async function bootstrapRoles(
  superuserUrl: string,
  passwords: Partial<RolePasswords>,
): Promise<string[]> {
  return withSuperuser(superuserUrl, async (sql) => {
    const byRole = Object.fromEntries(
      loginNames.flatMap((login) => {
        const password = passwords[login];
        return password === undefined ? [] : [[loginRoles[login].name, scramVerifier(password)]];
      }),
    );
    await sql`select set_config('groundwork.role_verifiers', ${JSON.stringify(byRole)}, false)`;
    return runBootstrap(sql, 'roles.sql');
  });
}

/** Makes a database when it is missing. */
export async function createDatabase(superuserUrl: string, name: string): Promise<void> {
  await withSuperuser(changeUrl(superuserUrl, { database: 'postgres' }), async (sql) => {
    const [found] = await sql`select from pg_database where datname = ${name}`;
    if (!found) await sql`create database ${sql(name)} owner gw_owner`;
  });
}

/**
 * Extensions and settings of one database. Needs a superuser's connection, or that of the role
 * that made the other roles.
 *
 * @returns the statements that a superuser must still run
 */
export const bootstrapDatabase = (superuserUrl: string): Promise<string[]> =>
  withSuperuser(superuserUrl, (sql) => runBootstrap(sql, 'database.sql'));

/**
 * Enters into the audit log that roles were put in place, and which got a password. The function is
 * gw_owner's, which must not be run by a superuser.
 */
export async function auditBootstrap(
  ownerUrl: string,
  passwords: Partial<RolePasswords>,
): Promise<void> {
  const logins = loginNames.filter((login) => passwords[login] !== undefined);
  await audit(ownerUrl, 'roles.bootstrapped', {
    passwords_set: logins.map((login) => loginRoles[login].name),
  });
}

/**
 * Prepares a database that we were given a URL of: as a superuser when we have one, else by
 * checking that somebody has.
 *
 * @throws GwError saying which role or extension is missing and how to make it
 */
export async function bootstrapGiven(
  database: Database,
  passwords: RolePasswords,
  named: Partial<RolePasswords>,
): Promise<string> {
  const { superuser, owner } = database.urls;
  if (superuser !== undefined) {
    const mayBootstrap = await withSuperuser(superuser, async (sql) => {
      const [row] = await sql`
        select rolsuper or rolcreaterole as allowed from pg_roles where rolname = current_user`;
      return row?.allowed === true;
    }).catch((error: unknown) => {
      throw connectionError(error, superuser, 'DATABASE_URL');
    });
    if (!mayBootstrap) {
      throw new GwError('the user of DATABASE_URL may not make roles, and is not gw_owner', {
        hint:
          "Give an administrator's URL once, or let a DBA run sql/bootstrap/roles.sql and" +
          " sql/bootstrap/database.sql, and use gw_owner's URL.",
        exitCode: EXIT.usage,
      });
    }
    const chosen = await passwordsToSet(database, passwords, named);
    const left = [
      ...(await bootstrapRoles(superuser, chosen)),
      ...(await bootstrapDatabase(superuser)),
    ];
    await auditBootstrap(owner, chosen);
    if (left.length === 0) return 'roles and extensions are up to date';
    return `roles are there; a superuser must run:\n${left.join('\n')}\nand then this again`;
  }
  return withSql(owner, checkBootstrapped).catch((error: unknown) => {
    throw error instanceof GwError ? error : connectionError(error, owner, 'DATABASE_URL');
  });
}

/**
 * Which passwords to set on a server that is not ours alone: those that the environment
 * names, and those of roles that have none yet. Another's password is never overwritten.
 *
 * @throws GwError when a role has a password that we do not know
 */
async function passwordsToSet(
  database: Database,
  passwords: RolePasswords,
  named: Partial<RolePasswords>,
): Promise<Partial<RolePasswords>> {
  const withPassword = await withSuperuser(database.urls.superuser ?? '', async (sql) => {
    const [row] = await sql`select rolsuper from pg_roles where rolname = current_user`;
    // Who has a password, only a superuser sees. Whoever is there may have one.
    const rows = row?.rolsuper
      ? await sql<{ name: string }[]>`
          select rolname as name from pg_authid where rolpassword is not null`
      : await sql<{ name: string }[]>`select rolname as name from pg_roles`;
    return new Set(rows.map(({ name }) => name));
  });
  const unknown: LoginName[] = [];
  const chosen: Partial<RolePasswords> = {};
  for (const login of loginNames) {
    if (named[login] !== undefined || !withPassword.has(loginRoles[login].name)) {
      chosen[login] = passwords[login];
      continue;
    }
    // Ours, from an earlier run? A role may lack the right to connect here until later, and
    // is told so only after its password was right.
    const refused = await withSql(database.urls[login], (sql) => sql`select 1`).then(
      () => false,
      (error: unknown) => codeOf(error) === '28P01',
    );
    if (refused) unknown.push(login);
  }
  if (unknown.length === 0) return chosen;
  const names = unknown.map((login) => loginRoles[login].name).join(', ');
  const variables = unknown.map((login) => loginRoles[login].variable).join(', ');
  throw new GwError(`these roles exist on the server with passwords of their own: ${names}`, {
    hint: `Set ${variables}: what they are now, or what they shall become.`,
    exitCode: EXIT.usage,
  });
}

async function checkBootstrapped(sql: Sql): Promise<string> {
  const missing = await sql<{ name: string }[]>`
    select 'role ' || wanted as name
    from unnest(${roleNames}::text[]) as wanted
    where not exists (select from pg_roles where rolname = wanted)
    union all
    select 'extension ' || needed
    from unnest(array['pgcrypto', 'btree_gin']) as needed
    where not exists (select from pg_extension where extname = needed)`;
  if (missing.length === 0) return 'roles and extensions are there';
  throw new GwError(`the database lacks ${missing.map(({ name }) => name).join(', ')}`, {
    hint: "Run once with ROOT_DATABASE_URL set to a superuser's URL, or run sql/bootstrap/*.sql.",
    exitCode: EXIT.usage,
  });
}

/** Whether pg_cron runs jobs in this database. */
export async function hasCron(ownerUrl: string): Promise<boolean> {
  return withSql(ownerUrl, async (sql) => {
    const [row] = await sql`select from pg_extension where extname = 'pg_cron'`;
    return row !== undefined;
  });
}

/**
 * Has pg_cron's scheduler read its jobs again. One that starts while they are being made, as
 * on a new server, has been seen to go on without any until one of them changes.
 */
export async function wakeCron(ownerUrl: string): Promise<void> {
  await withSql(ownerUrl, async (sql) => {
    await sql`
      select cron.schedule(job_name, schedule, scheduled_command) from ops.cron_jobs
      where is_active order by job_name limit 1`;
  });
}

/** Whether the server writes the log that change capture reads. */
export async function canCapture(ownerUrl: string): Promise<boolean> {
  return withSql(ownerUrl, async (sql) => {
    const [row] = await sql`select current_setting('wal_level') = 'logical' as is_logical`;
    return row?.is_logical === true;
  });
}
