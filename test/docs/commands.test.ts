import { relative } from 'node:path';
import type { Command, Option } from 'commander';
import { expect, test } from 'vitest';
import { buildProgram } from '../../src/program.ts';
import { projectRoot } from '../../src/project.ts';
import { code, expectTable, headingsOf, type Row, readPage } from '../helpers/reference.ts';

/** The commands below one, each before its own, with `gw` and the names that lead to it. */
function commandsOf(command: Command, path = 'gw'): { path: string; command: Command }[] {
  return command.commands.flatMap((each) => {
    const own = `${path} ${each.name()}`;
    return [{ path: own, command: each }, ...commandsOf(each, own)];
  });
}

const commands = commandsOf(await buildProgram());

function defaultOf({ defaultValue, mandatory, negate }: Option): string {
  if (mandatory && defaultValue === undefined) return 'required';
  if (negate || defaultValue === undefined || (defaultValue as unknown[]).length === 0) return '';
  return code(relative(projectRoot, String(defaultValue)) || String(defaultValue));
}

/** Arguments and options as a table has them. */
function rowsOf({ registeredArguments, options }: Command): Row[] {
  return [
    ...registeredArguments.map((argument) => {
      const { description, required, variadic } = argument;
      const text = `${argument.name()}${variadic ? '...' : ''}`;
      return {
        option: code(required ? `<${text}>` : `[${text}]`),
        does: description,
        default: required ? 'required' : '',
      };
    }),
    ...options
      .filter(({ hidden }) => !hidden)
      .map((option) => ({
        option: code(option.flags),
        does: option.description,
        default: defaultOf(option),
      })),
  ];
}

/** Commands that do something; the others are only a name for those below them. */
const sections = commands.filter(
  ({ path, command }) => command.commands.length === 0 || path === 'gw cdc',
);

test('every command has a section, and every section a command', () => {
  const headings = headingsOf('commands')
    .filter((line) => line.startsWith('### '))
    .map((line) => line.slice('### '.length));
  expect(headings.sort()).toEqual(sections.map(({ path }) => path).sort());
});

test.each(sections)('$path is described as it describes itself', ({ path, command }) => {
  const description = command.description();
  const sentence = `${description.charAt(0).toUpperCase()}${description.slice(1)}.`;
  expect(readPage('commands')).toContain(`### ${path}\n\n${sentence}\n`);
  const rows = rowsOf(command);
  const text = readPage('commands').split(`### ${path}\n`)[1]?.split('\n#')[0] ?? '';
  if (rows.length === 0) expect(text).not.toContain('|');
  else expectTable('commands', path, rows);
});
