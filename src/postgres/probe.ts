import { Client, type QueryConfig, type QueryResultRow } from 'pg';
import { Silence } from './silence.ts';

export interface ProbeOptions {
  url: string;
  /** What pg_stat_activity shows. */
  applicationName: string;
  /** Within this the database answers, or does not answer. */
  timeoutMs: number;
}

/**
 * One connection for questions that must not wait behind anybody. It is given up as soon as an
 * answer is late, and the next question makes another: a server that is back is found at once.
 */
export class Probe {
  readonly #options: ProbeOptions;
  #client: Client | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: ProbeOptions) {
    this.#options = options;
  }

  /** Asks one question at a time. Rejects when the answer is late. */
  ask<Row extends QueryResultRow>(question: QueryConfig): Promise<Row[]> {
    const asked = this.#last.then(() => this.#ask<Row>(question));
    this.#last = asked.catch(() => {});
    return asked;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#last;
    this.#giveUp(this.#client);
  }

  async #ask<Row extends QueryResultRow>(question: QueryConfig): Promise<Row[]> {
    const { timeoutMs } = this.#options;
    let late: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      late = setTimeout(() => reject(new Silence(timeoutMs)), timeoutMs);
    });
    const answered = this.#connected().then((client) => client.query<Row>(question));
    // It may fail after nobody waits any more.
    answered.catch(() => {});
    try {
      return (await Promise.race([answered, tooLate])).rows;
    } catch (error) {
      this.#giveUp(this.#client);
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  async #connected(): Promise<Client> {
    if (this.#client !== undefined) return this.#client;
    if (this.#isClosed) throw new Error('the probe is closed');
    const { url, applicationName } = this.#options;
    const client = new Client({ connectionString: url, application_name: applicationName });
    this.#client = client;
    client.on('error', () => this.#giveUp(client));
    client.on('end', () => this.#giveUp(client));
    await client.connect();
    return client;
  }

  #giveUp(client: Client | undefined): void {
    if (client === undefined || this.#client !== client) return;
    this.#client = undefined;
    // What does not answer does not say good-bye either.
    client.end().catch(() => {});
    const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } })
      .connection;
    setTimeout(() => stream.destroy(), 100).unref();
  }
}
