import type { Sql, Transaction } from '../postgres/connect.ts';
import { type Column, formatTable } from '../terminal/table.ts';

export interface Template {
  message_type: string;
  locale: string;
  /** The version in force; null when there is only a draft. */
  version: number | null;
  trial: string | null;
  latest: number;
  /** The next release that waits, as a sentence. */
  next: string | null;
  /** Users whose locale takes this text. */
  users: number;
}

/** Each template, and each language that users have and no template. */
export const listTemplates = async (sql: Sql, type: string | null): Promise<Template[]> => [
  ...(await sql<Template[]>`
    select message_type, locale, version, trial, latest, next, users::integer
    from ops.template_status()
    where message_type = coalesce(${type}, message_type)
    order by message_type, locale`),
];

const listColumns: Column<Template>[] = [
  { title: 'type', value: (row) => row.message_type },
  { title: 'locale', value: (row) => row.locale },
  { title: 'version', value: (row) => String(row.version ?? 'none'), isNumber: true },
  { title: 'latest', value: (row) => String(row.latest), isNumber: true },
  { title: 'users', value: (row) => String(row.users), isNumber: true },
  { title: 'trial', value: (row) => row.trial ?? '' },
  { title: 'next', value: (row) => row.next ?? '', isFlexible: true },
];

export const formatTemplates = (rows: Template[]): string => formatTable(rows, listColumns);

export interface Version {
  version: number;
  subject: string;
  body: string;
  html: string | null;
  made_at: Date;
  made_by: string;
}

/** Versions of a template, the newest first. */
export const versionsOf = async (sql: Sql, type: string, locale: string): Promise<Version[]> => [
  ...(await sql<Version[]>`
    select version, subject, body, html, made_at, made_by
    from app_private.template_versions
    where message_type = ${type} and locale = ${locale}
    order by version desc`),
];

/** The version in force, and the one that was before it. */
export async function inForce(
  sql: Sql,
  type: string,
  locale: string,
): Promise<{ version: number; previous_version: number | null } | undefined> {
  const [row] = await sql<{ version: number; previous_version: number | null }[]>`
    select version, previous_version from app_private.message_templates
    where message_type = ${type} and locale = ${locale}`;
  return row;
}

/** Two texts, line by line: what only the first has, and what only the second. */
export function formatDiff(one: Version, other: Version): string {
  const lines = ({ subject, body, html }: Version): string[] => [
    `Subject: ${subject}`,
    ...body.split('\n'),
    ...(html === null ? [] : ['HTML:', ...html.split('\n')]),
  ];
  const [before, after] = [lines(one), lines(other)];
  // The longest common subsequence, by the table of its lengths; a text has 4,000 letters.
  const lengths = Array.from({ length: before.length + 1 }, () =>
    new Array<number>(after.length + 1).fill(0),
  );
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      const row = lengths[i] ?? [];
      const below = lengths[i + 1] ?? [];
      row[j] =
        before[i] === after[j] ? (below[j + 1] ?? 0) + 1 : Math.max(below[j] ?? 0, row[j + 1] ?? 0);
    }
  }
  const out = [`--- version ${one.version}`, `+++ version ${other.version}`];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && before[i] === after[j]) {
      out.push(` ${before[i]}`);
      i += 1;
      j += 1;
    } else if (
      j < after.length &&
      (i === before.length || (lengths[i]?.[j + 1] ?? 0) > (lengths[i + 1]?.[j] ?? 0))
    ) {
      out.push(`+${after[j]}`);
      j += 1;
    } else {
      out.push(`-${before[i]}`);
      i += 1;
    }
  }
  return `${out.join('\n')}\n`;
}

export interface Preview {
  subject: string;
  body: string;
  /** What mail shows, without its layout; null: the text. */
  html: string | null;
  locale: string;
  version: number;
  layout: string | null;
}

