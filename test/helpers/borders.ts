/** Values by column, as SQL; a column that is not named is null. */
export type Values = Record<string, string>;

/** Rows that a CHECK lets in and keeps out, on both sides of each of its borders. */
export interface Borders {
  inside: Values[];
  outside: Values[];
}

export const of = (column: string, inside: string[], outside: string[]): Borders => {
  const rows = (values: string[]): Values[] => values.map((value) => ({ [column]: value }));
  return { inside: rows(inside), outside: rows(outside) };
};

const quoted = (values: readonly string[]): string[] =>
  values.map((value) => `'${value.replaceAll("'", "''")}'`);

/** Texts of so many characters. The letter has two bytes. */
export const text = (column: string, min: number, max: number, not: string[] = []): Borders => {
  const long = (length: number): string => `repeat('é', ${length})`;
  const short = min === 0 ? [] : [long(min - 1)];
  return of(column, [long(min), long(max)], [...short, long(max + 1), ...quoted(not)]);
};

/** Names: not of white space only. */
export const name = (column: string, max: number): Borders => text(column, 1, max, [' ', ' \t\n']);

export const oneOf = (column: string, ...values: string[]): Borders => {
  const [first = ''] = values;
  const turned = first === first.toUpperCase() ? first.toLowerCase() : first.toUpperCase();
  return of(column, quoted(values), quoted(['', turned, `${first}s`, 'anything']));
};

export const matches = (column: string, inside: string[], outside: string[]): Borders =>
  of(column, quoted(inside), quoted(outside));

/** Whole numbers from one to another. */
export const range = (column: string, min: number, max: number): Borders =>
  of(column, [`${min}`, `${max}`], [`${min - 1}`, `${max + 1}`]);

export const atLeast = (column: string, min: number): Borders =>
  of(column, [`${min}`], [`${min - 1}`]);

export const lengths = (column: string, min: string, max: string, step: string): Borders =>
  of(
    column,
    [`interval '${min}'`, `interval '${max}'`],
    [`interval '${min}' - interval '${step}'`, `interval '${max}' + interval '${step}'`],
  );

export const positive = (column: string): Borders =>
  of(column, ["interval '1 microsecond'"], ["interval '0'", "interval '-1 day'"]);

export const dates = (column: string, first: string, last: string): Borders =>
  of(
    column,
    [`date '${first}'`, `date '${last}'`],
    [`date '${first}' - 1`, `date '${last}' + 1`, "date 'infinity'", "date '-infinity'"],
  );

export const days = (column: string): Borders => dates(column, '1970-01-01', '9999-12-31');

export const instants = (column: string): Borders =>
  of(
    column,
    ["timestamptz '1970-01-01Z'", "timestamptz '9999-12-31Z'"],
    [
      "timestamptz '1970-01-01Z' - interval '1 microsecond'",
      "timestamptz '9999-12-31Z' + interval '1 microsecond'",
      "timestamptz 'infinity'",
    ],
  );

export const timeOfDay = (column: string): Borders =>
  of(column, ["time '00:00'", "time '23:59:59.999999'"], ["time '24:00'"]);

export const json = (column: string, kind: 'object' | 'array'): Borders => {
  const [inside, other] = kind === 'object' ? ['{}', '[]'] : ['[]', '{}'];
  return matches(column, [inside], [other, 'null', '1', '"x"']);
};

export const only = (column: string): Borders => of(column, ['true'], ['false']);

export const locale = (column: string): Borders =>
  matches(
    column,
    ['en', 'gsw', 'pt-BR', 'zh-Hant', 'zh-Hant-TW', 'es-419'],
    ['', 'e', 'enus', 'EN', 'pt-br', 'pt_BR', 'pt-BRA', 'zh-hant', 'es-41', 'en-GB-Hant'],
  );

/** The first is set exactly when the second is. */
export const together = (first: [string, string, string], second: [string, string]): Borders => {
  const [column, when, otherwise] = first;
  const [name, value] = second;
  return {
    inside: [{ [column]: when, [name]: value }, { [column]: otherwise }],
    outside: [{ [column]: when }, { [column]: otherwise, [name]: value }],
  };
};

/** One is not before the other. */
export const ordered = (first: string, second: string, mayBeEqual: boolean): Borders => {
  const at = (seconds: number): string =>
    `timestamptz '2026-01-01Z' + interval '${seconds} microseconds'`;
  const equal = { [first]: at(0), [second]: at(0) };
  return {
    inside: [{ [first]: at(0), [second]: at(1) }, ...(mayBeEqual ? [equal] : [])],
    outside: [{ [first]: at(1), [second]: at(0) }, ...(mayBeEqual ? [] : [equal])],
  };
};

export const bytes = (length: number): string => `decode(repeat('00', ${length}), 'hex')`;
