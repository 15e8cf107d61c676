import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const readme = readFileSync(join(projectRoot, 'README.md'), 'utf8');
const api = useApi(useDatabase());

/** The block of shell below a heading. */
const shellBelow = (heading: string): string =>
  new RegExp(`^## ${heading}\\n[\\s\\S]*?^\`\`\`sh\\n([\\s\\S]*?)^\`\`\``, 'm').exec(readme)?.[1] ??
  '';

test('the first query of the README works as it is written', async () => {
  const script = shellBelow('First query');
  expect(script.match(/^token=…/m)).not.toBeNull();
  const [register = '', rest = ''] = script
    .replaceAll('http://127.0.0.1:5678', api.origin)
    .split(/^token=….*$/m);
  const run = async (text: string): Promise<string> =>
    (await promisify(execFile)('bash', ['-ec', text])).stdout;
  const { data } = JSON.parse(await run(register)) as {
    data: { register: { result: { accessToken: string } } };
  };
  const define = /^gql\(\) \{[\s\S]*?^\}$/m.exec(register)?.[0] ?? '';
  const { accessToken } = data.register.result;
  const answers = (await run(`${define}\ntoken=${accessToken}\n${rest}`))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { errors?: unknown; data: unknown });
  expect(answers).toMatchObject([
    { data: { createTask: { task: { status: 'todo' } } } },
    { data: { tasks: { totalCount: 1, nodes: [{ title: 'Write the report' }] } } },
  ]);
});

test('names npm scripts that there are', () => {
  const { scripts } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const named = [...readme.matchAll(/npm (?:run )?(start|test|[a-z]+)\b/g)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'run');
  expect(named).toEqual(expect.arrayContaining(['start', 'test']));
  expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
});
