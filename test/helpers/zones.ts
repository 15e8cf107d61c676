/**
 * Time zones as Node's ICU knows them: a source of truth that shares neither code nor data
 * with PostgreSQL. Instants are milliseconds since 1970; a local time is written as the
 * instant at which a clock in UTC shows it.
 */

export const hour = 3_600_000;
export const day = 24 * hour;

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known) return known;
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
  });
  formats.set(zone, format);
  return format;
}

/** Whether Node has the zone. */
export function isKnown(zone: string): boolean {
  try {
    return formatOf(zone) !== undefined;
  } catch {
    return false;
  }
}

/** How far clocks in a zone are ahead of UTC at an instant of whole seconds. */
export function offsetAt(zone: string, instant: number): number {
  // 12/31/1969, 16:00:00
  const [month, date, year, hours, minutes, seconds] = formatOf(zone)
    .format(instant)
    .split(/\D+/)
    .map(Number) as [number, number, number, number, number, number];
  return Date.UTC(year, month - 1, date, hours, minutes, seconds) - instant;
}

/** The hours around a local time within which its instant, in any zone, must lie. */
export const hoursAround = (local: number): number[] =>
  Array.from({ length: 61 }, (_, index) => local + (index - 30) * hour);

/**
 * The instant of a local time by TC39 Temporal's "compatible": the earlier of two, and in a
 * gap what the offset before it makes of it.
 */
export function compatibleInstant(zone: string, local: number): number {
  const probes = hoursAround(local).map((at) => ({ at, offset: offsetAt(zone, at) }));
  const instants = [...new Set(probes.map(({ offset }) => local - offset))]
    .filter((instant) => instant + offsetAt(zone, instant) === local)
    .sort((a, b) => a - b);
  const [earliest] = instants;
  if (earliest !== undefined) return earliest;
  const lastBefore = probes.findLast(({ at, offset }) => at + offset < local);
  return local - (lastBefore?.offset ?? Number.NaN);
}

const transitions = new Map<string, number[]>();

/** The instants from 1970 to 2037 at which a zone's offset changes, to the second. */
export function transitionsOf(zone: string): number[] {
  const known = transitions.get(zone);
  if (known) return known;
  const found: number[] = [];
  const end = Date.UTC(2037, 11, 31);
  let before = offsetAt(zone, 0);
  for (let at = 30 * day; at < end; at += 30 * day) {
    const after = offsetAt(zone, at);
    if (after !== before) {
      let [low, high] = [at - 30 * day, at];
      while (high - low > 1000) {
        const middle = Math.floor((low + high) / 2000) * 1000;
        if (offsetAt(zone, middle) === before) low = middle;
        else high = middle;
      }
      found.push(high);
    }
    before = after;
  }
  transitions.set(zone, found);
  return found;
}
