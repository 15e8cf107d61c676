/** One line a step on stderr, so that stdout stays for results. */
export class Progress {
  readonly #quiet: boolean;
  readonly #tty = process.stderr.isTTY === true;

  constructor(quiet = false) {
    this.#quiet = quiet;
  }

  /**
   * Runs a step and says how it went. The work returns what is to be said of it.
   */
  async step(name: string, work: (note: (text: string) => void) => Promise<string>): Promise<void> {
    const started = Date.now();
    const note = (text: string): void => this.#line('…', name, text, this.#tty);
    if (this.#tty) note('');
    try {
      const text = await work(note);
      this.#line('✔', name, `${text} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
    } catch (error) {
      this.#line('✖', name, 'failed');
      throw error;
    }
  }

  /** Says one thing that is not a step. */
  say(mark: string, name: string, text: string): void {
    this.#line(mark, name, text);
  }

  #line(mark: string, name: string, text: string, overwrite = false): void {
    if (this.#quiet) return;
    const start = this.#tty ? '\r\u001b[2K' : '';
    process.stderr.write(`${start}  ${mark}  ${name.padEnd(14)} ${text}${overwrite ? '' : '\n'}`);
  }
}
