import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { loginRoles, roleNames } from '../../src/postgres/roles.ts';
import { projectRoot } from '../../src/project.ts';

const bootstrap = readFileSync(join(projectRoot, 'sql', 'bootstrap', 'roles.sql'), 'utf8');

/** The quoted names in the part of the file between two texts. */
function namesBetween(start: string, end: string): string[] {
  const from = bootstrap.indexOf(start);
  const part = bootstrap.slice(from, bootstrap.indexOf(end, from));
  return [...part.matchAll(/'((?:gw|app)_[a-z]+)'/g)].map(([, name = '']) => name).sort();
}

test('sql/bootstrap/roles.sql makes the roles that the program knows', () => {
  expect(namesBetween('from (values', 'as wanted_roles')).toEqual([...roleNames].sort());
});

test('those that log in can log in, and no others', () => {
  const login = [...bootstrap.matchAll(/\('([a-z_]+)', 'login/g)].map(([, name = '']) => name);
  const names = Object.values(loginRoles).map(({ name }) => name);
  expect(login.sort()).toEqual([...names].sort());
  expect(namesBetween('where key in (', ')')).toEqual([...names].sort());
});

test("the environment takes each one's password", () => {
  for (const { variable } of Object.values(loginRoles)) {
    expect(loadConfig({ [variable]: 'long enough' })).toMatchObject({ [variable]: 'long enough' });
  }
});
