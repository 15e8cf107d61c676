import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { z } from 'zod';
import { variables } from '../../src/config.ts';
import { projectRoot } from '../../src/project.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, type Row, readTable } from '../helpers/reference.ts';

const db = useDatabase();
const checkout = new Checkout();
afterAll(() => checkout.remove());

/** What zod says of a variable. */
interface Described {
  description?: string;
  default?: unknown;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
}

const described = Object.entries(variables.shape).map(([name, schema]) => {
  const options = { io: 'output', unrepresentable: 'any' } as const;
  return { name, of: z.toJSONSchema(schema as z.ZodType, options) as Described };
});

/** Which values a variable takes, where zod knows; the page says the others in words. */
function valuesOf({ enum: values, minimum, maximum, minLength }: Described): string | undefined {
  if (values !== undefined) return values.map(code).join(', ');
  if (minimum !== undefined) return `${minimum} to ${maximum}`;
  return minLength === undefined ? undefined : `at least ${minLength} characters`;
}

test('every variable of the configuration is in the reference, as it describes itself', () => {
  const shown = new Map(readTable('environment', 'Variables').map((row) => [row.variable, row]));
  expectTable(
    'environment',
    'Variables',
    described.map(({ name, of }): Row => {
      const variable = code(name);
      const row = shown.get(variable);
      return {
        variable,
        value: valuesOf(of) ?? row?.value ?? '',
        default: of.default === undefined ? (row?.default ?? '') : code(String(of.default)),
        is: of.description ?? '',
      };
    }),
  );
  const unsaid = [...shown.values()].filter(({ value, default: usual }) => !value || !usual);
  expect(unsaid).toEqual([]);
});

/** The sources below a folder, whose use of the environment is looked at. */
function sources(folder: string): string[] {
  return readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs)$/.test(name))
    .map((name) => readFileSync(join(projectRoot, folder, name), 'utf8'));
}

/** The variables that sources read by themselves. */
function readIn(folder: string): Set<string> {
  const texts = sources(folder);
  return new Set(
    texts.flatMap((text) =>
      [...text.matchAll(/process\.env(?:\.|\[['"])(\w+)/g)].map((match) => match[1] ?? ''),
    ),
  );
}

test('what is read outside the configuration is in the reference, with a reason', () => {
  const outside = [...readIn('src')].filter((name) => !(name in variables.shape));
  // Node and the C library read these.
  const names = [...outside, 'NODE_EXTRA_CA_CERTS', 'MALLOC_ARENA_MAX'];
  expectTable(
    'environment',
    'Read outside the list',
    names.map((name) => ({ variable: code(name) })),
  );
});

test('nothing takes the environment apart, but what is looked at here', () => {
  const uses = sources('src').flatMap((text) => text.match(/.*process\.env\b(?!\.\w).*/g) ?? []);
  const passedOn = /\.\.\.process\.env\b|env: NodeJS\.ProcessEnv = process\.env\b/;
  expect(uses.filter((line) => !passedOn.test(line))).toEqual([]);
});

test('what tests and measurements read is in the reference', () => {
  const names = [...readIn('test')].filter((name) => /^GW_(TEST|BENCH)_/.test(name));
  expectTable(
    'environment',
    'Read by tests and measurements',
    names.map((name) => ({ variable: code(name) })),
  );
});

test('what the container reads is in the reference', () => {
  const texts = ['docker-compose.yml', 'docker/entrypoint.sh'].map((name) =>
    readFileSync(join(projectRoot, name), 'utf8'),
  );
  const names = texts.flatMap((text) =>
    [...text.matchAll(/\$\{([A-Z_]+)\b/g)].map(([, one]) => one),
  );
  const own = [...new Set(names)].filter((name = '') => !(name in variables.shape));
  expectTable(
    'environment',
    'Read by the container of the database',
    own.map((name) => ({ variable: code(name ?? '') })),
  );
});

test('what gw env prints is in the reference', async () => {
  const { stdout } = await checkout.run(['env'], {
    DATABASE_URL: db.url('owner'),
    ROOT_DATABASE_URL: db.url('superuser'),
  });
  const names = [...stdout.matchAll(/^export (\w+)=/gm)].map(([, name = '']) => name);
  expectTable(
    'environment',
    'Printed by gw env',
    names.map((name) => ({ variable: code(name) })),
  );
});
