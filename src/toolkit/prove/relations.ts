import { ident, literal, type Outcome } from './attempt.ts';
import { keyOf, type Relation } from './catalogue.ts';
import { onlyRowsOfA, variantsOf } from './preludes.ts';
import type { Aspect, Mark, Report, Who } from './report.ts';
import { columnsFor, strangers, unchecked, type World } from './world.ts';

const denied = '42501';

interface Try {
  aspect: Aspect;
  statement: string;
  returnsRows: boolean;
}

/** A regular expression that finds any of the marks. */
const anyOf = (marks: Set<string>): string =>
  literal([...marks].map((mark) => mark.replace(/[^A-Za-z0-9]/g, '\\$&')).join('|'));

/** Which of a relation's rows a role sees: A's, B's, or such as bear nobody's mark. */
function seeing(world: World, relation: Relation, as: string | null): string {
  const columns = columnsFor(relation, as, 'select');
  if (columns.length === 0) return `select 1 from ${relation.name} limit 1`;
  return `select distinct case when x::text ~ ${anyOf(world.marks)} then 'A'
      when x::text ~ ${anyOf(world.marksOfB)} then 'B' else 'nobody' end as whose
    from (select ${columns.join(', ')} from ${relation.name}) as x`;
}

/** An update of everything that the role can reach, with a value that every rule allows. */
function updating(world: World, relation: Relation, as: string | null): string {
  const allowed = columnsFor(relation, as, 'update');
  const key = keyOf(relation).map(ident);
  const name = allowed.find((column) => !key.includes(column)) ?? allowed[0];
  const column =
    relation.columns.find((candidate) => ident(candidate.name) === name) ?? relation.columns[0];
  if (column === undefined) return `delete from ${relation.name}`;
  const row = world.maker.rowOf(relation.root, world.a);
  const value = row !== undefined ? literal(row[column.name], column.type) : ident(column.name);
  return `update ${relation.name} set ${ident(column.name)} = ${value}`;
}

function classify(outcome: Outcome, relation: Relation): Mark {
  if (outcome.state === denied) return 'refused';
  // A view that is not updatable refuses as well.
  if (outcome.state === '55000' || outcome.state === '0A000') return 'refused';
  if (outcome.state !== undefined) return 'cannot prove';
  if (outcome.count === 0) return 'empty';
  // What a view shows is marked A's, B's or neither; only a table without owners is shared.
  return relation.isOwned || 'vm'.includes(relation.kind) ? 'own rows only' : 'shared';
}

/** Without B's own rows, nothing that a view lets B write may be left. */
async function proveView(
  world: World,
  relation: Relation,
  report: Report,
  who: Who,
  as: string | null,
  tries: Try[],
): Promise<void> {
  const prelude = world.removal(world.b);
  for (const { aspect, statement } of tries.filter((entry) => !entry.returnsRows)) {
    const outcome = await world.attempts.run({ as, prelude, statement });
    if (outcome.stage === 'prelude') {
      report.record(relation.name, who, aspect, 'cannot prove', outcome.message);
    } else if (outcome.count > 0 || outcome.state?.startsWith('23')) {
      const detail = `${aspect}s rows that are not its own: ${outcome.message ?? outcome.count}`;
      report.leak(relation.name, who, aspect, detail);
    }
  }
}

/** Tries whether a stranger reaches A's rows when nothing else is in the table. */
async function proveAlone(
  world: World,
  relation: Relation,
  report: Report,
  who: Who,
  as: string | null,
  tries: Try[],
): Promise<void> {
  if (relation.kind === 'v') return proveView(world, relation, report, who, as, tries);
  if (!relation.isOwned || tries.length === 0) return;
  const where = world.maker.whereOf(relation, world.a);
  const alone = onlyRowsOfA(world, relation);
  for (const variant of [undefined, ...variantsOf(relation)]) {
    const set =
      variant === undefined ? '' : `; update ${relation.name} set ${variant} where ${where}`;
    for (const { aspect, statement, returnsRows } of tries) {
      const prelude = unchecked(`${alone}${set}`);
      const outcome = await world.attempts.run({ as, prelude, statement, returnsRows });
      const what = `rows of A${variant === undefined ? '' : ` with ${variant}`}`;
      if (outcome.stage === 'prelude') {
        if (variant !== undefined) continue;
        report.record(relation.name, who, aspect, 'cannot prove', outcome.message);
      } else if (outcome.count > 0 || (outcome.state !== undefined && outcome.state !== denied)) {
        report.leak(relation.name, who, aspect, `${what}: ${outcome.message ?? outcome.count}`);
      }
    }
  }
}

