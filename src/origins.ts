/** Whether pages of an origin may read what the API answers. */
export type Origins = (origin: string) => boolean;

/** scheme://host:port, where the host may begin with one label that is any. */
const form = /^(https?):\/\/(\*\.)?([^/?#@\s*]+)$/i;

/** One origin as browsers send it: in small letters, without the scheme's own port. */
function readOrigin(text: string): Origins {
  const [, scheme = '', anyLabel, rest = ''] = form.exec(text) ?? [];
  if (rest === '' || !URL.canParse(`${scheme}://${rest}`)) throw new TypeError(text);
  const { origin } = new URL(`${scheme}://${rest}`);
  if (anyLabel === undefined) return (asked) => asked === origin;
  const [before, host = ''] = origin.split('//');
  const start = `${before}//`;
  return (asked) =>
    asked.startsWith(start) &&
    asked.endsWith(`.${host}`) &&
    /^[a-z0-9_-]+$/.test(asked.slice(start.length, -host.length - 1));
}

/**
 * Reads a list of origins with commas between: https://app.example.com, https://*.example.com,
 * where the star stands for one label, or * alone for every origin.
 *
 * @throws TypeError for anything else
 */
export function readOrigins(text: string): Origins {
  const parts = text.split(/[\s,]+/).filter((part) => part !== '');
  if (parts.length === 0) throw new TypeError(text);
  const origins = parts.map((part) => (part === '*' ? () => true : readOrigin(part)));
  return (asked) => origins.some((matches) => matches(asked));
}