/** What a user would read; nothing is stored. @param payload of an event */
export async function preview(
  sql: Sql | Transaction,
  type: string,
  userId: string,
  payload: unknown,
): Promise<Preview> {
  const [row] = await sql<Preview[]>`
    select subject, body, preview.html, locale, version, message_layouts.html as layout
    from ops.preview_template(${type}, ${userId}, ${sql.json(payload as never)}) as preview
    left join app_private.message_layouts on message_layouts.id = preview.layout_id`;
  return row as Preview;
}

/** The text of a template, made of its HTML: names stay, links follow what they stand on. */
export async function textOf(html: string): Promise<string> {
  const { convert } = await import('html-to-text');
  // A name in a link stays one.
  const marked = html.replace(/\shref="[^"]*"/gi, (link) => link.replace(/\{\{\s*/g, '{{%'));
  const text = convert(marked, {
    wordwrap: false,
    selectors: [
      { selector: 'img', format: 'skip' },
      { selector: 'a', options: { linkBrackets: ['<', '>'], hideLinkHrefIfSameAsText: true } },
      ...['h1', 'h2', 'h3', 'h4'].map((selector) => ({ selector, options: { uppercase: false } })),
    ],
  });
  return text.trim();
}

/** Makes a layout, which new versions of templates take. @returns its number */
export async function makeLayout(sql: Sql, name: string, html: string): Promise<number> {
  const [row] = await sql<{ id: number }[]>`
    insert into app_private.message_layouts (name, html) values (${name}, ${html})
    returning id`;
  return row?.id ?? 0;
}

/** Makes a version that is not in force. @returns its number */
export async function draft(
  sql: Sql | Transaction,
  type: string,
  locale: string,
  text: { subject: string; body: string; html?: string | undefined; layout: string },
): Promise<number> {
  const [row] = await sql<{ version: number }[]>`
    select ops.draft_template(${type}, ${locale}, ${text.subject}, ${text.body},
      ${text.html ?? null}, ${text.layout}) as version`;
  return row?.version ?? 0;
}

export interface Publication {
  type: string;
  locale: string;
  version: number;
  percent: number;
}

const publishNow = (sql: Sql | Transaction, { type, locale, version, percent }: Publication) =>
  sql`select ops.publish_template(${type}, ${locale}, ${version}, ${percent})`;

/** Has the planner publish it later. */
export const publishLater = (sql: Sql, { type, locale, version, percent }: Publication, at: Date) =>
  sql`select ops.publish_template(${type}, ${locale}, ${version}, ${percent}, ${at})`;

async function rerenderFrom(
  sql: Sql | Transaction,
  type: string,
  after: string,
): Promise<{ last_id: string | null; changed: number }> {
  const [row] = await sql<{ last_id: string | null; changed: number }[]>`
    select last_id, changed from app_private.rerender_messages(${type}, ${after}, 2000)`;
  return row ?? { last_id: null, changed: 0 };
}

const first = '00000000-0000-0000-0000-000000000000';

/**
 * Publishes a version, and writes it into what is planned, some thousand users at a time.
 *
 * @returns how many messages changed
 */
export async function publish(
  sql: Sql,
  wanted: Publication,
  progress: (messages: number) => void,
): Promise<number> {
  await publishNow(sql, wanted);
  let changed = 0;
  for (let after: string | null = first; after !== null; ) {
    const chunk = await rerenderFrom(sql, wanted.type, after);
    changed += chunk.changed;
    after = chunk.last_id;
    progress(changed);
  }
  // The planner need not do it again.
  await sql`
    update app_private.message_types set rerender_after = null where type = ${wanted.type}`;
  return changed;
}

/** What publishing would change, in a transaction that the caller takes back. */
export async function tryPublishing(sql: Transaction, wanted: Publication): Promise<number> {
  await publishNow(sql, wanted);
  let changed = 0;
  for (let after: string | null = first; after !== null; ) {
    const chunk = await rerenderFrom(sql, wanted.type, after);
    changed += chunk.changed;
    after = chunk.last_id;
  }
  return changed;
}
