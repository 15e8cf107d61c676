import { randomUUID } from 'node:crypto';

const uuidText = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * Replaces A's marks by words that mean nothing to the database, the same way each time: what
 * is answered to the disguised arguments must be the disguised answer.
 */
export class Disguise {
  readonly #words = new Map<string, string>();
  readonly #pattern: RegExp;

  constructor(marks: Set<string>) {
    for (const mark of marks) {
      this.#words.set(mark, uuidText.test(mark) ? randomUUID() : scramble(mark));
    }
    const escaped = [...marks]
      .sort((one, other) => other.length - one.length)
      .map((mark) => mark.replace(/[^A-Za-z0-9]/g, '\\$&'));
    this.#pattern = new RegExp(escaped.join('|'), 'g');
  }

  apply(text: string): string {
    return text.replace(this.#pattern, (mark) => this.#words.get(mark) ?? mark);
  }

  /** A node id of the API is base64 of JSON. */
  applyToId(text: string): string {
    const inside = Buffer.from(text, 'base64').toString();
    if (!inside.startsWith('[')) return this.apply(text);
    return Buffer.from(this.apply(inside)).toString('base64');
  }
}

/**
 * Other letters after the same first three. Digits stay where there are letters: some texts,
 * such as a time zone in POSIX's form, are valid or not by their numbers.
 */
function scramble(word: string): string {
  const pick = (letters: string): string =>
    letters[Math.floor(Math.random() * letters.length)] ?? '';
  const hasLetters = /[a-z]/.test(word.slice(3));
  return word.replace(/[a-z0-9]/g, (letter, at: number) => {
    if (at < 3) return letter;
    if (/[a-z]/.test(letter)) return pick('abcdef');
    return hasLetters ? letter : pick('0123456789');
  });
}