/** Tries to write rows in A's name. */
async function proveOwner(
  world: World,
  relation: Relation,
  report: Report,
  who: Who,
  as: string | null,
): Promise<void> {
  const owner = relation.columns.find(({ name }) => name === relation.ownerColumn);
  if (owner === undefined || !'rp'.includes(relation.kind)) return;
  const may = (privilege: 'insert' | 'update') => columnsFor(relation, as, privilege).length > 0;
  if (!may('insert') && !may('update')) return;
  const { maker, a, attempts } = world;
  const isUsers = relation.root === attempts.options.usersTable;
  const id = isUsers ? crypto.randomUUID() : a.id;
  const allowed = new Set(columnsFor(relation, as, 'insert'));
  const insert = maker.statement(relation, a, { [owner.name]: id }, (name) =>
    allowed.has(ident(name)),
  );
  const inserted = await attempts.run({ as, statement: insert });
  // Policies are asked before constraints are: what a constraint refuses, they let through.
  if (inserted.state === undefined || inserted.state.startsWith('23')) {
    const detail = `inserts rows for another user (${inserted.message ?? 'done'})`;
    report.leak(relation.name, who, 'change', detail);
  }
  const update = `update ${relation.name} set ${ident(owner.name)} = ${literal(a.id, owner.type)}`;
  const updated = await attempts.run({ as, statement: update });
  if (updated.state !== denied || !updated.message?.startsWith('permission denied')) {
    const detail = `may update ${owner.name} (${updated.message ?? `${updated.count} rows`})`;
    report.leak(relation.name, who, 'change', detail);
  }
}

/** A view's answer must be the same whether A's rows exist or not. */
async function proveIndependence(
  world: World,
  relation: Relation,
  report: Report,
  who: Who,
  as: string | null,
): Promise<void> {
  const columns = columnsFor(relation, as, 'select').join(', ');
  const statement = `select md5(string_agg(x::text, ',' order by x::text)) as answer
    from (select ${columns} from ${relation.name}) as x`;
  const refresh = relation.kind === 'm' ? `refresh materialized view ${relation.name}` : 'select 1';
  const run = async (before: string): Promise<string> => {
    const prelude = `${before}; ${refresh}`;
    const outcome = await world.attempts.run({ as, prelude, statement, returnsRows: true });
    return JSON.stringify([outcome.state, outcome.rows]);
  };
  const [withA, again, without] = [
    await run('select 1'),
    await run('select 1'),
    await run(world.removal(world.a)),
  ];
  if (withA === again && withA !== without) {
    report.leak(relation.name, who, 'infer', "its rows depend on A's");
  } else {
    report.record(relation.name, who, 'infer', 'empty');
  }
}

/** Can a stranger see, change or delete A's rows in a table, partition or view? */
export async function proveRelation(
  world: World,
  relation: Relation,
  report: Report,
): Promise<void> {
  const { attempts, a } = world;
  const { name } = relation;
  if (!relation.isPartition) {
    const own = await attempts.run({
      as: a.id,
      statement: seeing(world, relation, a.id),
      returnsRows: true,
    });
    const seesOwn = own.rows.some((row) => row.includes('"A"'));
    report.record(name, 'A', 'see', seesOwn ? 'own rows only' : own.state ? 'refused' : 'empty');
  }

  for (const [who, as] of strangers(world)) {
    const tries: Try[] = [];
    const see = await attempts.run({
      as,
      statement: seeing(world, relation, as),
      returnsRows: true,
    });
    const whose = see.rows.join();
    report.record(name, who, 'see', classify(see, relation), see.message);
    if (whose.includes('"A"') || (as === null && whose.includes('"B"'))) {
      report.leak(name, who, 'see', "sees A's rows");
    }
    if (see.state === undefined) {
      const statement = `select from ${name} limit 1`;
      tries.push({ aspect: 'see', statement, returnsRows: true });
      if ('vm'.includes(relation.kind)) await proveIndependence(world, relation, report, who, as);
    }
    const writes: [Aspect, string][] = [
      ['change', updating(world, relation, as)],
      ['delete', `delete from ${name}`],
    ];
    for (const [aspect, statement] of relation.kind === 'm' ? [] : writes) {
      const outcome = await attempts.run({ as, statement, watch: true });
      const mark = classify(outcome, relation);
      // What a rule of the table refuses is tried again below, with A's rows alone.
      const isTriedAgain = mark === 'cannot prove' && (relation.isOwned || relation.kind === 'v');
      report.record(name, who, aspect, isTriedAgain ? 'empty' : mark, outcome.message);
      if (outcome.changed !== undefined && outcome.changed.length > 0) {
        report.leak(name, who, aspect, `${aspect}s rows of A in ${outcome.changed.join(', ')}`);
      }
      if (mark === 'shared') {
        report.leak(name, who, aspect, `${aspect}s rows that everybody shares`);
      }
      if (outcome.state !== denied) tries.push({ aspect, statement, returnsRows: false });
    }
    if (relation.kind === 'v' || world.maker.rowOf(relation.root, a) !== undefined) {
      await proveAlone(world, relation, report, who, as, tries);
      await proveOwner(world, relation, report, who, as);
    }
  }
}
