import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { buildProgram } from '../../src/program.ts';
import { projectRoot } from '../../src/project.ts';

const path = join(projectRoot, 'docs', 'explanation', 'map.md');

interface Row {
  question: string;
  /** The file to open. */
  file: string;
  /** What stands in it. */
  names: string[];
  commands: string[];
}

const quoted = (cell: string): string[] =>
  [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text);

const rows: Row[] = readFileSync(path, 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| question'))
  .map((line) => {
    const [question = '', open = '', names = '', commands = ''] = line.slice(2).split(' | ');
    const link = /\]\(([^)]+)\)/.exec(open)?.[1] ?? '';
    return {
      question,
      file: link === '' ? '' : relative(projectRoot, join(dirname(path), link)),
      names: quoted(names),
      commands: quoted(commands),
    };
  });

const textOf = (file: string): string => readFileSync(join(projectRoot, file), 'utf8');

/** Every command with the names that lead to it. */
const commandsOf = (command: Command, path = 'gw'): string[] =>
  command.commands.flatMap((each) => {
    const own = `${path} ${each.name()}`;
    return [own, ...commandsOf(each, own)];
  });
const commands = new Set(commandsOf(await buildProgram()));

function commandExists(text: string): boolean {
  const [, report] = /^gw report ([a-z-]+)$/.exec(text) ?? [];
  if (report !== undefined) return existsSync(join(projectRoot, 'sql', 'reports', `${report}.sql`));
  return commands.has(text);
}

describe('the map', () => {
  test('answers questions, each with one file and at least one name in it', () => {
    expect(rows.length).toBeGreaterThan(45);
    expect(rows.filter(({ file, names }) => file === '' || names.length === 0)).toEqual([]);
    expect(new Set(rows.map(({ question }) => question)).size).toBe(rows.length);
  });

  test.each([
    'Which columns has `message_logs`?',
    'What runs each minute?',
    'Where is retention decided?',
    'How do I add a channel?',
    'How do I add a message type?',
    'Who may execute `claim_messages`?',
  ])('has "%s"', (question) => {
    expect(rows.map((row) => row.question)).toContain(question);
  });

  test('names only files that exist', () => {
    expect(rows.filter(({ file }) => !existsSync(join(projectRoot, file)))).toEqual([]);
  });

  test('names what stands in the file', () => {
    const missing = rows.flatMap(({ question, file, names }) =>
      names
        .filter((name) => !textOf(file).includes(name))
        .map((name) => `${question} ${file} lacks ${name}`),
    );
    expect(missing).toEqual([]);
  });

  test('names commands and reports that exist', () => {
    const named = rows.flatMap((row) => row.commands);
    expect(named.length).toBeGreaterThan(15);
    expect(named.filter((command) => !commandExists(command))).toEqual([]);
  });

  test('names what it asks about in the file that answers', () => {
    const missing = rows.flatMap(({ question, file }) =>
      quoted(question)
        .filter((name) => !textOf(file).includes(name))
        .map((name) => `${file} lacks ${name}`),
    );
    expect(missing).toEqual([]);
  });
});
