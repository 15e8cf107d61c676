import { callText, combinations, loadRoutines, type Routine, valuesFor } from './arguments.ts';
import type { Outcome } from './attempt.ts';
import { Disguise } from './disguise.ts';
import type { Report, Who } from './report.ts';
import { strangers, type World } from './world.ts';

/** How many calls of one function at most, and for how long (milliseconds). */
const most = { calls: 64, milliseconds: 500, atLeast: 6 };

/** What does not depend on chance: whether it failed, how many rows, which are null. */
const outline = ({ state, constraint, rows }: Outcome): string =>
  JSON.stringify([state, constraint, rows.map((row) => row.includes(':null'))]);

const content = ({ state, constraint, rows }: Outcome): string =>
  JSON.stringify([state, constraint, rows]);

interface Call {
  world: World;
  routine: Routine;
  report: Report;
  who: Who;
  as: string | null;
  disguises: [Disguise, Disguise];
}

/** Calls a function with arguments of A's, and with such that mean nothing. */
async function proveCall(call: Call, statement: string): Promise<Outcome> {
  const { world, routine, report, who, as, disguises } = call;
  const { returnsRows } = routine;
  const run = (text: string, watch = false) =>
    world.attempts.run({ as, statement: text, returnsRows, watch });
  const outcome = await run(statement, true);
  if (outcome.state === '42501' && outcome.message?.startsWith('permission denied for')) {
    return outcome;
  }
  const told = outcome.rows.join();
  const seen = [...world.marks].filter((mark) => told.includes(mark) && !statement.includes(mark));
  if (seen.length > 0)
    report.leak(routine.name, who, 'see', `returns A's ${seen[0]}: ${statement}`);
  const changed = outcome.changed ?? [];
  if (changed.length > 0) {
    const detail = `changes rows of A in ${changed.join(', ')}: ${statement}`;
    report.leak(routine.name, who, 'change', detail, changed);
  }
  const [first, second] = disguises;
  if (first.apply(statement) === statement) return outcome;
  const control = await run(first.apply(statement));
  const expected = { ...outcome, rows: outcome.rows.map((row) => first.apply(row)) };
  if (content(control) === content(expected)) return outcome;
  // An answer may depend on chance, or on the value itself: then only its outline counts.
  const other = await run(second.apply(statement));
  const isSteady =
    second.apply(content(outcome)) === content(other) || outline(control) === outline(other);
  if (isSteady && outline(control) !== outline(expected)) {
    const by = outcome.constraint ?? outcome.state ?? control.constraint ?? control.state ?? '';
    const detail = `answers differently when A's row exists (${by}): ${statement}`;
    report.leak(routine.name, who, 'infer', detail, [by]);
  } else if (
    outcome.rows.length > 0 &&
    content(control) === content({ ...other, rows: other.rows })
  ) {
    const detail = `answers differently when A's row exists: ${statement}`;
    report.leak(routine.name, who, 'infer', detail);
  }
  return outcome;
}

/** Calls every function and procedure with arguments of A's, as each stranger. */
export async function proveFunctions(world: World, report: Report): Promise<void> {
  const routines = await loadRoutines(world.attempts.sql, world.attempts.options);
  const disguises: [Disguise, Disguise] = [new Disguise(world.marks), new Disguise(world.marks)];
  for (const routine of routines) {
    if (world.attempts.options.objects?.test(routine.name) === false) continue;
    report.add(routine.name, routine.isProcedure ? 'procedure' : 'function');
    const values = routine.arguments.map((argument) => valuesFor(world, argument));
    const calls = combinations(values, most.calls);
    const defaults = routine.arguments.map((argument, index) =>
      argument.hasDefault ? null : (calls[0]?.[index] ?? 'null'),
    );
    if (routine.arguments.some(({ hasDefault }) => hasDefault)) {
      calls.splice(1, 0, defaults as string[]);
    }
    for (const [who, as] of strangers(world)) {
      const started = Date.now();
      for (const [index, combination] of calls.entries()) {
        const isLate = Date.now() - started > most.milliseconds;
        if (isLate && index >= most.atLeast) break;
        const call = { world, routine, report, who, as, disguises };
        const { state, message } = await proveCall(call, callText(routine, combination));
        const isRefused = state === '42501' && message?.startsWith('permission denied for');
        // 2D000: it ends a transaction, which is not its own here.
        if (!isRefused && (state === '42804' || state === '2D000')) {
          report.record(routine.name, who, 'see', 'cannot prove', message);
        }
        for (const aspect of ['see', 'change', 'infer'] as const) {
          report.record(routine.name, who, aspect, isRefused ? 'refused' : 'empty');
        }
        if (isRefused) break;
      }
    }
  }
}
