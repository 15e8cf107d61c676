/** One statement of a text: where it begins and ends, in characters from 0. */
export interface Statement {
  start: number;
  end: number;
}

/**
 * What may hold a semicolon that ends no statement, and what may open or close a body: comments,
 * strings, quoted names, dollar quotes, words.
 */
const token =
  /--[^\n]*|\/\*|\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"[^"]*"|(\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$)|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*|[();]/gs;

/** Where a comment ends that began at a place; such comments nest. */
function endOfComment(text: string, from: number): number {
  const mark = /\/\*|\*\//g;
  mark.lastIndex = from;
  let depth = 0;
  for (let found = mark.exec(text); found !== null; found = mark.exec(text)) {
    depth += found[0] === '/*' ? 1 : -1;
    if (depth === 0) return mark.lastIndex;
  }
  return text.length;
}

/**
 * Splits SQL into its statements as PostgreSQL does, so that the n-th that ran is the n-th
 * here. Comments before a statement do not belong to it; empty statements are none.
 */
export function splitStatements(text: string): Statement[] {
  const found: Statement[] = [];
  let start: number | undefined;
  let [parentheses, atomic, last, at] = [0, 0, '', 0];
  const close = (end: number): void => {
    if (start !== undefined) found.push({ start, end });
    [start, parentheses, atomic, last] = [undefined, 0, 0, ''];
  };
  /** What stands between two tokens, such as numbers and operators. */
  const skipTo = (index: number): void => {
    const other = text.slice(at, index).search(/\S/);
    if (other !== -1) start ??= at + other;
  };
  token.lastIndex = 0;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    skipTo(match.index);
    const [word, dollars] = match;
    at = token.lastIndex;
    if (word.startsWith('--') || word === '/*') {
      if (word === '/*') at = endOfComment(text, match.index);
    } else if (word === ';') {
      if (parentheses === 0 && atomic === 0) close(match.index);
    } else {
      start ??= match.index;
      if (dollars !== undefined) {
        const end = text.indexOf(dollars, at);
        at = end === -1 ? text.length : end + dollars.length;
      }
      const lower = word.toLowerCase();
      if (word === '(') parentheses += 1;
      if (word === ')') parentheses -= 1;
      // The body of a function in SQL's own form has semicolons: begin atomic … end.
      if (lower === 'atomic' && last === 'begin') atomic = 1;
      else if (atomic > 0 && lower === 'case') atomic += 1;
      else if (atomic > 0 && lower === 'end') atomic -= 1;
      last = lower;
    }
    token.lastIndex = at;
  }
  skipTo(text.length);
  close(text.trimEnd().length);
  return found;
}
