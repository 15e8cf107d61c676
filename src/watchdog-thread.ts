import { writeSync } from 'node:fs';
import process from 'node:process';
import { workerData } from 'node:worker_threads';
import { beatMs, patienceBeats } from './watchdog.ts';

const { beats, name } = workerData as { beats: Int32Array; name: string };

let last = -1;
let still = 0;

setInterval(() => {
  const now = Atomics.load(beats, 0);
  still = now === last ? still + 1 : 0;
  last = now;
  if (still < patienceBeats) return;
  const msg = `the event loop stood still for ${(beatMs * patienceBeats) / 1_000} s: the process ends`;
  writeSync(2, `${JSON.stringify({ level: 60, time: Date.now(), pid: process.pid, name, msg })}\n`);
  process.kill(process.pid, 'SIGKILL');
}, beatMs);
