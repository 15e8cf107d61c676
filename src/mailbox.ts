/** Whom mail is from, or to. */
export interface Mailbox {
  name: string;
  address: string;
}

/** Whether an address can stand in a header, and in SMTP's commands, as it is. */
export const isAddress = (text: string): boolean =>
  /^[^\s\p{Cc}@<>()[\]\\,;:"]+@[^\s\p{Cc}@<>()[\]\\,;:"]+$/u.test(text);

/** Reads `address` or `name <address>`; undefined when it is neither. */
export function readMailbox(text: string): Mailbox | undefined {
  const match = /^(?:([^<>"\p{Cc}]*?) *<([^<>]+)>|([^<>]+))$/u.exec(text.trim());
  const address = match?.[2] ?? match?.[3] ?? '';
  return isAddress(address) ? { name: match?.[1] ?? '', address } : undefined;
}
