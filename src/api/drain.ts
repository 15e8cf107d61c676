import type { ServerResponse } from 'node:http';

/**
 * The end of an API process as its clients see it. From begin() on each response says that its
 * connection ends with it, so that a client's next request goes to another process, while this
 * one still answers.
 */
export class Drain {
  readonly #open = new Set<ServerResponse>();
  #hasBegun = false;

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Told of each response, before anything of it is written. */
  track(response: ServerResponse): void {
    if (this.#hasBegun) response.setHeader('connection', 'close');
    this.#open.add(response);
    response.once('close', () => this.#open.delete(response));
  }

  begin(): void {
    this.#hasBegun = true;
    for (const response of this.#open) {
      if (!response.headersSent) response.setHeader('connection', 'close');
    }
  }
}
