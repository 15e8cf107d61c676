import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { Agent, request } from 'undici';

/*
 * The thread of askAlong(): the one that sends the attacks is busy with them, and would measure
 * how long it was itself away.
 */
const { port, token, withinMs } = workerData as { port: number; token: string; withinMs: number };

const dispatcher = new Agent({ connections: 1, headersTimeout: withinMs });
const took: number[] = [];
let isOver = false;
parentPort?.once('message', () => {
  isOver = true;
});
while (!isOver) {
  const began = performance.now();
  try {
    const { body } = await request(`http://127.0.0.1:${port}/graphql`, {
      method: 'POST',
      dispatcher,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: '{"query":"{ viewer { rowId } }"}',
    });
    await body.text();
  } catch {
    // A late answer counts as long as it took.
  }
  took.push(performance.now() - began);
  await sleep(10);
}
await dispatcher.destroy();
parentPort?.postMessage(took.sort((one, other) => one - other));
