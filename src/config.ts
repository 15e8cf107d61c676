import { z } from 'zod';
import { readTrust } from './client-address.ts';
import {
  deliveryUrl,
  httpUrl,
  isMail,
  mailbox,
  password,
  port,
  postgresUrl,
  privateKey,
  publicKey,
  rate,
  returnAddress,
  vapidKey,
  vendors,
  webhookSecret,
} from './config-values.ts';
import { findUnknown, readEnvironment, type UnknownVariable } from './environment.ts';
import { EXIT, GwError } from './errors.ts';
import { readOrigins } from './origins.ts';

/**
 * Every variable that the program reads, with what docs/reference/environment.md says of it.
 * Without a default here, an unset one means what that page says.
 */
export const variables = z.object({
  NODE_ENV: z
    .enum(['development', 'production', 'test'])
    .default('development')
    .describe('with `production`, no demo data, no token, no schema watching'),
  DATABASE_URL: postgresUrl
    .optional()
    .describe("a superuser's or gw_owner's connection to the database"),
  ROOT_DATABASE_URL: postgresUrl
    .optional()
    .describe("a superuser's connection, for bootstrap, `reset`, `commit` and `uncommit`"),
  SHADOW_DATABASE_URL: postgresUrl
    .optional()
    .describe('where `commit` tries migrations; recreated each time'),
  GW_DATABASE: z
    .enum(['local', 'docker'])
    .optional()
    .describe('which server this checkout makes: a local cluster, or a container'),
  GW_PG_PORT: port.optional().describe('where the server of this checkout listens'),
  GW_OWNER_PASSWORD: password.optional().describe('password of `gw_owner`'),
  GW_AUTHENTICATOR_PASSWORD: password.optional().describe('password of `gw_authenticator`'),
  GW_WORKER_PASSWORD: password.optional().describe('password of `gw_worker`'),
  GW_CDC_PASSWORD: password.optional().describe('password of `gw_cdc`'),
  GW_READONLY_PASSWORD: password.optional().describe('password of `gw_readonly`'),
  GW_MONITOR_PASSWORD: password.optional().describe('password of `gw_monitor`'),
  GW_HOST: z.string().default('127.0.0.1').describe('the address at which the API listens'),
  GW_PORT: port.optional().describe('the port at which the API listens'),
  GW_PUBLIC_URL: httpUrl
    .transform((url) => url.replace(/\/+$/, ''))
    .optional()
    .describe('where users reach the API: the base of unsubscribe links'),
  GW_JWT_SECRET: z
    .string()
    .min(32, 'must have at least 32 characters')
    .optional()
    .describe('signs access tokens and unsubscribe links; the same for every process'),
  GW_STRIPE_WEBHOOK_SECRET: z
    .string()
    .regex(/^whsec_\S{16,}$/, 'must look like whsec_…, as Stripe shows it')
    .optional()
    .describe("the signing secret of Stripe's webhook endpoint"),
  GW_POOL_SIZE: z.coerce
    .number()
    .int()
    .min(1)
    .max(500)
    .default(20)
    .describe('connections for requests of one API process; one more listens, two serve metrics'),
  GW_MAX_WAITING: z.coerce
    .number()
    .int()
    .min(0)
    .max(100_000)
    .optional()
    .describe('requests that may wait for a connection of the pool; more are answered 503 at once'),
  GW_TRUST_PROXY: z
    .string()
    .superRefine((text, context) => {
      try {
        readTrust(text);
      } catch {
        context.addIssue(
          'has addresses, networks such as 10.0.0.0/8, loopback or uniquelocal, with commas between',
        );
      }
    })
    .optional()
    .describe('proxies whose `X-Forwarded-For` is believed'),
  GW_CORS_ORIGINS: z
    .string()
    .superRefine((text, context) => {
      try {
        readOrigins(text);
      } catch {
        context.addIssue(
          'has origins such as https://app.example.com or https://*.example.com, with commas between; or * for all',
        );
      }
    })
    .optional()
    .describe('origins whose pages may use the API (CORS); the star stands for one label'),
  GW_RATE_LIMIT_ANONYMOUS: rate(300).describe(
    'requests of one address without a token in a minute; 0 for no limit',
  ),
  GW_RATE_LIMIT_SIGN_IN: rate(30).describe(
    'fields of one address that sign in, in a minute; 0 for no limit',
  ),
  GW_RATE_LIMIT_USER: rate(3_000).describe(
    'requests of one user in a minute, in one API process; 0 for no limit',
  ),
  GW_INTROSPECTION: z
    .enum(['on', 'off'])
    .optional()
    .describe(
      'whether callers may read the schema: introspection, GraphiQL, names like a wrong one',
    ),
  GW_OPERATIONS: z
    .enum(['any', 'persisted'])
    .default('any')
    .describe('which operations are run: any, or those of GW_PERSISTED_OPERATIONS alone'),
  GW_PERSISTED_OPERATIONS: z
    .string()
    .optional()
    .describe('persisted operations: a JSON object of documents by their hashes'),
  GW_MAX_SUBSCRIPTIONS: z.coerce
    .number()
    .int()
    .min(1)
    .max(10_000)
    .default(20)
    .describe('live subscriptions, and sockets, of one user in one API process'),
  GW_METRICS_SAMPLE: z.coerce
    .number()
    .min(0)
    .max(1)
    .default(0.05)
    .describe('the share of requests whose operation and statements are recorded'),
  GW_METRICS_SLOW_MS: z.coerce
    .number()
    .int()
    .min(0)
    .max(60_000)
    .default(250)
    .describe('milliseconds from which an operation or statement is recorded in any case'),
  GW_METRICS_TOKEN: z
    .string()
    .regex(/^\S{16,}$/, 'must have at least 16 characters, no space')
    .optional()
    .describe('the bearer token that reads `/metrics`'),
  GW_METRICS_PORT: port.optional().describe('a port of its own for `/metrics`'),
  GW_DELIVERY_URL: deliveryUrl.optional().describe('where messages go'),
  GW_DELIVERY_VENDORS: vendors.describe('other receivers, to which `message_routes` may send'),
  GW_DELIVERY_SECRET: webhookSecret
    .optional()
    .describe('signs what is posted to an http or https delivery URL'),
  GW_DELIVERY_EVENTS_SECRET: webhookSecret
    .optional()
    .describe('verifies what is posted to `/webhooks/delivery/<vendor>`'),
  GW_DELIVERY_EVENTS_SENDGRID_KEY: publicKey
    .optional()
    .describe("verifies what is posted to `/webhooks/delivery/sendgrid`: its event webhook's key"),
  GW_DELIVERY_EVENTS_MAILGUN_KEY: z
    .string()
    .min(16)
    .optional()
    .describe('verifies what is posted to `/webhooks/delivery/mailgun`: its webhook signing key'),
  GW_DELIVERY_STATUS_URL: httpUrl
    .refine((text) => text.includes('{key}'), 'must have {key} where the idempotency key goes')
    .optional()
    .describe('where the receiver says whether it has a message: 200 yes, 404 no'),
  GW_DELIVERY_CONCURRENCY: z.coerce
    .number()
    .int()
    .min(1)
    .max(1000)
    .default(32)
    .describe('calls in flight to the delivery URL; with SMTP, connections, at most 50'),
  GW_DELIVERY_TIMEOUT_MS: z.coerce
    .number()
    .int()
    .min(100)
    .max(120_000)
    .default(10_000)
    .describe('milliseconds until a call counts as unanswered'),
  GW_MAIL_FROM: mailbox.optional().describe('whom e-mail is from, alerts included'),
  GW_DKIM_SELECTOR: z
    .string()
    .regex(/^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/, 'must be a name of DNS')
    .optional()
    .describe('the name in DNS of the public key that belongs to GW_DKIM_KEY'),
  GW_DKIM_KEY: privateKey.optional().describe('signs e-mail, as the domain of GW_MAIL_FROM'),
  GW_VAPID_KEY: vapidKey
    .optional()
    .describe('signs notifications of browsers; another key, and each has to register again'),
  GW_VAPID_SUBJECT: z
    .string()
    .regex(/^(mailto:[^@\s]+@[^@\s]+|https:\/\/\S+)$/, 'must be a mailto: or https: URL')
    .optional()
    .describe('whom push services of browsers ask when something is wrong'),
  GW_MAIL_BOUNCES: returnAddress
    .optional()
    .describe('where mail that cannot be delivered is returned to; gw bounces reads it'),
  GW_ALERT_URL: httpUrl.optional().describe('where notices of alerts are posted'),
  GW_ALERT_EMAIL_TO: z
    .string()
    .includes('@')
    .optional()
    .describe('who gets notices of alerts by e-mail; needs GW_SMTP_URL and GW_MAIL_FROM'),
  GW_SMTP_URL: z
    .url({ protocol: /^smtps?$/, error: 'must be an smtp:// or smtps:// URL' })
    .optional()
    .describe('the mail server for notices of alerts'),
  GW_OPERATOR: z
    .string()
    .regex(/^\S.{0,99}$/, 'must be a name of at most 100 characters')
    .optional()
    .describe('who acts, for the audit log; several people may share a role'),
  GW_AUDIT_KEY: z
    .string()
    .min(32, 'must have at least 32 characters')
    .optional()
    .describe('seals the audit log; kept from the database and its administrators'),
  GW_BACKUP_DIR: z
    .string()
    .startsWith('/', 'must be an absolute path')
    .optional()
    .describe('where `gw backup` keeps backups'),
  GW_AUDIT_SEALS: z
    .url({ protocol: /^(file|https?)$/, error: 'must be a file:///, http:// or https:// URL' })
    .optional()
    .describe('where the seals of the audit log go; needs GW_AUDIT_KEY'),
  GW_CDC_SLOT: z
    .string()
    .regex(/^[a-z0-9_]{1,63}$/, 'must be 1 to 63 of a to z, 0 to 9 and _')
    .optional()
    .describe('the replication slot'),
  GW_CDC_PLUGIN: z
    .enum(['wal2json', 'pgoutput'])
    .optional()
    .describe("the slot's output plugin; a slot with the other one is dropped and made again"),
  GW_SHUTDOWN_GRACE: z.coerce
    .number()
    .min(1)
    .max(3_600)
    .default(25)
    .describe('seconds that work in flight may take after SIGTERM'),
  GW_DRAIN_SECONDS: z.coerce
    .number()
    .min(0)
    .max(600)
    .optional()
    .describe(
      'seconds after SIGTERM in which the API still answers, and says that it is not ready',
    ),
  GW_LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('the least level that is logged'),
});

