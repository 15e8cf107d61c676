import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from './findings.ts';

/** What a process of the release before may still need, besides what squawk knows of. */
const rules: Record<string, { pattern: RegExp; breaks: string }> = {
  'drop-function': {
    pattern: /\bdrop\s+(?:function|procedure|routine)\b/gi,
    breaks: 'code that runs may call it',
  },
  'drop-view': {
    pattern: /\bdrop\s+(?:materialized\s+)?view\b/gi,
    breaks: 'code that runs may read it',
  },
  'drop-type': {
    pattern: /\bdrop\s+(?:type|domain)\b/gi,
    breaks: 'code that runs may use it',
  },
  rename: {
    pattern:
      /\balter\s+(?:function|procedure|routine|view|materialized\s+view|type|domain)\b[^;]*?\brename\b/gi,
    breaks: 'code that runs knows the old name',
  },
  revoke: {
    pattern: /\brevoke\b(?![^;]*\bfrom\s+public\b)/gi,
    breaks: 'code that runs may need the right',
  },
};

/** The text with comments, literals and bodies of functions blank; places stay. */
function bare(text: string): string {
  const blank = (part: string): string => part.replace(/[^\n]/g, ' ');
  return text.replace(/--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|(\$\w*\$)[\s\S]*?\1/g, (part) =>
    blank(part),
  );
}

/** Which rules stand in comments directly above a line. */
function ignoredAt(lines: readonly string[], line: number): string[] {
  const names: string[] = [];
  for (let above = line - 1; above >= 0 && /^\s*--/.test(lines[above] ?? ''); above -= 1) {
    const [, list = ''] = /--\s*compatibility-ignore\s+([\w\s,-]+)/.exec(lines[above] ?? '') ?? [];
    names.push(...list.split(/[\s,]+/));
  }
  return names;
}

/** What a migration takes away that running code may need. */
export function findIncompatible(file: string, text: string): Finding[] {
  const lines = text.split('\n');
  const statements = bare(text);
  return Object.entries(rules).flatMap(([rule, { pattern, breaks }]) =>
    [...statements.matchAll(pattern)].flatMap(({ index, 0: found }) => {
      const line = statements.slice(0, index).split('\n').length - 1;
      if (ignoredAt(lines, line).includes(rule)) return [];
      return [
        {
          name: `compatibility:${rule}`,
          level: 'error' as const,
          object_schema: null,
          object_name: file,
          detail: `line ${line + 1}: ${found.replace(/\s+/g, ' ')}: ${breaks}`,
          remediation:
            'See docs/how-to/change-a-schema-in-use.md. Where nothing that runs needs it, write ' +
            `-- compatibility-ignore ${rule} above, with the reason.`,
        },
      ];
    }),
  );
}

/**
 * Looks at migrations that run on databases with rows: those behind the baseline, and current ones.
 *
 * @param files paths from the root of the checkout
 */
export function lintCompatibility(root: string, files: readonly string[]): Finding[] {
  const folder = join(root, 'migrations', 'fixtures', 'topics');
  const topics = new Set(existsSync(folder) ? readdirSync(folder) : []);
  // 000012-goals.sql is made of the topic 12-goals.sql.
  const isBaseline = (file: string): boolean => {
    const [, number = '', rest = ''] = /\/(\d{6})(-.*)$/.exec(file) ?? [];
    return topics.has(`${number.slice(-2)}${rest}`);
  };
  return files
    .filter((file) => !isBaseline(file))
    .flatMap((file) => findIncompatible(file, readFileSync(join(root, file), 'utf8')));
}
