import { createHash } from 'node:crypto';
import { setTimeout as later } from 'node:timers/promises';
import { type Answer, type Delivery, reset, type Vendor } from './vendor.ts';

const faults = ['500', '429', 'reset', 'stalled'] as const;
type Fault = (typeof faults)[number];

/** How many of 256 first attempts meet each fault. */
const weights: Record<Fault, number> = {
  '500': 16,
  '429': 12,
  reset: 16,
  stalled: 2,
};

/** After so many, a key is always accepted: the test must end. */
const faultsOfAKey = 3;

/** What a call meets: the same for a seed, a name and an attempt, in whatever order they come. */
function faultOf(seed: number, name: string, attempt: number): Fault | undefined {
  if (attempt > faultsOfAKey) return undefined;
  let byte = createHash('sha256').update(`${seed}:${name}:${attempt}`).digest().readUInt8();
  return faults.find((fault) => {
    byte -= weights[fault];
    return byte < 0;
  });
}

/**
 * Makes a vendor fail at random: it answers 500, or 429 with Retry-After, breaks the
 * connection, or says nothing for 30 seconds.
 *
 * @returns how often it did what
 */
export function makeUnreliable(vendor: Vendor, seed: number): Record<Fault | 'ok', number> {
  const met = { ok: 0, '500': 0, '429': 0, reset: 0, stalled: 0 };
  const attempts = new Map<string, number>();

  async function answer({ key, body }: Delivery): Promise<Answer> {
    const attempt = (attempts.get(key) ?? 0) + 1;
    attempts.set(key, attempt);
    const fault = faultOf(seed, body.to.name, attempt);
    met[fault ?? 'ok'] += 1;
    switch (fault) {
      case '500':
        return { status: 500 };
      case '429':
        return { status: 429, headers: { 'retry-after': '1' } };
      case 'reset':
        return reset;
      case 'stalled':
        await later(30_000, undefined, { ref: false });
        return { status: 200 };
      default:
        await later(20);
        return { status: 200 };
    }
  }
  vendor.answer = answer;
  return met;
}