const names = Object.keys(variables.shape) as (keyof typeof variables.shape)[];

const environment = variables
  .refine((env) => !isMail(env.GW_DELIVERY_URL) || env.GW_MAIL_FROM !== undefined, {
    path: ['GW_MAIL_FROM'],
    error: 'must be set too, because GW_DELIVERY_URL is an smtp URL: whom mail is from',
  })
  .refine(
    (env) =>
      env.GW_MAIL_FROM !== undefined || !env.GW_DELIVERY_VENDORS.some(({ url }) => isMail(url)),
    {
      path: ['GW_MAIL_FROM'],
      error: 'must be set too, because GW_DELIVERY_VENDORS has an smtp URL: whom mail is from',
    },
  )
  .refine((env) => (env.GW_VAPID_KEY === undefined) === (env.GW_VAPID_SUBJECT === undefined), {
    path: ['GW_VAPID_SUBJECT'],
    error: 'must be set with GW_VAPID_KEY, and only then',
  })
  .refine((env) => (env.GW_DKIM_KEY === undefined) === (env.GW_DKIM_SELECTOR === undefined), {
    path: ['GW_DKIM_SELECTOR'],
    error: 'must be set with GW_DKIM_KEY, and only then: where its public key is',
  })
  .refine((env) => (env.GW_DRAIN_SECONDS ?? 0) < env.GW_SHUTDOWN_GRACE, {
    path: ['GW_DRAIN_SECONDS'],
    error: 'must be less than GW_SHUTDOWN_GRACE, which contains it',
  })
  .refine((env) => env.GW_OPERATIONS === 'any' || env.GW_PERSISTED_OPERATIONS !== undefined, {
    path: ['GW_PERSISTED_OPERATIONS'],
    error: 'must be set too, because GW_OPERATIONS is persisted: the operations that are run',
  })
  .refine((env) => env.GW_AUDIT_SEALS === undefined || env.GW_AUDIT_KEY !== undefined, {
    path: ['GW_AUDIT_KEY'],
    error: 'must be set too, because GW_AUDIT_SEALS is: it makes the seals',
  });

