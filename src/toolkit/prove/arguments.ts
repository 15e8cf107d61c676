import type { Transaction } from '../../postgres/connect.ts';
import { ident, literal } from './attempt.ts';
import { candidatesFor } from './candidates.ts';
import type { ProveOptions } from './options.ts';
import type { World } from './world.ts';

export interface Argument {
  name: string;
  type: string;
  /** The base type of a domain, the row type's table of a composite, or the type. */
  baseType: string;
  table: string | null;
  labels: string[];
  hasDefault: boolean;
  isVariadic: boolean;
}

export interface Routine {
  /** With its argument types. */
  name: string;
  /** To call it by. */
  call: string;
  isProcedure: boolean;
  /** Whether a call gives rows: a procedure may give none. */
  returnsRows: boolean;
  /** Arguments that a procedure only gives, and that its call has all the same. */
  outputs: string[];
  arguments: Argument[];
}

/** Functions and procedures that no extension made and no trigger runs. */
export async function loadRoutines(sql: Transaction, options: ProveOptions): Promise<Routine[]> {
  const rows = await sql<(Omit<Routine, 'arguments'> & { arguments: Argument[] | null })[]>`
    select format('%I.%I(%s)', nspname, proname, oidvectortypes(proargtypes)) as name,
      format('%I.%I', nspname, proname) as call, prokind = 'p' as "isProcedure",
      prokind = 'f' or proargmodes && array['o', 'b']::"char"[] is true as "returnsRows",
      array(
        select coalesce(proargnames[place], '') from unnest(proargmodes) with ordinality
          as each (mode, place) where prokind = 'p' and mode = 'o' order by place
      ) as outputs,
      (
        select jsonb_agg(jsonb_build_object(
          'name', coalesce(proargnames[argument.place], ''),
          'type', format_type(argument.type, null),
          'baseType', format_type(case typtype when 'd' then typbasetype else argument.type end,
            case typtype when 'd' then typtypmod end),
          'table', case when typtype = 'c' then (select format('%I.%I', n.nspname, relname)
            from pg_class inner join pg_namespace as n on n.oid = relnamespace
            where pg_class.oid = typrelid and relkind <> 'c') end,
          'labels', array(select enumlabel::text from pg_enum
            where enumtypid = argument.type order by enumsortorder),
          'hasDefault', argument.input > pronargs - pronargdefaults,
          'isVariadic', argument.mode = 'v') order by argument.place)
        from (
          select each.place, each.type, each.mode, row_number() over (order by place) as input
          from unnest(coalesce(proallargtypes, proargtypes::oid[]), proargmodes)
            with ordinality as each (type, mode, place)
          where coalesce(mode, 'i') in ('i', 'b', 'v')
        ) as argument
        inner join pg_type on pg_type.oid = argument.type
      ) as arguments
    from pg_proc
    inner join pg_namespace on pg_namespace.oid = pronamespace
    where nspname <> all(${[...options.ignoredSchemas, 'pg_temp']})
      and nspname !~ '^pg_temp_'
      and prokind in ('f', 'p')
      and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
      and not exists (select from pg_depend
        where classid = 'pg_proc'::regclass and objid = pg_proc.oid and deptype = 'e')
    order by 1`;
  return rows.map((row) => ({
    ...row,
    arguments: (row.arguments ?? []).map((argument) => {
      // A pseudo-type takes any value, once that says what it is.
      const type = /^any.*array$/.test(argument.type) ? 'text[]' : 'text';
      return /^"?any/.test(argument.type) ? { ...argument, type, baseType: type } : argument;
    }),
  }));
}

/** `p_task_id` and `task_id` are the same word. */
const plainName = (name: string): string => name.replace(/^_?p_|^_+/, '').toLowerCase();

const singular = (word: string): string =>
  word
    .replace(/ies$/, 'y')
    .replace(/(ss|x|ch|sh)es$/, '$1')
    .replace(/([^s])s$/, '$1');

