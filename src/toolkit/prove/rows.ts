import { randomBytes, randomUUID } from 'node:crypto';
import { type Attempts, ident, literal, type Outcome } from './attempt.ts';
import { keyOf, type Relation } from './catalogue.ts';
import { type Choice, Solver } from './solver.ts';

/** The values of a row, as text. */
export type Row = Record<string, string | null>;

/** A user that rows are made for; null makes a row that belongs to nobody. */
export interface Person {
  id: string;
  /** Opens every word that is written into this user's rows. */
  mark: string;
}

/** A fresh user, of whom nothing is in the database yet. */
export const newPerson = (letter: string): Person => ({
  id: randomUUID(),
  mark: `gw${letter}${randomBytes(4).toString('hex')}`,
});

/** A row that could not be made, and why: whatever it stands for cannot be proved. */
export class CannotMakeRow extends Error {}

interface Made {
  row: Row;
  choice: Choice;
  fixed: Row;
}

const uuidText = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Makes rows from the catalogue: column types, checks, and foreign keys in their order. */
export class RowMaker {
  readonly #attempts: Attempts;
  readonly #relations: Map<string, Relation>;
  readonly #made = new Map<string, Made>();
  readonly #choices = new Map<string, Choice>();
  readonly #making = new Set<string>();
  #words = 0;

  constructor(attempts: Attempts, relations: Map<string, Relation>) {
    this.#attempts = attempts;
    this.#relations = relations;
  }

  /** A word that occurs nowhere else. */
  word(person: Person | null): string {
    this.#words += 1;
    return `${person?.mark ?? 'gws'}k${this.#words.toString(36).padStart(3, '0')}`;
  }

  /** The row that was made for a user in a table. */
  rowOf(table: string, person: Person): Row | undefined {
    return this.#made.get(`${table} ${person.id}`)?.row;
  }

  /** What names a user's rows in a table: the owner's column, else the key of the row made. */
  whereOf(relation: Relation, person: Person): string {
    const column = relation.columns.find(({ name }) => name === relation.ownerColumn);
    if (column) return `${ident(column.name)} = ${literal(person.id, column.type)}`;
    const root = this.#relations.get(relation.root) ?? relation;
    const row = this.rowOf(root.name, person);
    if (row === undefined) return 'false';
    return keyOf(root)
      .map((name) => {
        const type = relation.columns.find((candidate) => candidate.name === name)?.type;
        return `${ident(name)} is not distinct from ${literal(row[name], type)}`;
      })
      .join(' and ');
  }