export type Config = z.infer<typeof environment>;

/**
 * What each process needs in production. In development each has a default that is made up on this
 * machine, or stays on it.
 */
const needs = {
  serve: { GW_JWT_SECRET: 'signs access tokens, and every process and machine needs the same' },
  worker: {
    GW_JWT_SECRET: 'signs unsubscribe links, and every process and machine needs the same',
    GW_DELIVERY_URL: 'says where messages go; file: writes them to the outbox of this machine',
    GW_PUBLIC_URL: 'is the base of unsubscribe links',
    GW_ALERT_URL: 'says who is told of alerts, where GW_ALERT_EMAIL_TO does not',
  },
} satisfies Record<string, Partial<Record<keyof Config, string>>>;

/** A process that needs more of the environment in production. */
export type Needy = keyof typeof needs;

function missingOf(env: Record<string, string>, processes: readonly Needy[]): [string, string][] {
  if (env.NODE_ENV !== 'production') return [];
  const needed: Record<string, string> = Object.assign({}, ...processes.map((name) => needs[name]));
  return Object.entries(needed).filter(
    ([name]) =>
      env[name] === undefined && (name !== 'GW_ALERT_URL' || env.GW_ALERT_EMAIL_TO === undefined),
  );
}

/** A variable as it is in force. */
export interface Setting {
  name: string;
  /** As it was given, or the default; undefined where there is neither. */
  text: string | undefined;
  from: 'environment' | 'default' | 'unset' | { file: string };
}

