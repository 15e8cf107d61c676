/**
 * The server does not answer, and has not ended the connection either: a host that lost its power
 * ends none.
 */
export class Silence extends Error {
  readonly code = 'ETIMEDOUT';

  constructor(milliseconds: number) {
    super(`the server said nothing for ${milliseconds / 1_000} s`);
  }
}
