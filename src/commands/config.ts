import type { Command } from 'commander';
import { loadConfigOf, type Needy, type Setting, settingsOf, unknownVariables } from '../config.ts';
import { budgetOf, formulaOf } from '../connections.ts';
import { print } from '../terminal/output.ts';
import { formatColumns } from '../terminal/table.ts';

const secret = /PASSWORD$|SECRET$|TOKEN$|_KEY$/;

/** A value without what is secret in it: passwords, and what follows the host of a webhook. */
export function mask({ name, text = '' }: Pick<Setting, 'name' | 'text'>): string {
  if (secret.test(name)) return text === '' ? '' : '…';
  if (name === 'GW_DELIVERY_VENDORS') {
    return text.replace(/=(\S+)/g, (_, url: string) => `=${mask({ name: 'URL', text: url })}`);
  }
  if (!/URL$|SEALS$/.test(name) || !URL.canParse(text)) return text;
  const url = new URL(text);
  const password = url.password === '' ? '' : ':…';
  const user = url.username === '' ? '' : `${url.username}${password}@`;
  const isDatabase = /^postgres/.test(url.protocol);
  const rest =
    isDatabase || url.protocol === 'file:' ? url.pathname : url.pathname.length > 1 ? '/…' : '';
  return `${url.protocol}//${user}${url.host}${rest}`;
}

const sourceOf = ({ from }: Setting): string => (typeof from === 'object' ? from.file : from);

export function registerConfig(program: Command): void {
  program
    .command('config')
    .description('print the configuration that is in force, and the connections that it takes')
    .option('--for <process>', 'as serve or worker would check it: serve, worker or both', 'none')
    .option('--json', 'print JSON')
    .action(({ for: whom, json = false }: { for: string; json?: boolean }) => {
      const processes = (['serve', 'worker'] as const).filter(
        (name): name is Needy => whom === name || whom === 'both',
      );
      const config = loadConfigOf(processes);
      const variables = settingsOf().map((setting) => ({
        variable: setting.name,
        value: mask(setting),
        from: sourceOf(setting),
      }));
      const unknown = unknownVariables();
      const connections = budgetOf(config);
      const formula = formulaOf(config);
      const shown = variables.filter(({ from }) => from !== 'unset');
      print(
        json,
        { variables, unknown, connections, formula },
        `${formatColumns(shown.map(({ variable, value, from }) => [variable, value, from]))}\n\n` +
          `${formatColumns(connections.map(({ process, total, are }) => [`gw ${process}`, String(total), are]))}\n` +
          `${formula}\n`,
      );
    });
}