  /** An expression for a whole row, with every value as text. */
  #returning(relation: Relation): string {
    const names = relation.columns.map(({ name }) => literal(name)).join(', ');
    const values = relation.columns.map(({ name }) => `t.${ident(name)}::text`).join(', ');
    return `jsonb_object(array[${names}]::text[], array[${values}]::text[])::text as made`;
  }

  async read(relation: Relation, where: string): Promise<Row | undefined> {
    const [found] = await this.#attempts.sql.unsafe<{ made: string }[]>(
      `select ${this.#returning(relation)} from ${relation.name} as t where ${where} limit 1`,
    );
    return found && (JSON.parse(found.made) as Row);
  }

  /** The values of columns that must name rows elsewhere; makes those rows. */
  async #fixedValues(relation: Relation, person: Person | null): Promise<Row> {
    const fixed: Row = {};
    if (relation.ownerColumn !== null && person !== null) fixed[relation.ownerColumn] = person.id;
    for (const key of relation.foreignKeys) {
      const parent = this.#relations.get(key.parent);
      if (parent === undefined) continue;
      const mine = key.columns.filter((name) => fixed[name] === undefined);
      const columns = relation.columns.filter(({ name }) => mine.includes(name));
      const isRequired = columns.some((column) => column.isRequired);
      if (!parent.isOwned && !isRequired) continue;
      const isCycle = this.#making.has(`${parent.name} ${person?.id}`);
      if (isCycle && !isRequired) continue;
      if (isCycle && parent !== relation && mine.length > 0) {
        throw new CannotMakeRow(`${relation.name} and ${parent.name} refer to each other`);
      }
      if (isCycle) continue;
      const row = await this.make(parent.name, person).catch((error: unknown) => {
        if (isRequired || mine.length === 0) throw error;
      });
      key.columns.forEach((name, index) => {
        const value = row?.[key.parentColumns[index] ?? ''];
        if (mine.includes(name) && value != null) fixed[name] = value;
      });
    }
    return fixed;
  }

  #insert(relation: Relation, values: Row): string {
    const columns = relation.columns.filter(({ name }) => values[name] !== undefined);
    if (columns.length === 0) return `insert into ${relation.name} default values`;
    const names = columns.map(({ name }) => ident(name)).join(', ');
    const texts = columns.map(({ name, type }) => literal(values[name], type)).join(', ');
    return `insert into ${relation.name} as t (${names}) values (${texts})`;
  }

  #valuesOf(choice: Choice, fixed: Row, person: Person | null): Row {
    const values: Row = {};
    for (const [name, make] of choice) {
      const value = make(this.word(person));
      if (value !== undefined) values[name] = value;
    }
    return { ...values, ...fixed };
  }

  async #try(relation: Relation, values: Row, person: Person | null): Promise<Outcome> {
    const { sql, options } = this.#attempts;
    await sql`select set_config(${options.userSetting}, ${person?.id ?? ''}, true)`;
    return this.#attempts.run({
      statement: `${this.#insert(relation, values)} returning ${this.#returning(relation)}`,
      returnsRows: true,
      keep: true,
    });
  }

  /**
   * Makes a row of a user's, and those that it refers to; once for each table and user.
   *
   * @throws CannotMakeRow saying which constraint refused everything that was tried
   */
  async make(table: string, whose: Person | null): Promise<Row> {
    const relation = this.#relations.get(table);
    if (relation === undefined) throw new CannotMakeRow(`there is no table ${table}`);
    const person = relation.isOwned ? whose : null;
    const key = `${table} ${person?.id}`;
    const made = this.#made.get(key);
    if (made !== undefined) return made.row;
    if (person === null) {
      if (relation.isOwned) throw new CannotMakeRow(`a row of ${table} needs a user`);
      const found = await this.read(relation, 'true');
      if (found) return found;
    }
    this.#making.add(key);
    try {
      const fixed = await this.#fixedValues(relation, person);
      const result = await this.#solve(relation, fixed, person);
      this.#made.set(key, result);
      return result.row;
    } finally {
      this.#making.delete(key);
    }
  }

  async #solve(relation: Relation, fixed: Row, person: Person | null): Promise<Made> {
    const finish = (outcome: Outcome, choice: Choice): Made => {
      this.#choices.set(relation.name, choice);
      const { made } = JSON.parse(outcome.rows[0] ?? '{}') as { made: string };
      return { row: JSON.parse(made) as Row, choice, fixed };
    };
    const known = this.#choices.get(relation.name);
    if (known !== undefined) {
      const outcome = await this.#try(relation, this.#valuesOf(known, fixed, person), person);
      if (outcome.state === undefined) return finish(outcome, known);
    }
    let last: Outcome | undefined;
    for (const full of [true, false]) {
      const solver = new Solver(relation, new Set(Object.keys(fixed)), full);
      if (solver.unknown.length > 0) {
        const [name] = solver.unknown;
        const type = relation.columns.find((column) => column.name === name)?.type;
        throw new CannotMakeRow(`cannot make a row of ${relation.name}: ${name} is ${type}`);
      }
      for (let tries = 0; tries < 400; tries += 1) {
        const { choice } = solver;
        last = await this.#try(relation, this.#valuesOf(choice, fixed, person), person);
        if (last.state === undefined) return finish(last, choice);
        if (last.state === '23505' && person !== null) {
          // A trigger has made the one row that a user can have.
          const row = await this.read(relation, this.whereOf(relation, person));
          if (row) return { row, choice, fixed };
        }
        if (!solver.learn(last)) break;
      }
    }
    throw new CannotMakeRow(`cannot make a row of ${relation.name}: ${last?.message}`);
  }

  /**
   * A statement that makes another row for a user, like the one that was made.
   *
   * @param only which columns may be named; what is set is always named
   */
  statement(
    relation: Relation,
    person: Person,
    set: Row = {},
    only: (column: string) => boolean = () => true,
  ): string {
    const made = this.#made.get(`${relation.root} ${person.id}`);
    const values = this.#valuesOf(made?.choice ?? new Map(), made?.fixed ?? {}, person);
    // Ids that have a default are not the choice's; a second row gets new ones.
    const allowed = Object.entries(values).filter(([name]) => only(name));
    return this.#insert(relation, { ...Object.fromEntries(allowed), ...set });
  }

  /** Every text in a user's rows that cannot be in anybody else's. */
  marksOf(person: Person): Set<string> {
    const [mine, others] = [new Set<string>(), new Set<string>()];
    for (const [key, { row }] of this.#made) {
      const into = key.endsWith(person.id) ? mine : others;
      for (const value of Object.values(row)) if (value !== null) into.add(value);
    }
    const marks = new Set([person.id]);
    for (const value of mine) {
      for (const [word] of value.matchAll(new RegExp(`${person.mark}k[0-9a-z]{3}`, 'g'))) {
        marks.add(word);
      }
      const isLong = value.length >= 12 && !/^\d{4}-\d\d-\d\d/.test(value) && !/^[[{]/.test(value);
      const isTold = value.includes(person.mark);
      if (!others.has(value) && (uuidText.test(value) || (isLong && !isTold))) marks.add(value);
    }
    return marks;
  }

  /** All rows that were made for a user, by table. */
  rowsOf(person: Person): Map<string, Row> {
    return new Map(
      [...this.#made]
        .filter(([key]) => key.endsWith(` ${person.id}`))
        .map(([key, { row }]) => [key.slice(0, -person.id.length - 1), row]),
    );
  }
}
