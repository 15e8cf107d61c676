import { CloseCode } from 'graphql-ws';
import { GraphQLError } from 'postgraphile/graphql';
import { describe, expect, test } from 'vitest';
import { errorCodes, makeMaskError, sqlStates } from '../../src/api/errors.ts';
import { closeCodes } from '../../src/api/live/sockets.ts';
import { EXIT, exitMeanings } from '../../src/errors.ts';
import { createLog } from '../../src/log.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, readTable } from '../helpers/reference.ts';

const db = useDatabase();

test('every code of GraphQL errors is in the reference', () => {
  expectTable(
    'errors',
    'GraphQL codes',
    errorCodes.map((name) => ({ code: code(name) })),
  );
});

describe('SQLSTATEs', () => {
  test('of PostgreSQL are translated as the reference says', () => {
    const standard = Object.entries(sqlStates).filter(([state]) => !state.startsWith('GW'));
    expectTable(
      'errors',
      'SQLSTATEs of PostgreSQL',
      standard.map(([state, name]) => ({ SQLSTATE: code(state), 'code in GraphQL': code(name) })),
    );
  });

  test('of Groundwork are raised by the functions that the reference names', async () => {
    const raised = await db.as('owner')<{ state: string; functions: string[] }[]>`
      select found.parts[1] as state, array_agg(distinct nspname || '.' || proname
        order by nspname || '.' || proname) as functions
      from pg_proc
      inner join pg_namespace on pg_namespace.oid = pronamespace
      cross join lateral
        regexp_matches(prosrc, 'errcode = ''(GW[0-9]{3})''', 'g') as found (parts)
      group by state order by state`;
    expectTable(
      'errors',
      'SQLSTATEs of Groundwork',
      raised.map(({ state, functions }) => ({
        SQLSTATE: code(state),
        'raised by': functions.map(code).join(', '),
        'code in GraphQL': code(sqlStates[state] ?? ''),
      })),
    );
  });

  test('are masked with the codes that both tables give', () => {
    const mask = makeMaskError(createLog('api', 'silent'), () => undefined);
    const rows = ['SQLSTATEs of PostgreSQL', 'SQLSTATEs of Groundwork'].flatMap((heading) =>
      readTable('errors', heading),
    );
    for (const row of rows) {
      const state = (row.SQLSTATE ?? '').replaceAll('`', '');
      const originalError = Object.assign(new Error('said by the database'), { code: state });
      const { extensions } = mask(new GraphQLError('x', { originalError }));
      expect(code(String(extensions.code)), state).toBe(row['code in GraphQL'] || '`INTERNAL`');
    }
  });
});

test('every close code of a WebSocket is in the reference', () => {
  const protocol = [
    CloseCode.BadRequest,
    CloseCode.SubprotocolNotAcceptable,
    CloseCode.ConnectionInitialisationTimeout,
    CloseCode.SubscriberAlreadyExists,
    CloseCode.TooManyInitialisationRequests,
  ];
  // 1009 is sent by the ws package for a message that is too long.
  const codes = [...new Set([...Object.values(closeCodes), ...protocol, 1009])];
  const shown = readTable('errors', 'Close codes of WebSockets').map((row) => row['close code']);
  expect([...new Set(shown)].sort()).toEqual(codes.map((each) => code(String(each))).sort());
});

test('every exit code is in the reference', () => {
  expectTable(
    'errors',
    'Exit codes of commands',
    Object.entries(EXIT).map(([name, number]) => ({
      'exit code': code(String(number)),
      name,
      means: exitMeanings[name as keyof typeof EXIT],
    })),
  );
});
