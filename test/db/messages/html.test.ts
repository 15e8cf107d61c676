import fc from 'fast-check';
import { type DefaultTreeAdapterTypes, parseFragment } from 'parse5';
import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import { rolledBack, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();

type Node = DefaultTreeAdapterTypes.Node;

/** What a template's HTML becomes with values. */
async function render(sql: Sql | Transaction, html: string, values: Record<string, string>) {
  const [row] = await sql<{ html: string }[]>`
    select app_hidden.render_template(app_hidden.compile_html(${html}),
      app_hidden.html_values(${sql.json(values)})) as html`;
  return row?.html ?? '';
}

/** The elements and attributes' names of HTML, as a browser reads it. */
function shapeOf(html: string): string {
  const shape = (node: Node): string => {
    const inner = 'childNodes' in node ? node.childNodes.map(shape).join('') : '';
    if (!('attrs' in node)) return inner;
    return `<${node.nodeName} ${node.attrs.map(({ name }) => name).join(' ')}>${inner}</>`;
  };
  return shape(parseFragment(html));
}

/** The only element of a name, and its text. */
function find(html: string, name: string) {
  const all = (node: Node): Node[] => [
    node,
    ...('childNodes' in node ? node.childNodes.flatMap(all) : []),
  ];
  const found = all(parseFragment(html)).filter((node) => node.nodeName === name);
  expect(found).toHaveLength(1);
  const [element] = found as DefaultTreeAdapterTypes.Element[];
  const text = (element?.childNodes ?? [])
    .map((node) => ('value' in node ? node.value : ''))
    .join('');
  return {
    text,
    attributes: Object.fromEntries(element?.attrs.map(({ name, value }) => [name, value]) ?? []),
  };
}

describe('a value', () => {
  const template =
    '<p title="for {{name}}">Dear {{name}},</p>' +
    '<a href="https://app.example.com/{{name}}?q={{ name }}&amp;x=1">open</a>';

  test('stays a value wherever it stands, whatever it is', async () => {
    const shape = shapeOf(template);
    await fc.assert(
      fc.asyncProperty(
        fc
          .oneof(
            fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }),
            fc.constantFrom(
              '"><script>alert(1)</script>',
              `' onmouseover='x' a="`,
              'javascript:alert(1)',
              '{{name}} &lt; & < \\1 $&',
              '../../x?y=z#w',
              'a b+c%20',
            ),
          )
          // A browser reads these as other letters, and a name has none.
          .filter((text) => !/\p{Cc}/u.test(text) && text.trim() === text && text !== ''),
        async (name) => {
          const html = await render(db.as('owner'), template, { name });
          expect(shapeOf(html)).toBe(shape);
          const paragraph = find(html, 'p');
          expect(paragraph.text).toBe(`Dear ${name},`);
          expect(paragraph.attributes.title).toBe(`for ${name}`);
          const url = new URL(find(html, 'a').attributes.href ?? '');
          expect(url.origin).toBe('https://app.example.com');
          expect(url.searchParams.get('q')).toBe(name);
          expect(url.searchParams.get('x')).toBe('1');
          if (!/^\.{1,2}$/.test(name)) expect(decodeURIComponent(url.pathname.slice(1))).toBe(name);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('of a payload is not taken for one that is encoded already', async () => {
    const html = '<a href="https://x.example/{{place|none}}">x</a>';
    expect(await render(db.as('owner'), html, { '%place': '../?a=b' })).toBe(
      '<a href="https://x.example/none">x</a>',
    );
  });

  test('that is missing leaves its section out, or its default', async () => {
    const html =
      '<p>{{#age}}<b>{{age}}</b> years{{/age}}</p><a href="https://x.example/?n={{nick|friend}}">x</a>';
    expect(await render(db.as('owner'), html, {})).toBe(
      '<p></p><a href="https://x.example/?n=friend">x</a>',
    );
    expect(await render(db.as('owner'), html, { age: '40', nick: 'é' })).toBe(
      '<p><b>40</b> years</p><a href="https://x.example/?n=%C3%A9">x</a>',
    );
  });
});

test.each([
  ['a script', '<script>x</script>', 'no such element'],
  ['a style sheet', '<style>p { color: red }</style>', 'no such element'],
  ['a frame', '<iframe src="https://x.example/"></iframe>', 'no such element'],
  ['a form', '<form action="https://x.example/"></form>', 'no such element'],
  ['an event', '<p onclick="x()">x</p>', 'no such attribute'],
  ['a comment', '<!-- {{first_name}} -->', 'tags are'],
  ['a lone <', 'a < b', 'tags are'],
  ['a tag that does not end', '<p', 'tags are'],
  ['single quotes', "<p title='x'>x</p>", 'tags are'],
  ['no quotes', '<p title={{first_name}}>x</p>', 'tags are'],
  ['a name as an attribute', '<p {{first_name}}>x</p>', 'tags are'],
  ['a name as an element', '<{{first_name}}>', 'tags are'],
  ['another scheme', '<a href="javascript:x">x</a>', 'a link begins with https://'],
  ['a link of the value', '<a href="{{first_name}}">x</a>', 'a link begins with https://'],
  ['a host of the value', '<a href="https://{{first_name}}/">x</a>', 'a link begins'],
  ['an end of the host', '<a href="https://example.com{{first_name}}">x</a>', 'a link begins'],
  ['a port of the value', '<a href="https://example.com:{{first_name}}/">x</a>', 'a link begins'],
  ['plain http', '<a href="http://example.com/">x</a>', 'a link begins with https://'],
  ['an address of the value', '<a href="mailto:{{first_name}}">x</a>', 'a link begins'],
  ['an image inline', '<img src="data:image/png;base64,x">', 'an image begins with https://'],
  ['a style of the value', '<p style="color: {{first_name}}">x</p>', 'a style has neither'],
  ['a style with a URL', '<p style="background: url(https://x.example)">x</p>', 'a style has'],
  ['a section in a tag', '<p title="{{#age}}x{{/age}}">x</p>', 'a section stands between tags'],
  ['a default that is no word', '<a href="https://x.example/{{age|a&b}}">x</a>', 'a default in'],
])('a template with %s is refused, and says where', async (_what, html, problem) => {
  await rolledBack(db.as('owner'), async (sql) => {
    const refusal = await sql
      .savepoint(
        (inner) => inner`
          update app_private.message_templates set html = ${html}
          where message_type = 'BIRTHDAY' and locale = 'en'`,
      )
      .catch((error: { code: string; message: string }) => error);
    expect(refusal).toMatchObject({ code: '23514', message: expect.stringContaining(problem) });
    expect((refusal as { message: string }).message).toMatch(/^</);
  });
});

test.each([
  ['a script', (html: string) => html.replace('</body>', '<script src="x"></script></body>')],
  ['no content', (html: string) => html.replace('{{content}}', '')],
  ['two footers', (html: string) => html.replace('{{footer}}', '{{footer}}{{footer}}')],
  ['a name of a user', (html: string) => html.replace('{{content}}', '{{content}}{{first_name}}')],
  ['an event', (html: string) => html.replace('<body>', '<body onload="x()">')],
  [
    'a redirection',
    (html: string) => html.replace('<title>', '<meta http-equiv="refresh" content="0"><title>'),
  ],
  ['another title', (html: string) => html.replace('<title>', '<title>News: ')],
])('a layout with %s is refused', async (_what, change) => {
  await rolledBack(db.as('owner'), async (sql) => {
    const [kept] = await sql<{ html: string }[]>`
      select html from app_private.message_layouts where name = 'standard'`;
    const insert = (html: string) =>
      sql.savepoint(
        (inner) => inner`
        insert into app_private.message_layouts (name, html) values ('other', ${html})`,
      );
    await insert(kept?.html ?? '');
    await expect(insert(change(kept?.html ?? ''))).rejects.toMatchObject({
      constraint_name: 'message_layouts_html_check',
    });
  });
});
