/**
 * Text that a regular expression matches: the part of the language that constraints are
 * written in (literals, classes, groups, alternatives, quantifiers, anchors). What it makes
 * is tried afterwards, so that a construct it does not know costs a candidate, no more.
 *
 * @param filler letters and digits that stand wherever the pattern lets them
 */
export function sample(pattern: string, filler: string): string {
  const source = pattern.replace(/^\(\?[a-z]*\)/, '');
  let at = 0;
  let used = 0;

  function fromClass(accepts: (letter: string) => boolean): string {
    for (let turn = 0; turn < filler.length; turn += 1) {
      const letter = filler[(used + turn) % filler.length] ?? '';
      if (!accepts(letter)) continue;
      used += turn + 1;
      return letter;
    }
    const others = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_./:@+ #%$';
    return [...others].find(accepts) ?? '';
  }

  function escaped(): () => string {
    const letter = source[at++] ?? '';
    const classes: Record<string, RegExp> = {
      d: /\d/,
      w: /\w/,
      s: /\s/,
      D: /\D/,
      W: /\W/,
      S: /\S/,
    };
    const known = classes[letter];
    if (known) return () => fromClass((candidate) => known.test(candidate));
    if ('mMyAZbB'.includes(letter)) return () => '';
    return () => letter;
  }

  function bracket(): () => string {
    const start = at;
    if (source[at] === '^') at += 1;
    if (source[at] === ']') at += 1;
    while (at < source.length && source[at] !== ']') {
      if (source.startsWith('[:', at)) at = source.indexOf(':]', at) + 1;
      at += source[at] === '\\' ? 2 : 1;
    }
    const body = source
      .slice(start, at++)
      .replaceAll('[:alnum:]', 'a-zA-Z0-9')
      .replaceAll('[:alpha:]', 'a-zA-Z')
      .replaceAll('[:digit:]', '0-9')
      .replaceAll('[:lower:]', 'a-z')
      .replaceAll('[:upper:]', 'A-Z')
      .replaceAll('[:space:]', '\\s')
      .replaceAll('[:cntrl:]', '\\x00-\\x1f')
      .replaceAll('[:punct:]', '!-/:-@')
      .replaceAll('[', '\\[');
    const matcher = new RegExp(`^[${body}]$`);
    return () => fromClass((letter) => matcher.test(letter));
  }

  function group(): () => string {
    if (source.startsWith('?', at)) {
      const ahead = /^\?(:|<?[=!])/.exec(source.slice(at))?.[0] ?? '?';
      at += ahead.length;
      const inside = alternatives();
      at += 1;
      return ahead === '?:' ? inside : () => '';
    }
    const inside = alternatives();
    at += 1;
    return inside;
  }

  function atom(): () => string {
    const letter = source[at++] ?? '';
    if (letter === '\\') return escaped();
    if (letter === '[') return bracket();
    if (letter === '(') return group();
    if (letter === '.') return () => fromClass(() => true);
    if (letter === '^' || letter === '$') return () => '';
    return () => letter;
  }

  function repeated(make: () => string): () => string {
    const found = /^(?:([*+?])|\{(\d+)(,(\d*))?\})\??/.exec(source.slice(at));
    if (found === null) return make;
    at += found[0].length;
    const [, sign, least, , most] = found;
    const min = sign === undefined ? Number(least) : sign === '+' ? 1 : 0;
    const max =
      sign === '?' ? 1 : sign !== undefined || most === '' ? Infinity : Number(most ?? least);
    const times = Math.min(Math.max(min, Math.min(filler.length, max)), max);
    return () => Array.from({ length: times }, make).join('');
  }

  function alternatives(): () => string {
    const choices: (() => string)[] = [];
    let parts: (() => string)[] = [];
    while (at < source.length && source[at] !== ')') {
      if (source[at] === '|') {
        at += 1;
        const finished = parts;
        choices.push(() => finished.map((make) => make()).join(''));
        parts = [];
      } else {
        parts.push(repeated(atom()));
      }
    }
    choices.push(() => parts.map((make) => make()).join(''));
    return choices[0] ?? (() => '');
  }
  return alternatives()();
}
