import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseSqlFile, readSqlText } from '../../src/postgres/sql-files.ts';
import { projectRoot } from '../../src/project.ts';
import { healthFiles, healthNames } from '../../src/toolkit/check/health.ts';
import { machineChecks } from '../../src/toolkit/check/machine.ts';
import { checkNames } from '../../src/toolkit/lint/checks.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, paramsOf, readTable } from '../helpers/reference.ts';

const db = useDatabase();

test('every health check is in the reference, as its file describes it', () => {
  const files = healthFiles().map(({ name, title, params, needs, read }) => ({
    check: code(name),
    finds: title,
    'thresholds and defaults': paramsOf(params),
    needs: needs.map(code).join(', '),
    means: read,
  }));
  // Those that ask the machine have no file to be compared with.
  const shown = readTable('checks', 'Health: gw check');
  const others = healthNames().filter((name) => !files.some(({ check }) => check === code(name)));
  expect(others).toEqual(Object.keys(machineChecks).sort());
  const byHand = shown
    .filter(({ check }) => others.some((name) => check === code(name)))
    .map(({ do: _, ...row }) => row as (typeof files)[number]);
  expectTable('checks', 'Health: gw check', [...files, ...byHand]);
});

test('every check of lint is in the reference, as its file describes it', () => {
  expectTable(
    'checks',
    'Lint: gw lint',
    checkNames.map((name) => {
      const text = readSqlText('checks', `lint-${name}`);
      // Its parameters are prose, and the same for all.
      const { title, read } = parseSqlFile(text.replace(/^-- Params:.*\n(-- {3}.*\n)*/m, ''), name);
      const levels = ['error', 'warning'].filter((level) => text.includes(`'${level}'`));
      return {
        check: code(name),
        finds: title,
        level: levels.join(' or '),
        'means, and what to do': read,
      };
    }),
  );
});

test('how often a check runs inside the database is in the reference', async () => {
  const checks = await db.as('owner')<{ name: string; every: string }[]>`
    select name, case every when interval '1 day' then 'day'
      when interval '1 hour' then 'hour' else every::text end as every
    from ops.health_checks where every <> interval '1 minute'`;
  expectTable(
    'checks',
    'Alerts',
    checks.map(({ name, every }) => ({ check: code(name), 'due every': every })),
  );
});

test('every alert that something opens is in the reference', () => {
  const texts = ['migrations/fixtures/functions', 'src'].flatMap((folder) =>
    readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(sql|ts)$/.test(name))
      .map((name) => readFileSync(join(projectRoot, folder, name), 'utf8')),
  );
  const raised = texts.flatMap((text) => [
    // A name in the call, or in the parameters that follow it.
    ...text.matchAll(/raise_alert\('([a-z-]+)'(?! \|\|)/g),
    ...text.matchAll(/raise_alert\(\$1[^)]*\)[^[]*\[\s*\.\.\.\['([a-z-]+)'/g),
    ...text.matchAll(/const failedAlert = '([a-z-]+)'/g),
  ]);
  const health = healthNames().map((name) => `health-${name}`);
  const names = new Set(raised.map(([, name = '']) => name));
  expectTable(
    'checks',
    'Names of alerts',
    ['health-<check>', ...[...names].filter((name) => !health.includes(name))].map((name) => ({
      alert: code(name),
    })),
  );
});
