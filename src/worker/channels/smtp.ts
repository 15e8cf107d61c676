import { BlockList, isIP } from 'node:net';
import { PassThrough, pipeline, type Readable } from 'node:stream';
import nodemailer from 'nodemailer';
import { codeOf, messageOf } from '../../errors.ts';
import { isAddress, type Mailbox } from '../../mailbox.ts';
import { RunningTime } from '../../postgres/silence.ts';
import type { Attempt, Channel, Message } from './channel.ts';
import { credentialsOf, describeDestination } from './destination.ts';
import { letterOf } from './letter.ts';

export interface SmtpOptions {
  /** The vendor; smtp unless given. */
  name?: string;
  /** Connections that are kept, each with one message at a time; 50 at most are made. */
  concurrency: number;
  /** For connecting, and for each message. */
  timeoutMs: number;
  from: Mailbox;
  /** Signs each message for the domain of its sender (RFC 6376). */
  dkim?: { selector: string; key: string } | undefined;
}

/** What a signature covers, so that nobody can add or change it; RFC 8058 wants the last two. */
const signedHeaders = [
  ...['From', 'To', 'Subject', 'Date', 'Message-ID', 'MIME-Version', 'Content-Type'],
  ...['List-Unsubscribe', 'List-Unsubscribe-Post'],
].join(':');

/** What most servers allow one client. */
const maxConnections = 50;

/** Steps of one message; any other is of the session. */
const messageSteps = new Set(['MAIL FROM', 'RCPT TO', 'DATA']);

/** One message on its way: how far it came, and when that has taken too long. */
class Call {
  readonly #late = new AbortController();
  #content: Readable | undefined;
  #time: RunningTime | undefined;

  get signal(): AbortSignal {
    return this.#late.signal;
  }

  /** Whether the server was given some of the content: it may have taken the message. */
  get hasBegun(): boolean {
    return this.#content?.readableDidRead === true;
  }

  /** A connection takes the message, which had to wait for one until now. */
  start(content: Readable, timeoutMs: number): Readable {
    this.end();
    this.#time = new RunningTime(timeoutMs, () => this.#late.abort());
    this.#content = pipeline(content, new PassThrough(), () => {});
    return this.#content;
  }

  end(): void {
    this.#time?.stop();
  }
}

/** Sends each message as mail, over connections that are kept. */
export class SmtpChannel implements Channel {
  readonly name: string;
  readonly description: string;
  readonly concurrency: number;
  readonly messagesPerCall = 1;
  readonly #options: SmtpOptions;
  readonly #calls = new WeakMap<object, Call>();
  readonly #transport;

  constructor(url: string, options: SmtpOptions) {
    this.name = options.name ?? 'smtp';
    this.description = describeDestination(url);
    this.concurrency = Math.min(options.concurrency, maxConnections);
    this.#options = options;
    const parsed = new URL(url);
    const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1');
    const secure = parsed.protocol === 'smtps:';
    const auth = credentialsOf(parsed);
    const { timeoutMs } = options;
    this.#transport = nodemailer.createTransport({
      pool: true,
      host,
      port: Number(parsed.port || (secure ? 465 : 587)),
      secure,
      ...(auth === undefined ? {} : { auth }),
      ...(options.dkim === undefined
        ? {}
        : {
            dkim: {
              domainName: options.from.address.slice(options.from.address.lastIndexOf('@') + 1),
              keySelector: options.dkim.selector,
              privateKey: options.dkim.key,
              headerFieldNames: signedHeaders,
            },
          }),
      // A password does not go over a network that others may read.
      requireTLS: auth !== undefined && !secure && !isLoopback(host),
      maxConnections: this.concurrency,
      // Once, when a kept connection turns out to be closed; the rest the database repeats.
      maxRequeues: 1,
      connectionTimeout: timeoutMs,
      dnsTimeout: timeoutMs,
      greetingTimeout: timeoutMs,
      // Each message has its own time; this would not wait for what has arrived meanwhile.
      socketTimeout: 600_000,
    });
    this.#transport.use('stream', (mail, done) => {
      const call = this.#calls.get(mail.data.signal ?? {});
      mail.message.processFunc((content) => call?.start(content, timeoutMs) ?? content);
      done();
    });
  }

  deliver(messages: readonly Message[]): Promise<Attempt[]> {
    return Promise.all(messages.map((message) => this.#send(message)));
  }

  async close(): Promise<void> {
    this.#transport.close({ force: true });
  }

  async #send(message: Message): Promise<Attempt> {
    const { from, timeoutMs } = this.#options;
    const to = message.email;
    if (to === null) {
      return { status: 'REFUSED', stage: 'address', error: 'the user has no e-mail address' };
    }
    if (!isAddress(to)) {
      return { status: 'REFUSED', stage: 'address', error: 'the e-mail address cannot be used' };
    }
    const call = new Call();
    this.#calls.set(call.signal, call);
    try {
      const letter = { ...letterOf(message, from, to), signal: call.signal };
      const { response, messageId } = await this.#transport.sendMail(letter);
      // Returned mail, and a vendor's events, name the message by it.
      const id = messageId.replace(/^<|>$/g, '');
      return { status: 'SENT', ...replyOf(response), provider_message_id: id };
    } catch (error) {
      return call.signal.aborted
        ? {
            status: 'RETRYING',
            error: `the server took longer than ${timeoutMs} ms`,
            is_uncertain: call.hasBegun,
          }
        : fromRefusal(error, call.hasBegun);
    } finally {
      call.end();
    }
  }
}

/**
 * What an error of SMTP makes of a message. A refusal says at which stage: the database's rules
 * know what that means, since a server refuses senders and passwords with 5xx too.
 *
 * @param hasBegun whether some of the content was sent
 */
export function fromRefusal(error: unknown, hasBegun: boolean): Attempt {
  const { command = '', response } = error as { command?: string; response?: unknown };
  const reply = replyOf(response);
  const isOfMessage = messageSteps.has(command);
  if (reply.code !== undefined && reply.code >= 400) {
    return {
      status: 'REFUSED',
      stage: isOfMessage ? command : command.startsWith('AUTH') ? 'login' : 'connect',
      ...reply,
      error: `the server answered ${reply.code} to ${command || 'the connection'}`,
      ...(!isOfMessage && hasBegun ? { is_uncertain: true } : {}),
    };
  }
  const code = codeOf(error) ?? 'error';
  const text = `${code}: ${messageOf(error)}`;
  // Without a response: the fault was seen before anything was sent.
  if (code === 'EENVELOPE') return { status: 'REFUSED', stage: 'address', error: text };
  if (code === 'EMESSAGE') return { status: 'REFUSED', stage: 'compose', error: text };
  return { status: 'RETRYING', error: text, is_uncertain: hasBegun };
}

/** A reply's number and text, at most 4 KB of UTF-8. PostgreSQL's text holds no NUL. */
function replyOf(response: unknown): { code?: number; body?: string } {
  const code = typeof response === 'string' && /^\d{3}/.exec(response)?.[0];
  if (typeof response !== 'string' || !code) return {};
  return { code: Number(code), body: response.replaceAll('\0', '').slice(0, 1_000) };
}

function isLoopback(host: string): boolean {
  const loopback = new BlockList();
  loopback.addSubnet('127.0.0.0', 8, 'ipv4');
  loopback.addAddress('::1', 'ipv6');
  const family = isIP(host);
  return family === 0 ? host === 'localhost' : loopback.check(host, family === 6 ? 'ipv6' : 'ipv4');
}
