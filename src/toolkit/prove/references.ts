import { randomUUID } from 'node:crypto';
import { ident, literal, type Outcome } from './attempt.ts';
import type { ForeignKey, Relation, Unique } from './catalogue.ts';
import type { Report, Who } from './report.ts';
import type { Row } from './rows.ts';
import { columnsFor, strangers, unchecked, type World } from './world.ts';

const same = (one: Outcome, other: Outcome): boolean =>
  one.state === other.state && one.constraint === other.constraint;

/** Tries one thing with values of A's and with values that nobody has. */
class Probe {
  readonly #world: World;
  readonly #relation: Relation;
  readonly #as: string | null;

  constructor(world: World, relation: Relation, as: string | null) {
    this.#world = world;
    this.#relation = relation;
    this.#as = as;
  }

  /** B inserts a row of its own in which these columns are set. */
  insert(set: Row): Promise<Outcome> {
    const { maker, b, attempts } = this.#world;
    const allowed = new Set(columnsFor(this.#relation, this.#as, 'insert'));
    const statement = maker.statement(this.#relation, b, set, (name) => allowed.has(ident(name)));
    const mine = `delete from ${this.#relation.name} where ${maker.whereOf(this.#relation, b)}`;
    return attempts.run({ as: this.#as, prelude: unchecked(mine), statement });
  }

  /** B sets these columns in its own row. */
  update(set: Row): Promise<Outcome> {
    const assignments = this.#relation.columns
      .filter(({ name }) => set[name] !== undefined)
      .map(({ name, type }) => `${ident(name)} = ${literal(set[name], type)}`);
    const statement = `update ${this.#relation.name} set ${assignments.join(', ')}`;
    return this.#world.attempts.run({ as: this.#as, statement });
  }

  /** Whether the role may name all of these columns. */
  may(privilege: 'insert' | 'update', columns: string[]): boolean {
    const allowed = columnsFor(this.#relation, this.#as, privilege);
    return columns.every((name) => allowed.includes(ident(name)));
  }
}

/** Values of the same types that no row has. */
export function strange(world: World, relation: Relation, values: Row): Row | undefined {
  let isStrange = false;
  const made = Object.entries(values).map(([name, value]) => {
    const type = relation.columns.find((column) => column.name === name)?.baseType ?? '';
    if (value === null) return [name, value];
    const other = /^uuid$/.test(type)
      ? randomUUID()
      : /^(small|big)?int|^numeric/.test(type)
        ? '31999'
        : /^(text|citext|character|bytea)/.test(type)
          ? strangeText(world, type, value)
          : value;
    if (other !== value) isStrange = true;
    return [name, other];
  });
  return isStrange ? (Object.fromEntries(made) as Row) : undefined;
}

function strangeText(world: World, type: string, value: string): string {
  if (type === 'bytea') return `\\x${randomUUID().replaceAll('-', '')}${'0'.repeat(32)}`;
  if (/^[0-9a-f-]{36}$/.test(value)) return randomUUID();
  const word = world.maker.word(null);
  const replaced = value.replace(new RegExp(`${world.a.mark}k[0-9a-z]{3}`, 'g'), word);
  return replaced === value ? word.slice(0, value.length) : replaced;
}

const describe = (outcome: Outcome): string =>
  outcome.state === undefined ? 'done' : `${outcome.state} ${outcome.constraint ?? ''}`.trim();

/** Can a row of B's refer to a row of A's, or B learn that it exists? */
async function proveForeignKey(
  world: World,
  relation: Relation,
  key: ForeignKey,
  report: Report,
  who: Who,
  as: string | null,
): Promise<void> {
  const { maker, a, b } = world;
  const columns = key.columns.filter((name) => name !== relation.ownerColumn);
  if (columns.length === 0 || !world.relations.get(key.parent)?.isOwned) return;
  const pick = (row: Row | undefined): Row =>
    Object.fromEntries(
      key.columns
        .map((name, index) => [name, row?.[key.parentColumns[index] ?? ''] ?? null] as const)
        .filter(([name]) => columns.includes(name)),
    );
  const theirs = pick(maker.rowOf(key.parent, a));
  const missing = strange(world, relation, theirs);
  if (missing === undefined || Object.values(theirs).includes(null)) {
    report.record(relation.name, who, 'reference', 'cannot prove', `${key.name}: no row of A's`);
    return;
  }
  const probe = new Probe(world, relation, as);
  report.record(relation.name, who, 'reference', 'refused');
  report.record(relation.name, who, 'infer', 'refused');
  for (const way of ['insert', 'update'] as const) {
    if (!probe.may(way, columns)) continue;
    const existing = await probe[way](theirs);
    const nothing = await probe[way](missing);
    const detail = `${key.name}, by ${way}`;
    if (existing.state === undefined && (way === 'insert' || existing.count > 0)) {
      report.leak(relation.name, who, 'reference', `refers to A's row: ${detail}`, [key.name]);
    }
    if (!same(existing, nothing)) {
      const both = `A's: ${describe(existing)}; nobody's: ${describe(nothing)}`;
      report.leak(relation.name, who, 'infer', `${detail}: ${both}`, [key.name]);
    } else if (existing.state !== undefined && !/^(23503|42501)$/.test(existing.state)) {
      // Refused for another reason, which proves nothing about the key.
      const own = await probe[way](pick(maker.rowOf(key.parent, b)));
      const why = `${detail}: ${existing.message}; its own: ${describe(own)}`;
      if (own.state !== undefined)
        report.record(relation.name, who, 'reference', 'cannot prove', why);
    }
  }
}

/** Can B learn of A's values by being refused the same ones? */
async function proveUnique(
  world: World,
  relation: Relation,
  unique: Unique,
  report: Report,
  who: Who,
  as: string | null,
): Promise<void> {
  const { ownerColumn } = relation;
  if (ownerColumn !== null && unique.columns.includes(ownerColumn)) return;
  const row = world.maker.rowOf(relation.name, world.a);
  const theirs = Object.fromEntries(unique.columns.map((name) => [name, row?.[name] ?? null]));
  const missing = strange(world, relation, theirs);
  const probe = new Probe(world, relation, as);
  report.record(relation.name, who, 'infer', 'refused');
  for (const way of ['insert', 'update'] as const) {
    if (!probe.may(way, unique.columns)) continue;
    const existing = await probe[way](theirs);
    if (existing.state === '23505' && existing.constraint === unique.name) {
      const detail = `${unique.name}, by ${way}: refused because of A's row`;
      report.leak(relation.name, who, 'infer', detail, [unique.name]);
    } else if (missing === undefined || Object.values(theirs).includes(null)) {
      const detail = `${unique.name}: A's row has no value there`;
      report.record(relation.name, who, 'infer', 'cannot prove', detail);
    } else if (!same(existing, await probe[way](missing))) {
      const detail = `${unique.name}, by ${way}: ${describe(existing)}`;
      report.leak(relation.name, who, 'infer', detail, [unique.name]);
    }
  }
}

/** Foreign keys and unique constraints of a table, as each stranger. */
export async function proveConstraints(
  world: World,
  relation: Relation,
  report: Report,
): Promise<void> {
  if (!relation.isOwned || !'rp'.includes(relation.kind) || relation.isPartition) return;
  if (world.maker.rowOf(relation.name, world.b) === undefined) return;
  for (const [who, as] of strangers(world)) {
    for (const key of relation.foreignKeys) {
      await proveForeignKey(world, relation, key, report, who, as);
    }
    for (const unique of relation.uniques) {
      await proveUnique(world, relation, unique, report, who, as);
    }
  }
}
