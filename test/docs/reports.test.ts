import { test } from 'vitest';
import { readSqlFiles } from '../../src/postgres/sql-files.ts';
import { code, expectTable, paramsOf } from '../helpers/reference.ts';

test('every report is in the reference, as its file describes it', () => {
  expectTable(
    'reports',
    'Reports: gw report',
    readSqlFiles('reports').map(({ name, title, params, needs }) => ({
      report: code(name),
      shows: title,
      'parameters and defaults': paramsOf(params),
      needs: needs.map(code).join(', '),
    })),
  );
});