/**
 * Reads the environment once, and reports every bad or missing variable in one error. Values are
 * not echoed: they may be secrets.
 *
 * @param processes those that are to run with it
 * @throws GwError with exit code 2
 */
export function loadConfig(
  env: NodeJS.ProcessEnv = process.env,
  processes: readonly Needy[] = [],
): Config {
  const { given, problems: unread } = readEnvironment(env, names);
  const texts = Object.fromEntries([...given].map(([name, { text }]) => [name, text]));
  const parsed = environment.safeParse(texts);
  const missing = missingOf(texts, processes);
  if (parsed.success && missing.length === 0 && unread.length === 0) return parsed.data;
  const problems = [
    ...unread,
    ...(parsed.error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`),
    ...missing.map(([name, why]) => `${name}: must be set in production: it ${why}`),
  ];
  throw new GwError(
    `the environment is wrong:\n${problems.map((line) => `  ${line}`).join('\n')}`,
    {
      hint: 'docs/reference/environment.md lists every variable.',
      exitCode: EXIT.usage,
    },
  );
}

/** As loadConfig(), for processes that are to run. */
export const loadConfigOf = (
  processes: readonly Needy[],
  env: NodeJS.ProcessEnv = process.env,
): Config => loadConfig(env, processes);

/** Every variable, and where it comes from. */
export function settingsOf(env: NodeJS.ProcessEnv = process.env): Setting[] {
  const { given } = readEnvironment(env, names);
  const usual = variables.parse({}) as Record<string, unknown>;
  return names.map((name) => {
    const found = given.get(name);
    if (found !== undefined) return { name, ...found };
    const text = usual[name];
    return text === undefined
      ? { name, text, from: 'unset' }
      : { name, text: String(text), from: 'default' };
  });
}

/** Variables of ours that nobody reads. */
export const unknownVariables = (env: NodeJS.ProcessEnv = process.env): UnknownVariable[] =>
  findUnknown(env, names);