/** Values of A's for an argument, the likeliest first, as SQL expressions. */
export function valuesFor(world: World, argument: Argument): string[] {
  const { maker, a, relations } = world;
  const wanted = plainName(argument.name);
  const type = argument.baseType;
  const rows = [...maker.rowsOf(a)];
  const named: string[] = [];
  const alike: string[] = [];
  for (const [table, row] of rows) {
    const thing = singular(table.replace(/^.*\./, '').replaceAll('"', ''));
    for (const column of relations.get(table)?.columns ?? []) {
      const value = row[column.name];
      if (value == null || column.baseType.replace(/\(.*/, '') !== type.replace(/\(.*/, ''))
        continue;
      const isNamed = [column.name, `${thing}_${column.name}`].includes(wanted);
      if (isNamed) named.push(value);
      else alike.push(value);
    }
  }
  // Longest first: what a word of A's is part of, such as an e-mail, before bare words.
  const mine = [...named, ...(type === 'uuid' ? [a.id] : []), ...alike];
  if (argument.table !== null) {
    const row = maker.rowOf(argument.table, a);
    const columns = relations.get(argument.table)?.columns ?? [];
    if (row === undefined) return [`null::${argument.type}`];
    const fields = columns.map((column) => literal(row[column.name], column.type));
    return [`row(${fields.join(', ')})::${argument.type}`];
  }
  const quoted = (values: (string | null | undefined)[]): string[] => [
    ...new Set(
      values.filter((value) => value != null).map((value) => literal(value, argument.type)),
    ),
  ];
  if (/^jsonb?$/.test(type)) {
    const objects = rows.map(([table, row]) => ({
      ...row,
      [`${singular(table.replace(/^.*\./, ''))}_id`]: row.id,
      ...(table.endsWith('_logs') ? { message_id: row.id } : {}),
    }));
    return quoted([
      ...objects.flatMap((row) => [JSON.stringify([row]), JSON.stringify(row)]),
      '{}',
    ]);
  }
  if (/^uuid\[\]$/.test(type)) {
    const ids = rows.flatMap(([, row]) => (row.id == null ? [] : [row.id]));
    return quoted([`{${[a.id, ...ids].join(',')}}`]);
  }
  if (type === 'boolean') return ['true', 'false'];
  const made = candidatesFor(argument, [])
    .slice(0, 3)
    .map((make) => make(maker.word(null)));
  return quoted([...mine.slice(0, 40), ...made]);
}

/**
 * Combinations of values, the likeliest first: each argument's best guess, then one varied
 * at a time, then all of the smaller products.
 */
export function combinations(values: string[][], most: number): string[][] {
  const best = values.map((list) => list[0] ?? 'null');
  const found = new Map([[best.join(), best]]);
  const enter = (combination: string[]): void => {
    if (found.size < most) found.set(combination.join(), combination);
  };
  const longest = Math.max(0, ...values.map((list) => list.length));
  for (let at = 1; at < longest; at += 1) {
    values.forEach((list, index) => {
      const value = list[at];
      if (value !== undefined) enter(best.map((kept, place) => (place === index ? value : kept)));
    });
  }
  const product = values.reduce((count, list) => count * Math.max(1, list.length), 1);
  for (let number = 0; number < product && product <= 4096 && found.size < most; number += 1) {
    let rest = number;
    enter(
      values.map((list) => {
        const value = list[rest % Math.max(1, list.length)] ?? 'null';
        rest = Math.floor(rest / Math.max(1, list.length));
        return value;
      }),
    );
  }
  return [...found.values()];
}

/** The text of a call with these arguments; null leaves one to its default. */
export function callText(routine: Routine, values: (string | null)[]): string {
  const given = routine.arguments.flatMap((argument, index) => {
    const value = values[index];
    if (value == null) return [];
    const name = argument.name === '' ? '' : `${ident(argument.name)} => `;
    return [`${argument.isVariadic ? 'variadic ' : ''}${name}${value}`];
  });
  for (const name of routine.outputs) given.push(name === '' ? 'null' : `${ident(name)} => null`);
  const text = `${routine.call}(${given.join(', ')})`;
  return routine.isProcedure ? `call ${text}` : `select result::text from ${text} as result`;
}
