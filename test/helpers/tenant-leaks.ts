import { randomUUID } from 'node:crypto';
import { codeOf } from '../../src/errors.ts';
import type { Transaction } from '../../src/postgres/connect.ts';
import { Attempts } from '../../src/toolkit/prove/attempt.ts';
import { loadCatalogue, type Relation } from '../../src/toolkit/prove/catalogue.ts';
import { proveOptions } from '../../src/toolkit/prove/options.ts';
import { newPerson, RowMaker } from '../../src/toolkit/prove/rows.ts';
import { become } from './database.ts';

class Undo {
  readonly count: number;
  constructor(count: number) {
    this.count = count;
  }
}

/** How many rows a statement returned or changed, undone, or the SQLSTATE of its refusal. */
async function outcome(sql: Transaction, statement: string): Promise<number | string> {
  return sql
    .savepoint(async (inner): Promise<number> => {
      throw new Undo((await inner.unsafe(statement)).count);
    })
    .catch((error: unknown) =>
      error instanceof Undo ? error.count : (codeOf(error) ?? String(error)),
    );
}

/** Every table of app_public whose rows belong to users. */
export async function ownedTables(sql: Transaction): Promise<string[]> {
  const relations = [...(await loadCatalogue(sql, proveOptions())).values()];
  return relations
    .filter(
      ({ name, ownerColumn, kind }) =>
        name.startsWith('app_public.') && ownerColumn && 'rp'.includes(kind),
    )
    .map(({ name }) => name);
}

/** Everything that one user, or nobody, can do to another user's row of a table. */
export async function leaks(sql: Transaction, name: string): Promise<string[]> {
  const options = proveOptions();
  const relations = await loadCatalogue(sql, options);
  const table = relations.get(name) as Relation;
  const ownerColumn = table.ownerColumn as string;
  const maker = new RowMaker(await Attempts.start(sql, options), relations);
  const people = [newPerson('a'), newPerson('b')] as const;
  for (const person of people) await maker.make(name, person);
  const [ann, bob] = people.map(({ id }) => id) as [string, string];
  const isUsers = name === options.usersTable;
  const stranger = maker.statement(
    table,
    people[0],
    isUsers ? { [ownerColumn]: randomUUID() } : {},
  );
  const [may] = await sql<{ select: boolean; delete: boolean; update: string | null }[]>`
    select has_any_column_privilege('app_user', ${name}, 'select') as select,
      has_table_privilege('app_user', ${name}, 'delete') as delete,
      (
        select min(attname::text) from pg_attribute
        where attrelid = ${name}::regclass
          and attnum > 0
          and not attisdropped
          and has_column_privilege('app_user', attrelid, attnum, 'update')
      ) as update`;

  const problems: string[] = [];
  const expectOutcome = async (
    what: string,
    statement: string,
    wanted: (result: number | string) => boolean,
  ): Promise<void> => {
    const result = await outcome(sql, statement);
    if (!wanted(result)) problems.push(`${what}: ${result}`);
  };
  const refused = (result: number | string) => result === '42501';
  const nothing = (result: number | string) => result === 0;
  const rowsOf = (user: string) => `select from ${name} where ${ownerColumn} = '${user}'`;
  const column = may?.update ?? ownerColumn;
  const update = `update ${name} set ${column} = ${column} where ${ownerColumn} = '${ann}'`;
  const remove = `delete from ${name} where ${ownerColumn} = '${ann}'`;

  await become(sql, bob);
  await expectOutcome("bob reads ann's rows", rowsOf(ann), may?.select ? nothing : refused);
  await expectOutcome('bob reads his own rows', rowsOf(bob), (result) =>
    may?.select ? Number(result) >= 1 : refused(result),
  );
  await expectOutcome("bob updates ann's rows", update, may?.update ? nothing : refused);
  await expectOutcome("bob deletes ann's rows", remove, may?.delete ? nothing : refused);
  await expectOutcome('bob inserts a row of another user', stranger, refused);

  await become(sql, null);
  for (const statement of [rowsOf(ann), update, remove]) {
    await expectOutcome(`nobody runs: ${statement}`, statement, (r) => refused(r) || nothing(r));
  }
  await expectOutcome('nobody inserts', stranger, refused);

  // With every privilege, policies still hold.
  await sql`set local role none`;
  await sql.unsafe(`grant all on ${name} to app_user`);
  await become(sql, bob);
  await expectOutcome("bob, privileged, reads ann's rows", rowsOf(ann), nothing);
  await expectOutcome("bob, privileged, updates ann's rows", update, nothing);
  await expectOutcome("bob, privileged, deletes ann's rows", remove, nothing);
  await expectOutcome('bob, privileged, inserts a row of another user', stranger, refused);

  await sql`set local role none`;
  await expectOutcome('the rows exist', rowsOf(ann), (result) => Number(result) >= 1);
  return problems;
}
