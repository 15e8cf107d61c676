import { createECDH, createPrivateKey, createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { readMailbox } from './mailbox.ts';
import { TlsFault, withTls } from './tls.ts';

export const port = z.coerce.number().int().min(1).max(65535);

/** What is wrong with a connection URL, as the end of a sentence; undefined when nothing is. */
export function postgresUrlFault(text: string): string | undefined {
  const [, hosts] = /^postgres(?:ql)?:\/\/(?:[^/?#]*@)?([^/?#]*)/.exec(text) ?? [];
  if (hosts === undefined) return 'must look like postgres://user@host:port/database';
  if (hosts.includes(',')) return 'names several hosts: give the one of the primary';
  if (!URL.canParse(text)) return 'must look like postgres://user@host:port/database';
  if (!/^([^%]|%[0-9a-f]{2})*$/i.test(text)) {
    return 'has a % that is not followed by two hexadecimal digits: write %25';
  }
  return undefined;
}

export const postgresUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\/[^/]*\/[^/?]+/, 'must look like postgres://user@host:port/database')
  .superRefine((text, context) => {
    const fault = postgresUrlFault(text);
    if (fault !== undefined) context.addIssue(fault);
  })
  .transform((text, context) => {
    if (postgresUrlFault(text) !== undefined) return z.NEVER;
    try {
      return withTls(text);
    } catch (error) {
      if (!(error instanceof TlsFault)) throw error;
      context.addIssue(error.message);
      return z.NEVER;
    }
  });
export const httpUrl = z.url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' });
export const password = z
  .string()
  .min(8)
  .regex(/^[\x20-\x7e]*$/, 'must be of printable ASCII characters');

const receiverUrl = z.url({
  protocol: /^(https?|smtps?)$/,
  hostname: /./,
  error: 'must be an http://, https://, smtp:// or smtps:// URL, or file:',
});
const receiver = receiverUrl
  .refine((text) => !isMail(text) || /^smtps?:\/\/[^/?#]+\/?$/.test(text), {
    error: 'is smtp[s]://user:password@host:port, with nothing after it',
  })
  .refine((text) => /^([^%]|%[0-9a-f]{2})*$/i.test(text), {
    error: 'has a % that is not followed by two hexadecimal digits: write %25',
  });

export const deliveryUrl = z.literal('file:').or(receiver);

/** Names that are channels already. */
const taken = new Set(['http', 'smtp', 'file', 'push', 'email']);

/** Vendors with a name, as ses=smtps://…, with spaces between: no URL has one. */
export const vendors = z
  .string()
  .default('')
  .transform((text, context) => {
    const found = text
      .split(/\s+/)
      .filter((part) => part !== '')
      .map((part) => {
        const [name = '', ...rest] = part.split('=');
        return { name, url: rest.join('=') };
      });
    const names = new Set<string>();
    for (const { name, url } of found) {
      if (!/^[a-z][a-z0-9_-]{0,39}$/.test(name)) {
        context.addIssue(
          'has vendors such as ses=smtps://user:password@host:465, with spaces between',
        );
      } else if (taken.has(name) || names.has(name)) {
        context.addIssue(`has a vendor ${name}, but that name is taken`);
      }
      names.add(name);
      const { error } = receiver.safeParse(url);
      const [issue] = error?.issues ?? [];
      if (issue !== undefined) context.addIssue(`the URL of ${name} ${issue.message}`);
    }
    return found;
  });

/** A private key of VAPID, as `npx web-push generate-vapid-keys` makes it. */
export const vapidKey = z
  .string()
  .refine(
    (text) => /^[A-Za-z0-9_-]{43}$/.test(text) && isPrivateKey(text),
    'must be a private key of P-256, 32 bytes in base64url: npx web-push generate-vapid-keys',
  );

function isPrivateKey(text: string): boolean {
  try {
    createECDH('prime256v1').setPrivateKey(Buffer.from(text, 'base64url'));
    return true;
  } catch {
    return false;
  }
}

/** The longest name that leaves room for the token of a message, see messages/return-path.ts. */
const longestReturnName = 8;

export const returnAddress = z
  .string()
  .regex(
    new RegExp(`^[A-Za-z0-9._-]{1,${longestReturnName}}@[A-Za-z0-9.-]+$`),
    `must look like bounce@mail.example.com, with at most ${longestReturnName} letters before the @`,
  );

/** Whether messages go out by SMTP. */
export const isMail = (url: string | undefined): boolean => /^smtps?:/i.test(url ?? '');

export const rate = (usual: number) => z.coerce.number().int().min(0).max(1_000_000).default(usual);

/** A secret as Standard Webhooks writes it, as bytes. */
export const webhookSecret = z.string().transform((text, context) => {
  const bytes = Buffer.from(text.slice('whsec_'.length), 'base64');
  if (/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(text) && bytes.length >= 24) return bytes;
  context.addIssue('must be whsec_ and the base64 of at least 24 bytes: openssl rand -base64 32');
  return z.NEVER;
});

/** A public key as SendGrid shows it: base64 of its DER. */
export const publicKey = z.string().transform((text, context) => {
  try {
    return createPublicKey({ key: Buffer.from(text, 'base64'), format: 'der', type: 'spki' });
  } catch {
    context.addIssue('must be the verification key as SendGrid shows it, MFkwEwYH…');
    return z.NEVER;
  }
});

/** A private key as PEM; in one line, with \n for its line breaks, too. */
export const privateKey = z.string().transform((text, context) => {
  try {
    const pem = text.replaceAll('\\n', '\n');
    return createPrivateKey(pem).export({ type: 'pkcs8', format: 'pem' }).toString();
  } catch {
    context.addIssue('must be a private key as PEM, -----BEGIN PRIVATE KEY-----…');
    return z.NEVER;
  }
});

export const mailbox = z.string().transform((text, context) => {
  const read = readMailbox(text);
  if (read !== undefined) return read;
  context.addIssue('must look like news@example.com, or: Groundwork <news@example.com>');
  return z.NEVER;
});
