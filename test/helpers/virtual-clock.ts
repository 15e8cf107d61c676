import process from 'node:process';
import { mock } from 'node:test';

/*
 * Loaded before a program with --import: its timers and its clock go by a clock of their own,
 * which SIGUSR2 stops and lets go on, as when a machine is stopped below a process that does not
 * notice. What arrives from outside is still read.
 */
const [realInterval, realNow] = [setInterval, performance.now.bind(performance)];
mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: Date.now() });

let [isStopped, passed] = [false, 0];
let before = realNow();
performance.now = () => passed;

realInterval(() => {
  const now = realNow();
  const elapsed = Math.floor(now - before);
  before += elapsed;
  if (isStopped || elapsed === 0) return;
  passed += elapsed;
  mock.timers.tick(elapsed);
}, 5);

process.on('SIGUSR2', () => {
  isStopped = !isStopped;
});
