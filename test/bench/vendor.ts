import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import process from 'node:process';

/*
 * Somebody else's message service, as a process of its own: accepts everything at once, over
 * connections that are kept. Tells its port to the parent.
 */
const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    response.writeHead(202, { 'content-type': 'application/json', 'content-length': '15' });
    response.end('{"status":"ok"}');
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
process.on('disconnect', () => process.exit(0));
