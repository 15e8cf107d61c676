import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { withScratch } from '../../src/server/scratch.ts';
import { cronDatabase } from '../helpers/global-setup.ts';
import { serversInMemory } from '../helpers/memory.ts';
import type { Mutant } from './mutant.ts';
import { Bench, type Trial } from './trial.ts';

/*
 * npm run mutate -- <area> [text]: plants the faults of test/mutants/areas/<area>.ts, one at a
 * time, and runs the tests that cover the place. A fault that no test notices has survived:
 * the tests would let somebody make it. With a text, only the faults that have it.
 */
const areas = join(import.meta.dirname, 'areas');
const names = readdirSync(areas).map((file) => file.replace(/\.ts$/, ''));
const [area = '', text = ''] = process.argv.slice(2);
if (area !== 'all' && !names.includes(area)) {
  process.stderr.write(`error: name an area: all, ${names.sort().join(', ')}\n`);
  process.exit(2);
}

/** So many faults are tried at once: most of a test is waiting for the database. */
const atOnce = 4;

const chosen: { area: string; mutant: Mutant }[] = [];
for (const name of area === 'all' ? names.sort() : [area]) {
  const { mutants } = (await import(join(areas, `${name}.ts`))) as { mutants: Mutant[] };
  chosen.push(...mutants.map((mutant) => ({ area: name, mutant })));
}
const wanted = chosen.filter(({ mutant }) => mutant.fault.includes(text));
if (wanted.length === 0) {
  process.stderr.write(`error: no fault of ${area} has "${text}"\n`);
  process.exit(2);
}

const say = (line: string): boolean => process.stdout.write(`${line}\n`);

/** Tries every fault, several at once. */
async function tryAll(benches: Bench[]): Promise<Map<Mutant, Trial>> {
  const results = new Map<Mutant, Trial>();
  const left = [...wanted.entries()];
  await Promise.all(
    benches.map(async (bench) => {
      for (;;) {
        const next = left.shift();
        if (next === undefined) return;
        const [number, { area: name, mutant }] = next;
        const trial = await bench.try(mutant, `gw_mutant_${number}`);
        results.set(mutant, trial);
        const by = trial.by === '' ? '' : `\n             ${trial.by.split('\n')[0]}`;
        const seconds = trial.seconds.toFixed(0).padStart(4);
        say(`${trial.verdict.padEnd(8)}${seconds} s  ${name}: ${mutant.fault}${by}`);
      }
    }),
  );
  return results;
}

const removeFolder = serversInMemory();
const started = Date.now();
let isClean = true;
await withScratch(cronDatabase, async ({ superuserUrl }) => {
  await createMigrated(superuserUrl, 'gw_template');
  const benches = Array.from({ length: atOnce }, () => new Bench(superuserUrl));
  process.once('exit', () => {
    for (const bench of benches) bench.stop();
    removeFolder();
  });
  try {
    // Tests that fail anyway notice nothing.
    const tests = [...new Set(wanted.flatMap(({ mutant }) => mutant.tests))];
    const failure = await benches[0]?.runTests(tests, undefined, 2);
    if (failure !== undefined) {
      process.stderr.write(`error: a test fails without any fault: ${failure}\n`);
      isClean = false;
      return;
    }
    say(`${tests.length} files of tests pass without a fault`);
    const results = await tryAll(benches);
    for (const name of new Set(wanted.map((each) => each.area))) {
      const trials = wanted.filter((each) => each.area === name);
      const count = (verdict: Trial['verdict']): number =>
        trials.filter(({ mutant }) => results.get(mutant)?.verdict === verdict).length;
      const [killed, survived, broken] = [count('killed'), count('survived'), count('broken')];
      say(`${name}: ${killed} killed, ${survived} survived, ${broken} broken`);
      if (survived + broken > 0) isClean = false;
    }
    say(`${wanted.length} faults in ${((Date.now() - started) / 60_000).toFixed(1)} minutes`);
  } finally {
    await Promise.all(benches.map((bench) => bench.remove()));
  }
});
process.exitCode = isClean ? 0 : 1;
