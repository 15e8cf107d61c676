import type { Outcome } from './attempt.ts';
import { type Candidate, candidatesFor, omitted } from './candidates.ts';
import type { Column, Relation } from './catalogue.ts';

/** Which candidate each column takes. */
export type Choice = Map<string, Candidate>;

const textual = /^(text|citext|character varying|jsonb?)\b/;

/** Whether a column is worth filling although it need not be: it can carry a mark. */
function carriesMark(relation: Relation, column: Column): boolean {
  if (column.isRequired || !textual.test(column.baseType)) return false;
  const checks = relation.checks.filter(({ columns }) => columns.includes(column.name));
  return !checks.some(({ definition }) => / = ANY | = '/.test(definition));
}

/**
 * Finds values for the columns of a row by trying: a constraint that refuses names itself,
 * and its columns take their next candidates.
 */
export class Solver {
  readonly #relation: Relation;
  readonly #lists = new Map<string, Candidate[]>();
  readonly #at = new Map<string, number>();
  /** Combinations that a constraint of several columns has refused. */
  readonly #refused = new Map<string, Set<string>>();

  /**
   * @param fixed columns whose values are given
   * @param full also columns that need no value but can carry a mark
   */
  constructor(relation: Relation, fixed: Set<string>, full: boolean) {
    this.#relation = relation;
    const references = new Set(relation.foreignKeys.flatMap(({ columns }) => columns));
    for (const column of relation.columns) {
      if (column.isGenerated || fixed.has(column.name)) continue;
      if (column.isRequired) this.#add(column, []);
      else if (full && !references.has(column.name) && carriesMark(relation, column)) {
        this.#add(column, [], [omitted]);
      }
    }
  }

  #add(column: Column, first: Candidate[], last: Candidate[] = []): void {
    const checks = this.#relation.checks.filter(({ columns }) => columns.includes(column.name));
    this.#lists.set(column.name, [...first, ...candidatesFor(column, checks), ...last]);
    this.#at.set(column.name, 0);
  }

  /** The columns for which no value is known. */
  get unknown(): string[] {
    return [...this.#lists].filter(([, list]) => list.length === 0).map(([name]) => name);
  }

  /** What to try now. */
  get choice(): Choice {
    return new Map(
      [...this.#lists].map(([name, list]) => [name, list[this.#at.get(name) ?? 0] ?? omitted]),
    );
  }

  #columnsOf(outcome: Outcome): string[] {
    const { checks, uniques, foreignKeys } = this.#relation;
    if (outcome.constraint !== undefined) {
      const found = [...checks, ...uniques, ...foreignKeys].find(
        ({ name }) => name === outcome.constraint,
      );
      return found?.columns ?? [];
    }
    if (outcome.column !== undefined) return [outcome.column];
    if (outcome.message?.startsWith('no partition of relation')) {
      const required = this.#relation.columns.filter(({ name }) => this.#lists.has(name));
      return required.map(({ name }) => name);
    }
    return [];
  }

  /**
   * Chooses other values after a refusal.
   *
   * @returns false when nothing is left to try
   */
  learn(outcome: Outcome): boolean {
    const blamed = this.#columnsOf(outcome);
    for (const name of blamed) {
      const column = this.#relation.columns.find((candidate) => candidate.name === name);
      if (this.#lists.has(name) || column === undefined || column.isGenerated) continue;
      if (!this.#relation.foreignKeys.some(({ columns }) => columns.includes(name))) {
        this.#add(column, [omitted]);
      }
    }
    const free = blamed.filter((name) => (this.#lists.get(name)?.length ?? 0) > 0);
    const [only] = free;
    if (only === undefined) return false;
    if (blamed.length === 1) {
      const list = this.#lists.get(only) ?? [];
      list.splice(this.#at.get(only) ?? 0, 1);
      this.#at.set(only, 0);
      return list.length > 0;
    }
    return this.#advance(`${outcome.constraint}`, free);
  }

  /** Moves to the next combination that this constraint has not refused yet. */
  #advance(constraint: string, columns: string[]): boolean {
    const refused = this.#refused.get(constraint) ?? new Set<string>();
    this.#refused.set(constraint, refused);
    // Candidates of other constraints may have been removed: compare what they are.
    const state = () =>
      columns.map((name) => `${this.#lists.get(name)?.length}:${this.#at.get(name)}`).join();
    refused.add(state());
    for (let turn = 0; turn < 5000; turn += 1) {
      for (const name of columns) {
        const next = (this.#at.get(name) ?? 0) + 1;
        const wraps = next >= (this.#lists.get(name)?.length ?? 0);
        this.#at.set(name, wraps ? 0 : next);
        if (!wraps) break;
      }
      if (!refused.has(state())) return true;
    }
    return false;
  }
}
