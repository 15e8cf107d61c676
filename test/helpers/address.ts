import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';

/** An address in front of a server, as a virtual IP is: it can move to another one. */
export class Address {
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((client) => this.#forward(client));
  #port: number;

  /** @param port of the server behind it, on loopback */
  constructor(port: number) {
    this.#port = port;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Has new connections reach another server. */
  moveTo(port: number): void {
    this.#port = port;
  }

  /** Those who are connected hear nothing any more, as when a host has lost its power. */
  silence(): void {
    for (const socket of this.#sockets) {
      socket.removeAllListeners('data');
      socket.removeAllListeners('close');
      socket.resume();
    }
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  #forward(client: Socket): void {
    const server = dial(this.#port, '127.0.0.1');
    const pairs: [Socket, Socket][] = [
      [client, server],
      [server, client],
    ];
    for (const [from, to] of pairs) {
      this.#sockets.add(from);
      from.on('data', (bytes) => to.write(bytes));
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      // It closes after it.
      from.on('error', () => {});
    }
  }
}
