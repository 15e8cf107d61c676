import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * The tutorial as a stranger follows it: one test does what the page says, from top to
 * bottom, in a checkout with a server of its own. A block that is followed by a block of text
 * must print that text, where … stands for anything.
 */
interface Block {
  language: string;
  text: string;
}

const checkout = new Checkout(['test']);
afterAll(() => checkout.remove());

const page = readFileSync(checkout.path('docs', 'tutorial', 'first-table.md'), 'utf8');
const blocks: Block[] = [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(
  ([, language = '', text = '']) => ({ language, text }),
);

/** What the page's text matches: … is anything, on one line or, alone, on several. */
function matcher(text: string): RegExp {
  const literally = (part: string): string => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  const lines = text.trimEnd().split('\n');
  const source = lines
    .map((line) => (line === '…' ? '(.*\n)*?' : `${line.split('…').map(literally).join('.*')}\n`))
    .join('');
  return new RegExp(`^${source}$`);
}

const clean = (output: string): string =>
  `${stripVTControlCharacters(output)
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .join('\n')}\n`;

type Up = ChildProcess & { output: () => string };

/** `npm start` in the first terminal, until it says that it runs. */
async function start(): Promise<Up> {
  const up = checkout.start(['up']);
  await eventually(async () => {
    if (up.exitCode !== null) throw new Error(up.output());
    return up.output().includes('Ctrl-C stops everything');
  }, 60_000);
  return up;
}

/** The second terminal: what one block sets, the next one sees. */
function openTerminal(): (commands: string) => Promise<string> {
  const shell = spawn('bash', [], { cwd: checkout.folder, env: checkout.env() });
  let output = '';
  for (const stream of [shell.stdout, shell.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  shell.stdin.write('exec 2>&1\n');
  afterAll(() => shell.stdin.end());
  return async (commands) => {
    output = '';
    shell.stdin.write(`set -e\n${commands}\nset +e; echo "[done]"\n`);
    await eventually(async () => {
      if (shell.exitCode !== null) throw new Error(`${commands}\n${output}`);
      return output.endsWith('[done]\n');
    }, 120_000);
    return output.slice(0, -'[done]\n'.length);
  };
}

/** Left to the reader: the repository's own checks, which take a minute, and git. */
const isLeftOut = (text: string): boolean => text.includes('git commit');

test('every command of the tutorial prints what the page says', {
  timeout: patience(300_000),
}, async () => {
  const inTerminal = openTerminal();
  const done = { files: 0, commands: 0, compared: 0 };
  let up: Up | undefined;
  const origin = (): string => /GraphiQL +(http:\S+)\//.exec(up?.output() ?? '')?.[1] ?? '';
  for (const [index, { language, text }] of blocks.entries()) {
    const place = /^(?:--|\/\/) (\S+)\n/.exec(text)?.[1];
    let output: string | undefined;
    if (language === 'text' || isLeftOut(text)) continue;
    if (place !== undefined) {
      mkdirSync(dirname(checkout.path(place)), { recursive: true });
      writeFileSync(checkout.path(place), text);
      done.files += 1;
    } else if (text.trim() === 'npm start') {
      up = await start();
      output = up.output();
    } else {
      if (text.includes('db reset')) {
        up?.kill('SIGINT');
        if (up !== undefined) await once(up, 'exit');
      }
      output = await inTerminal(text.replaceAll('http://127.0.0.1:5678', origin()));
      done.commands += 1;
    }
    const expected = blocks[index + 1];
    if (expected?.language !== 'text') continue;
    const shown = expected.text.replaceAll('http://127.0.0.1:5678', origin());
    expect(clean(output ?? ''), text).toMatch(matcher(shown));
    done.compared += 1;
  }
  expect(done).toEqual({ files: 4, commands: 11, compared: 10 });
});
