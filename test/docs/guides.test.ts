import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { readSqlFiles } from '../../src/postgres/sql-files.ts';
import { buildProgram } from '../../src/program.ts';
import { projectRoot } from '../../src/project.ts';
import { healthNames } from '../../src/toolkit/check/health.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { Guide } from '../helpers/guide.ts';
import { readTable } from '../helpers/reference.ts';
import { eventually } from '../helpers/wait.ts';

const folder = join(projectRoot, 'docs', 'how-to');
const names = readdirSync(folder).map((name) => name.replace(/\.md$/, ''));
const guides = names.filter((name) => name !== 'README');
const reports = readSqlFiles('reports');
const onCall = new Guide('on-call');
const db = useDatabase();
const api = useApi(db);

/** The words behind each `gw` of a page's code: commands, arguments, options. */
const calls = (text: string): string[][] =>
  [...text.matchAll(/(?:npm run (?:-s )?gw --|(?<=[\s`])gw) ([a-z][^\n`]*)/g)].map(
    ([, rest = '']) =>
      rest
        .replace(/\s(#|;|2?>|\||\\$).*/, '')
        .replace(/\)"\s*$/, '')
        .trim()
        .split(/\s+/),
  );

const program: Command = await buildProgram();

/** What is wrong with a call; undefined when nothing is. */
function faultOf(words: string[]): string | undefined {
  let command = program;
  const rest = [...words];
  for (;;) {
    const next = command.commands.find((each) => each.name() === rest[0]);
    if (next === undefined) break;
    command = next;
    rest.shift();
  }
  if (command.parent === null) return `no command ${words[0]}`;
  if (command.commands.length > 0 && rest[0] !== undefined && !rest[0].startsWith('-')) {
    return `no command ${words.join(' ')}`;
  }
  const end = rest.indexOf('--');
  for (const option of rest.slice(0, end === -1 ? undefined : end)) {
    if (!option.startsWith('-')) continue;
    const known = command.options.some(({ long, short }) => [long, short].includes(option));
    if (!known) return `${command.name()} has no ${option}`;
  }
  return undefined;
}

describe.each(guides)('%s', (name) => {
  const { text } = new Guide(name);

  test('names commands and options that there are', () => {
    for (const words of calls(text)) expect(faultOf(words), words.join(' ')).toBeUndefined();
  });

  test('names reports that there are, with their parameters', () => {
    for (const [command, report = '', ...options] of calls(text)) {
      // The report of a guide is its own.
      if (command !== 'report' || /^(-.*|bookmarks|all|)$/.test(report)) continue;
      const found = reports.find((each) => each.name === report);
      expect(found, report).toBeDefined();
      const given = options.flatMap((word) => /^([a-z_]+)=/.exec(word)?.[1] ?? []);
      expect(
        found?.params.map((each) => each.name),
        report,
      ).toEqual(expect.arrayContaining(given));
    }
  });

  test('links to pages and headings that there are, and is in the index', () => {
    for (const [, path = '', heading] of text.matchAll(/\]\(([^)#:]+\.md)(?:#([^)]+))?\)/g)) {
      const target = join(folder, path);
      // The parts of the documentation are written beside each other.
      if (!path.startsWith('..')) expect(existsSync(target), path).toBe(true);
      if (heading === undefined || path.startsWith('..')) continue;
      const headings = new Guide(path.replace(/\.md$/, '')).text
        .split('\n')
        .filter((line) => line.startsWith('#'))
        .map((line) =>
          line
            .replace(/^#+ /, '')
            .toLowerCase()
            .replace(/[^a-z0-9 -]/g, '')
            .replaceAll(' ', '-'),
        );
      expect(headings, path).toContain(heading);
    }
    expect(new Guide('README').text).toContain(`](${name}.md)`);
  });
});

describe('the page for who is on call', () => {
  test('has a row for each check and each alert', () => {
    const alerts = readTable('checks', 'Names of alerts')
      .map((row) => (row.alert ?? '').replaceAll('`', ''))
      .filter((alert) => !alert.includes('<'));
    const rows = onCall.text.split('\n').filter((line) => line.startsWith('| '));
    for (const name of [...healthNames(), ...alerts]) {
      expect(
        rows.some((row) => row.split('|')[1]?.includes(`\`${name}\``)),
        name,
      ).toBe(true);
    }
  });

  test('ends the sessions of one user, access tokens too', async () => {
    const [ada, bob] = [await api.register('a@example.com'), await api.register('b@example.com')];
    await db
      .as('owner')
      .unsafe(
        onCall
          .at('as gw_owner: end all sessions of a user')
          .replace('00000000-0000-4000-8000-000000000001', ada.userId),
      );
    const codes = (token: string) => api.codes('{ viewer { rowId } }', {}, token);
    await eventually(async () => (await codes(ada.accessToken)).includes('TOKEN_INVALID'));
    expect(await codes(bob.accessToken)).toEqual([]);
  });
});
