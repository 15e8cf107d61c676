const brackets: Record<string, number> = { '{': 1, '[': 1, '(': 1, '}': -1, ']': -1, ')': -1 };

/**
 * How deeply the brackets of a GraphQL document nest; those in strings and comments are none. It
 * looks at each character once and needs no stack: parsing, which comes after, does need one.
 */
export function nestingOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  const { length } = text;
  for (let at = 0; at < length; at += 1) {
    const character = text[at] ?? '';
    if (character === '#') {
      while (at < length && text[at] !== '\n' && text[at] !== '\r') at += 1;
    } else if (character === '"') {
      at = endOfString(text, at);
    } else {
      depth += brackets[character] ?? 0;
      if (depth > deepest) deepest = depth;
    }
  }
  return deepest;
}

/** The place of the last quote of the string that begins at a place; the text's end without one. */
function endOfString(text: string, start: number): number {
  if (text.startsWith('"""', start)) {
    let end = text.indexOf('"""', start + 3);
    while (end > 0 && text[end - 1] === '\\') end = text.indexOf('"""', end + 3);
    return end < 0 ? text.length : end + 2;
  }
  for (let at = start + 1; at < text.length; at += 1) {
    const character = text[at];
    if (character === '\\') at += 1;
    else if (character === '"' || character === '\n' || character === '\r') return at;
  }
  return text.length;
}

/** How deeply a value of JSON nests, and of how many values it is made. */
export function measureValue(value: unknown): { depth: number; count: number } {
  let count = 0;
  let depth = 0;
  let level = [value];
  while (level.length > 0) {
    count += level.length;
    const next: unknown[] = [];
    for (const one of level) {
      if (typeof one !== 'object' || one === null) continue;
      for (const inner of Object.values(one)) next.push(inner);
    }
    level = next;
    if (level.length > 0) depth += 1;
  }
  return { depth, count };
}

/** Whether a value takes more characters than that as JSON; it stops when it knows. */
export function isLongerThan(value: unknown, most: number): boolean {
  let length = 0;
  const open: unknown[] = [value];
  while (open.length > 0) {
    const one = open.pop();
    if (typeof one === 'string') length += one.length + 3;
    else if (typeof one !== 'object' || one === null) length += 6;
    else if (Array.isArray(one)) for (const inner of one) open.push(inner);
    else {
      for (const key in one) {
        length += key.length + 4;
        open.push((one as Record<string, unknown>)[key]);
      }
    }
    if (length > most) return true;
  }
  return false;
}
