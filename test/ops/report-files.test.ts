import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, inject, test } from 'vitest';
import {
  parseParams,
  parseSqlFile,
  readOnly,
  readSqlFiles,
  runSqlFile,
  type SqlFile,
} from '../../src/postgres/sql-files.ts';
import { projectRoot } from '../../src/project.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const files = readSqlFiles('reports');

describe('every report', () => {
  test('has a test in which it finds what it is for', () => {
    const tests = [
      'ops/reports.test.ts',
      'ops/own-reports.test.ts',
      'db/operations/cron.test.ts',
    ].map((file) => readFileSync(join(projectRoot, 'test', file), 'utf8'));
    for (const { name } of files) expect(tests.join('')).toContain(`'${name}'`);
  });

  test.each(files.map(({ name }) => name))('%s is written as the others are', (name) => {
    const file = files.find((each) => each.name === name) as SqlFile;
    for (const part of [file.title, file.columns, file.read, file.cost]) expect(part).not.toBe('');
    expect(file.text).toMatch(/\norder by\s/);
    expect(file.text).not.toMatch(/pg_size_pretty/);
    for (const { name: param, fallback } of file.params) {
      const body = file.text.slice(file.text.indexOf(`'report.${param}'`));
      expect(body).toContain(`'report.${param}', true)`);
      if (fallback !== '') expect(body).toContain(`'${fallback}'`);
    }
  });

  test.each(['superuser', 'owner', 'monitor'] as const)(
    'runs as %s, with the columns that it names',
    async (role) => {
      await readOnly(db.url(role), 'test', async (sql) => {
        for (const file of files) {
          const answer = await runSqlFile(sql, file);
          if ('needs' in answer)
            expect([file.name, answer.needs]).toEqual([
              expect.stringMatching(/^cron-/),
              'cron.job',
            ]);
          else {
            for (const { name } of answer.columns) expect(file.columns, file.name).toContain(name);
          }
        }
      });
    },
  );

  test('runs on a database that is not ours, or says what it needs', async () => {
    await readOnly(inject('superuserUrl'), 'test', async (sql) => {
      const needs: string[] = [];
      for (const file of files) {
        const answer = await runSqlFile(sql, file);
        if ('needs' in answer) needs.push(`${file.name}: ${answer.needs}`);
      }
      expect(needs).toContain('job-queues: pgboss.queue');
      expect(needs).toContain('message-status: function ops.message_status');
      expect(needs).toContain('slow-queries: pg_stat_statements');
    });
  });
});

describe('a file', () => {
  const file = parseSqlFile(
    '-- a-b: what it\n--   shows\n-- Params:\n--   rows integer = 5: how many\n--   by one|two = one: how\n' +
      '-- Needs: x.y, role z\n-- Columns: a\n-- Read: b\n-- Cost: c\nselect 1;\n',
    'x',
  );

  test('is taken apart', () => {
    expect(file).toMatchObject({
      name: 'a-b',
      title: 'what it shows',
      needs: ['x.y', 'role z'],
      read: 'b',
    });
    expect(file.params).toEqual([
      { name: 'rows', type: 'integer', fallback: '5', description: 'how many' },
      { name: 'by', type: 'one|two', fallback: 'one', description: 'how' },
    ]);
    expect(() => parseSqlFile('-- a: b\n-- Params:\n--   rows = 5\nselect', 'x')).toThrow(
      /not a parameter/,
    );
  });

  test('takes only parameters that it has, of the right type', () => {
    expect(parseParams(['rows=3', 'by=two'], file.params)).toEqual(
      new Map([
        ['rows', '3'],
        ['by', 'two'],
      ]),
    );
    for (const wrong of ['rows=x', 'rows=1; drop', 'by=three', 'other=1', 'rows']) {
      expect(() => parseParams([wrong], file.params)).toThrow(
        expect.objectContaining({ exitCode: 2 }),
      );
    }
  });
});
