import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { runChecks } from '../../src/toolkit/lint/checks.ts';
import { proveOptions } from '../../src/toolkit/prove/options.ts';
import { proveInTransaction } from '../../src/toolkit/prove/prove.ts';
import { rules } from './catalogue.ts';
import { rolledBack, type TestDatabase } from './database.ts';

interface Block {
  /** The language behind the fence. */
  language: string;
  /** What the comment in its first line says: where the text goes. */
  place: string;
  /** The text without that line. */
  text: string;
}

const fence = /^( *)```(\w+)\n([\s\S]*?)\n\1```$/gm;
const comment = /^(?:--|\/\/|#) (.+)$/;

/** A page of docs/how-to and its code blocks, so that a test does what the page says. */
export class Guide {
  readonly text: string;
  readonly blocks: Block[];

  constructor(name: string) {
    this.text = readFileSync(join(projectRoot, 'docs', 'how-to', `${name}.md`), 'utf8');
    this.blocks = [...this.text.matchAll(fence)].map(
      ([, indent = '', language = '', body = '']) => {
        const lines = body.split('\n').map((line) => line.slice(indent.length));
        const [, place] = comment.exec(lines[0] ?? '') ?? [];
        const text = lines.slice(place === undefined ? 0 : 1).join('\n');
        return { language, place: place ?? '', text };
      },
    );
  }

  /** The text of the only block that goes to a place. */
  at(place: string): string {
    const here = this.blocks.filter((block) => block.place === place);
    expect(here, `blocks that begin with "${place}"`).toHaveLength(1);
    return here[0]?.text ?? '';
  }

  /** The texts of all blocks of a language, in order. */
  in(language: string): string[] {
    return this.blocks.filter((block) => block.language === language).map(({ text }) => text);
  }

  /** A topic of the page, with the functions of the page that it includes. */
  topic(name: string): string {
    return this.at(`migrations/fixtures/topics/${name}.sql`).replace(
      /^--!include (.+)$/gm,
      (_, path: string) => this.at(`migrations/fixtures/${path}`),
    );
  }
}

/**
 * Asserts that new objects follow the rules: those of the catalogue, those of `gw lint` and
 * those of `gw prove`. They are created in a transaction that is rolled back.
 *
 * @param statements what creates them, as the owner of the schemas
 * @param objects the names of the relations that `gw prove` must have tried
 */
export async function expectSound(
  db: TestDatabase,
  statements: string,
  objects: string[],
): Promise<void> {
  await rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local search_path = pg_catalog`;
    const before = await runChecks(sql);
    await sql`set local role gw_owner`;
    await sql.unsafe(statements);
    await sql`set local role none`;
    for (const [name, rule] of Object.entries(rules)) expect(await rule(sql), name).toEqual([]);
    expect(await runChecks(sql)).toEqual(before);
    const names = new RegExp(`^(${objects.join('|').replaceAll('.', '[.]')})$`);
    const report = await proveInTransaction(sql, proveOptions({ objects: names }));
    expect(report.findings.filter(({ mark }) => mark !== 'declared')).toEqual([]);
    expect([...report.objects.keys()]).toEqual(expect.arrayContaining(objects));
  });
}
