import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';

/*
 * A seal says what the end of the audit log was at a moment. It is made with a key that the
 * database does not have, and kept where the database's owner cannot write. Whoever rewrites the
 * log cannot make the seal that would go with it.
 */

const sealShape = z.object({
  database: z.string(),
  /** The newest row of ops.audit_log. */
  id: z.coerce.bigint().positive(),
  /** Its hash in hexadecimal, which stands for all rows before it. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  sealedAt: z.iso.datetime(),
  /** HMAC-SHA-256 of the others. */
  mac: z.string().regex(/^[0-9a-f]{64}$/),
});

export type Seal = z.infer<typeof sealShape>;
export type Head = Omit<Seal, 'mac'>;

function macOf(key: string, { database, id, hash, sealedAt }: Head): Buffer {
  const text = JSON.stringify([database, String(id), hash, sealedAt]);
  return createHmac('sha256', key).update(text).digest();
}

export const makeSeal = (key: string, head: Head): Seal => ({
  ...head,
  mac: macOf(key, head).toString('hex'),
});

/** Whether a seal was made with this key, and is as it was made. */
export const isGenuine = (key: string, seal: Seal): boolean =>
  timingSafeEqual(macOf(key, seal), Buffer.from(seal.mac, 'hex'));

/** One line, as a file or a webhook gets it. */
export const formatSeal = (seal: Seal): string => JSON.stringify({ ...seal, id: String(seal.id) });

/**
 * Reads what formatSeal() wrote, one a line. Empty lines do not count.
 *
 * @returns the number of the line instead of a seal where it is none
 */
export function parseSeals(text: string): (Seal | number)[] {
  return text.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return [];
    try {
      const parsed = sealShape.safeParse(JSON.parse(line));
      return [parsed.success ? parsed.data : index + 1];
    } catch {
      return [index + 1];
    }
  });
}
