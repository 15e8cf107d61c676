import { messageOf } from '../../errors.ts';
import type { Transaction } from '../../postgres/connect.ts';
import { Attempts, ident } from './attempt.ts';
import { kindOf, loadCatalogue, type Relation } from './catalogue.ts';
import type { ProveOptions } from './options.ts';
import type { Report, Who } from './report.ts';
import { CannotMakeRow, newPerson, type Person, RowMaker } from './rows.ts';

/** Two users with a row in every table that belongs to users, and what recognises A's. */
export interface World {
  attempts: Attempts;
  relations: Map<string, Relation>;
  maker: RowMaker;
  a: Person;
  b: Person;
  /** What only A's rows contain. */
  marks: Set<string>;
  marksOfB: Set<string>;
  /** A statement that removes every row of a user, without triggers and foreign keys. */
  removal: (person: Person) => string;
}

/** Statements that run without triggers and foreign keys. */
export const unchecked = (statements: string): string =>
  `set local session_replication_role = replica; ${statements};
   set local session_replication_role = origin`;

/** The strangers: what each is called, and whose id they have. */
export const strangers = ({ b }: World): [who: Exclude<Who, 'A'>, as: string | null][] => [
  ['anonymous', null],
  ['B', b.id],
];

/**
 * Makes two users and their rows in a superuser's transaction. A table for which that fails
 * is reported as "cannot prove".
 */
export async function makeWorld(
  sql: Transaction,
  options: ProveOptions,
  report: Report,
): Promise<World> {
  await sql`set local search_path = pg_catalog`;
  const relations = await loadCatalogue(sql, options);
  const attempts = await Attempts.start(sql, options);
  const maker = new RowMaker(attempts, relations);
  const [a, b] = [newPerson('a'), newPerson('b')];
  const owned = [...relations.values()].filter((entry) => entry.isOwned);
  for (const relation of relations.values()) {
    if (options.objects?.test(relation.name) !== false) {
      report.add(relation.name, kindOf(relation));
    }
  }
  for (const { name, isPartition } of owned) {
    if (isPartition) continue;
    for (const person of [a, b]) {
      await maker.make(name, person).catch((error: unknown) => {
        if (!(error instanceof CannotMakeRow)) throw error;
        report.record(name, 'B', 'see', 'cannot prove', messageOf(error));
      });
    }
  }
  for (const relation of relations.values()) {
    if (relation.kind !== 'm') continue;
    const { state, message } = await attempts.run({
      statement: `refresh materialized view ${relation.name}`,
      keep: true,
    });
    if (state === undefined) continue;
    report.record(relation.name, 'B', 'see', 'cannot prove', `refresh: ${message}`);
  }
  const roots = owned.filter(({ isPartition }) => !isPartition);
  const removal = (person: Person): string =>
    roots
      .map((relation) => `delete from ${relation.name} where ${maker.whereOf(relation, person)}`)
      .join('; ');
  const leaves = owned.filter(({ kind }) => kind === 'r');
  await attempts.watch(
    leaves.map((leaf) => ({
      relid: leaf.oid,
      relation: leaf.root,
      where: `only ${leaf.name} as t where ${maker.whereOf(leaf, a)}`,
    })),
  );
  return {
    attempts,
    relations,
    maker,
    a,
    b,
    marks: maker.marksOf(a),
    marksOfB: maker.marksOf(b),
    removal: (person) => unchecked(removal(person)),
  };
}

/** The columns of a relation that a role may select, insert or update, quoted. */
export function columnsFor(
  relation: Relation,
  as: string | null,
  privilege: 'select' | 'insert' | 'update',
): string[] {
  const role = as === null ? 'anonymous' : 'user';
  return relation.columns
    .filter((column) => column[privilege][role])
    .map(({ name }) => ident(name));
}
