import { escapeHtml } from '../../html.ts';
import { languageAttributes, wordsOf } from '../../messages/words.ts';
import type { Message } from './channel.ts';

/** The layout of a message whose template has no HTML. */
const plain = `<!doctype html>
<html {{language}}><head><meta charset="utf-8"><title>{{subject}}</title></head><body>
{{content}}
{{footer}}
</body></html>
`;

/** A message as an HTML document: its own HTML in its layout, or paragraphs of its text. */
export function documentOf(message: Message): string {
  const { message_html: html, unsubscribe_url: link } = message;
  const words = wordsOf(message.locale);
  const parts: Record<string, string> = {
    language: languageAttributes(message.locale),
    subject: escapeHtml(message.message_subject),
    content: html ?? paragraphsOf(message.message_content),
    // The text may be in a language that the footer is not in.
    footer:
      link === undefined
        ? ''
        : `<hr>\n<p lang="${words.locale}" dir="ltr"><a href="${escapeHtml(link)}">` +
          `${escapeHtml(words.unsubscribe)}</a></p>`,
  };
  const layout = html == null ? plain : (message.layout ?? plain);
  return layout.replace(
    /\{\{(language|subject|content|footer)\}\}/g,
    (_, name: string) => parts[name] ?? '',
  );
}

const paragraphsOf = (text: string): string =>
  escapeHtml(text)
    .split(/(?:\r?\n){2,}/)
    .map((paragraph) => `<p>${paragraph.replace(/\r?\n/g, '<br>\n')}</p>`)
    .join('\n');
