import { type Column, formatTable } from '../../terminal/table.ts';
import type { Declaration, ProveOptions } from './options.ts';

export const aspects = ['see', 'change', 'delete', 'reference', 'infer'] as const;
export type Aspect = (typeof aspects)[number];

/** Who tries. A is only asked whether the rows can be seen at all. */
export type Who = 'A' | 'anonymous' | 'B';

/** From harmless to harmful: the last one that applies is shown. */
export const marks = [
  'refused',
  'empty',
  'shared',
  'own rows only',
  'declared',
  'cannot prove',
  'LEAK',
] as const;
export type Mark = (typeof marks)[number];

export interface Finding {
  object: string;
  kind: string;
  who: Who;
  aspect: Aspect;
  mark: Mark;
  /** What was done, and what came of it. */
  detail: string;
}

export interface ProvedObject {
  object: string;
  kind: string;
  /** By who and aspect; what is missing does not apply. */
  cells: Partial<Record<`${Who} ${Aspect}`, Mark>>;
}

/** What was found, object by object. */
export class Report {
  readonly objects = new Map<string, ProvedObject>();
  /** Leaks, and what could not be proved; declared exceptions too. */
  readonly findings: Finding[] = [];
  readonly #options: ProveOptions;
  readonly #matched = new Set<Declaration>();
  /** Declarations that matched nothing, when everything was tried. */
  stale: Declaration[] = [];
  tried = 0;

  constructor(options: ProveOptions) {
    this.#options = options;
  }

  /** Enters an object that has nothing to say yet. */
  add(object: string, kind: string): ProvedObject {
    const known = this.objects.get(object) ?? { object, kind, cells: {} };
    this.objects.set(object, known);
    return known;
  }

  /** Records what came of one attempt; the worst of a cell stays. */
  record(object: string, who: Who, aspect: Aspect, mark: Mark, detail = ''): void {
    const entry = this.add(object, 'object');
    const cell = `${who} ${aspect}` as const;
    const before = entry.cells[cell];
    if (before === undefined || marks.indexOf(mark) > marks.indexOf(before)) {
      entry.cells[cell] = mark;
    }
    if (marks.indexOf(mark) < marks.indexOf('declared')) return;
    const finding = { object, kind: entry.kind, who, aspect, mark, detail };
    const isKnown = this.findings.some(
      (other) =>
        other.object === object &&
        other.who === who &&
        other.aspect === aspect &&
        other.mark === mark,
    );
    if (!isKnown) this.findings.push(finding);
  }

  /** Records a leak, unless it is declared with a reason. */
  leak(object: string, who: Who, aspect: Aspect, detail: string, by: string[] = []): void {
    const name = object.replace(/\(.*\)$/, '').replaceAll('"', '');
    const reasons = by.map((what) =>
      this.#options.declared.find((entry) => entry.object === name && entry.by === what),
    );
    for (const entry of reasons) if (entry !== undefined) this.#matched.add(entry);
    const [first] = reasons;
    if (first !== undefined && reasons.every((entry) => entry !== undefined)) {
      this.record(object, who, aspect, 'declared', first.reason);
    } else {
      this.record(object, who, aspect, 'LEAK', detail);
    }
  }

  /** Called when everything was tried: what is declared and did not occur is stale. */
  finish(): void {
    this.stale = this.#options.declared.filter((entry) => !this.#matched.has(entry));
  }

  /** True when nothing leaks, everything could be tried, and no declaration is stale. */
  get isClean(): boolean {
    if (this.stale.length > 0) return false;
    return !this.findings.some(({ mark }) => mark === 'LEAK' || mark === 'cannot prove');
  }
}

const short: Record<Mark, string> = {
  refused: 'refused',
  empty: 'empty',
  shared: 'shared',
  'own rows only': 'own rows',
  declared: 'declared',
  'cannot prove': 'UNPROVED',
  LEAK: 'LEAK',
};

/** Objects in a row that fared alike, such as the partitions of a table, as one. */
function grouped(objects: ProvedObject[]): ProvedObject[] {
  const rows: ProvedObject[] = [];
  const groups = new Map<string, { row: ProvedObject; count: number; first: string }>();
  for (const entry of objects) {
    const family = entry.object.replace(/_(h\d+|p\d+|default)("?)$/, '$2');
    const key = JSON.stringify([family, Object.entries(entry.cells).sort()]);
    const group = groups.get(key);
    if (entry.kind === 'partition' && group) {
      group.count += 1;
      group.row.object = `${group.first} (and ${group.count - 1} more)`;
      continue;
    }
    const row = { ...entry };
    rows.push(row);
    if (entry.kind === 'partition') groups.set(key, { row, count: 1, first: entry.object });
  }
  return rows;
}

/** The matrix as text: a line for each object, a column for each attempt of each stranger. */
export function matrix(report: Report): string {
  const attempts = (['anonymous', 'B'] as const).flatMap((who) =>
    aspects.map(
      (aspect): Column<ProvedObject> => ({
        title: `${who === 'B' ? 'B' : 'anon'} ${aspect}`,
        value: ({ cells }) => {
          const mark = cells[`${who} ${aspect}`];
          return mark === undefined ? '·' : short[mark];
        },
      }),
    ),
  );
  const columns = [{ title: 'object', value: ({ object }: ProvedObject) => object }, ...attempts];
  return formatTable(grouped([...report.objects.values()]), columns);
}

/** The matrix, and below it a paragraph for each finding. */
export const formatReport = (report: Report): string =>
  [
    matrix(report),
    ...report.findings.map(
      ({ mark, object, who, aspect, detail }) =>
        `${mark}: ${object}, ${who} ${aspect}: ${detail}\n`,
    ),
    ...report.stale.map(
      ({ object, by }) => `stale: ${object}, by ${by}: the declaration matches nothing\n`,
    ),
  ].join('\n');
