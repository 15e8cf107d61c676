import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { SMTPServer, type SMTPServerOptions, type SMTPServerSession } from 'smtp-server';

export interface Letter {
  from: string;
  to: string[];
  /** As it came, with the lines of the header unfolded. */
  text: string;
  /** Which connection brought it. */
  connection: string;
}

/** A refusal with a code, as the server will answer. */
export class Refusal extends Error {
  readonly responseCode: number;

  constructor(responseCode: number, message = 'refused by the test') {
    super(message);
    this.responseCode = responseCode;
  }
}

/** Somebody's mail server, as a real one on loopback that answers as the test says. */
export class MailServer {
  /** Every message that was taken or refused after its content, in order. */
  readonly letters: Letter[] = [];
  /** The same, byte by byte. */
  readonly sources: string[] = [];
  /** How often somebody connected. */
  connections = 0;
  readonly #options: SMTPServerOptions;
  #server: SMTPServer | undefined;
  #port = 0;

  /** Throws a Refusal to refuse at a step, or drops the connection; a test replaces them. */
  answer: {
    connect?: (hangUp: () => void) => void;
    mail?: (hangUp: () => void) => void | Promise<void>;
    receiver?: (hangUp: () => void) => void;
    /** After the content; may never return. */
    content?: (hangUp: () => void) => void | Promise<void>;
  } = {};

  constructor(options: SMTPServerOptions = {}) {
    this.#options = options;
  }

  /** Listens, on the same port as before when it was stopped. */
  async start(): Promise<void> {
    this.#server = this.#create();
    const server = this.#server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
  }

  #create(): SMTPServer {
    const step =
      (name: 'mail' | 'receiver') =>
      (_address: unknown, _session: SMTPServerSession, done: (error?: Error | null) => void) =>
        this.#answer(name, done);
    const server = new SMTPServer({
      authOptional: true,
      disabledCommands: ['STARTTLS', 'AUTH'],
      logger: false,
      closeTimeout: 100,
      ...this.#options,
      onConnect: (_session, done) => {
        this.connections += 1;
        this.#answer('connect', done);
      },
      onMailFrom: step('mail'),
      onRcptTo: step('receiver'),
      onData: (stream, session, done) => {
        const chunks: Buffer[] = [];
        stream.on('data', (chunk: Buffer) => chunks.push(chunk));
        stream.on('end', () => {
          const source = Buffer.concat(chunks).toString();
          this.sources.push(source);
          this.letters.push(letterOf(session, source));
          this.#answer('content', done);
        });
      },
    });
    // A client that hangs up is no failure of the test.
    server.on('error', () => {});
    return server;
  }

  async #answer(
    step: 'connect' | 'mail' | 'receiver' | 'content',
    done: (error?: Error | null, text?: string) => void,
  ): Promise<void> {
    const hangUp = (): void => {
      for (const connection of this.#server?.connections ?? []) connection.close();
    };
    try {
      await this.answer[step]?.(hangUp);
      done(null, 'queued as 4711');
    } catch (error) {
      done(error as Error);
    }
  }

  /** @param login `user:password@`, where the server wants one */
  url(login = ''): string {
    return `smtp://${login}127.0.0.1:${this.#port}`;
  }

  stop(): Promise<void> {
    return new Promise((resolve) => (this.#server ? this.#server.close(resolve) : resolve()));
  }
}

function letterOf({ id, envelope }: SMTPServerSession, raw: string): Letter {
  return {
    from: envelope.mailFrom === false ? '' : envelope.mailFrom.address,
    to: envelope.rcptTo.map(({ address }) => address),
    text: raw.replace(/\r\n[ \t]+/g, ' '),
    connection: id,
  };
}

/** The value of a header; undefined when there is none, an error when there are several. */
export function headerOf(letter: Letter | undefined, name: string): string | undefined {
  const [head = ''] = (letter?.text ?? '').split('\r\n\r\n', 1);
  const values = head
    .split('\r\n')
    .filter((line) => line.toLowerCase().startsWith(`${name.toLowerCase()}:`))
    .map((line) => line.slice(name.length + 1).trim());
  if (values.length > 1) throw new Error(`${values.length} headers ${name}`);
  return values[0];
}
