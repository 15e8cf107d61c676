import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { topics } from '../../../src/migrations/baseline.ts';
import { expandIncludes, fixturesFolder, textOf } from '../../../src/migrations/includes.ts';
import { splitStatements } from '../../../src/migrations/statements.ts';
import { useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
let client: pg.Client;
beforeAll(async () => {
  client = new pg.Client({ connectionString: db.url('superuser') });
  await client.connect();
});
afterAll(() => client.end());

/** The first words of each statement. */
const parts = (text: string): string[] =>
  splitStatements(text).map(({ start, end }) => text.slice(start, end));

/** How many statements PostgreSQL takes a text for. */
async function counted(text: string): Promise<number> {
  await client.query('begin');
  try {
    const results = (await client.query(text)) as unknown as pg.QueryResult | pg.QueryResult[];
    return [results].flat().filter(({ command }) => command !== null).length;
  } finally {
    await client.query('rollback');
  }
}

test.for([
  ['nothing', ''],
  ['comments alone', '-- a; b\n/* c; /* d; */ e; */ ;; \n'],
  ['an end without semicolon', 'select 1; select 2 -- ; end'],
  ['strings', "select ';', 'it''s;', E'\\';\\\\', U&'\\0061;' ; select 2"],
  ['quoted names', 'select 1 as "a;b""c;"; select 2'],
  ['dollar quotes', 'select $$;$$, $a$ ; $$ ; $b$ $a$, $ä$;$ä$; select 2'],
  ['a name with a dollar', 'select 1 as a$b; select 2 as c$d$'],
  ['numbers and operators first', '(select 1); values (1), (2); table pg_catalog.pg_am;'],
  [
    'a function in the form of SQL',
    `create function pg_temp.f(a integer) returns integer language sql begin atomic
       select 1; select case when a > 1 then case a when 2 then 3 end else 4 end;
     end; select 2;`,
  ],
  [
    'a rule of several statements',
    `create table app_private.t (a integer); create rule r as on insert to app_private.t
       do also (select 1; select 2); insert into app_private.t values (1);`,
  ],
])('%s is split as PostgreSQL splits it', async ([, text]) => {
  expect(splitStatements(text as string)).toHaveLength(await counted(text as string));
});

test('a statement begins after its comments and ends before its semicolon', () => {
  expect(parts('-- one\nselect 1 ; /* two */ do $$ begin; end $$;\n\n  -5 ')).toEqual([
    'select 1 ',
    'do $$ begin; end $$',
    '-5',
  ]);
});

test('every topic begins each statement with a word of SQL', () => {
  const words =
    /^(alter|comment|create|delete|do|drop|grant|insert|revoke|select|set|update|with|reset)\b/i;
  const strange = topics().flatMap((topic) =>
    parts(textOf(expandIncludes(join(fixturesFolder, topic)))).filter((each) => !words.test(each)),
  );
  expect(strange.map((each) => each.slice(0, 80))).toEqual([]);
});
