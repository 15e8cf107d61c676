import { codeOf, GwError, messageOf } from '../errors.ts';

/** Another transaction stands in the way; the same again may work at once. */
export const isLockConflict = (error: unknown): boolean =>
  ['55P03', '40P01', '40001'].includes(codeOf(error) ?? '');

const systemCodes = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENOTFOUND'],
  'EAI_AGAIN',
]);

/**
 * Whether the slot's log is gone although its status does not say so: a file that somebody
 * removed, or that a checkpoint took while the slot was being made. In English, as servers
 * say it that have no other lc_messages.
 */
export const isLogGone = (error: unknown): boolean =>
  ['58P01', 'XX000'].includes(codeOf(error) ?? '') &&
  /WAL segment \w+ has already been removed/.test(messageOf(error));

/**
 * Whether to connect again and go on from what is stored. Connections and servers go away
 * and come back; a slot may still be held by a connection that died, or have lost its log,
 * which the next look at it says.
 */
export function isTransient(error: unknown): boolean {
  if (error instanceof GwError) return false;
  const code = codeOf(error) ?? '';
  return (
    systemCodes.has(code) ||
    isLockConflict(error) ||
    // Connection; resources; operator intervention; object in use or not as it was; a log
    // file that is gone; a transaction that the server ended; a standby that is not promoted yet;
    // ours: somebody else was here.
    /^(08|53|57)/.test(code) ||
    ['25006', '55000', '55006', '58P01', '25P02', '25P03', 'GW060', 'GW070'].includes(code) ||
    (code === '' && /Connection terminated|not queryable|timeout expired/.test(messageOf(error)))
  );
}
