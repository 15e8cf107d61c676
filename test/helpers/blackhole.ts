import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/**
 * A network between a process and its database that can lose everything: bytes are taken and
 * never arrive, and no connection ends, as with a host that has lost its power.
 */
export class Blackhole {
  /** Whether new connections are lost as well: a server that hangs. */
  isDeep = false;
  #target = new URL('tcp://127.0.0.1:1');
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((inner) => this.#accept(inner));

  /** A database's URL, through here. */
  async through(url: string): Promise<string> {
    if (!this.#server.listening) {
      await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    }
    this.#target = new URL(url);
    const changed = new URL(url);
    changed.host = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return changed.href;
  }

  /** From now on nothing arrives on the connections that there are. */
  swallow(): void {
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.removeAllListeners('data');
      socket.pause();
    }
  }

  /** Ends what is here. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(inner: Socket): void {
    this.#keep(inner);
    if (this.isDeep) return;
    const outer = connect(Number(this.#target.port), this.#target.hostname);
    this.#keep(outer);
    inner.pipe(outer).pipe(inner);
    // Who hangs up is told to the other side only while the network works.
    for (const [one, other] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      one.once('close', () => {
        if (!other.isPaused()) other.destroy();
      });
    }
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
