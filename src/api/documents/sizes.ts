const [openers, closers] = ['{[(', '}])'].map(
  (signs) => new Set([...signs].map((sign) => sign.charCodeAt(0))),
) as [Set<number>, Set<number>];
const [hash, quote, backslash, newline, carriageReturn] = [...'#"\\\n\r'].map((sign) =>
  sign.charCodeAt(0),
);

/**
 * How deeply the brackets of a GraphQL document nest; those in strings and comments are none. It
 * looks at each character once and needs no stack: parsing, which comes after, does need one.
 */
export function nestingOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  const { length } = text;
  for (let at = 0; at < length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === hash) at = endOfComment(text, at);
    else if (code === quote) at = endOfString(text, at);
    else if (openers.has(code)) {
      depth += 1;
      if (depth > deepest) deepest = depth;
    } else if (closers.has(code)) depth -= 1;
  }
  return deepest;
}

function endOfComment(text: string, start: number): number {
  let at = start;
  while (
    at < text.length &&
    text.charCodeAt(at) !== newline &&
    text.charCodeAt(at) !== carriageReturn
  )
    at += 1;
  return at;
}

/** The place of the last quote of the string that begins at a place; the text's end without one. */
function endOfString(text: string, start: number): number {
  if (text.startsWith('"""', start)) {
    let end = text.indexOf('"""', start + 3);
    while (end > 0 && text[end - 1] === '\\') end = text.indexOf('"""', end + 3);
    return end < 0 ? text.length : end + 2;
  }
  for (let at = start + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === backslash) at += 1;
    else if (code === quote || code === newline || code === carriageReturn) return at;
  }
  return text.length;
}

export interface ValueLimits {
  depth: number;
  /** Values of which it is made, itself included. */
  count: number;
  /** Characters of each text in it. */
  length: number;
}

export interface PassedLimit {
  /** Null characters, which PostgreSQL cannot hold, have a limit of none. */
  limit: keyof ValueLimits | 'nulls';
  /** The name under which the text stands, or the list that it is in. */
  field?: string | undefined;
}

/** Which limit a value of JSON passes, if one; it stops when it knows. */
export function passedLimit(value: unknown, limits: ValueLimits): PassedLimit | undefined {
  let count = 0;
  let level: [value: unknown, field: string | undefined][] = [[value, undefined]];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > limits.depth) return { limit: 'depth' };
    count += level.length;
    if (count > limits.count) return { limit: 'count' };
    const next: typeof level = [];
    for (const [one, field] of level) {
      if (typeof one === 'string' && one.length > limits.length) return { limit: 'length', field };
      if (typeof one === 'string' && one.includes('\0')) return { limit: 'nulls', field };
      if (typeof one !== 'object' || one === null) continue;
      for (const [key, inner] of Object.entries(one)) {
        if (key.includes('\0')) return { limit: 'nulls', field };
        next.push([inner, Array.isArray(one) ? field : key]);
      }
    }
    level = next;
  }
  return undefined;
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
