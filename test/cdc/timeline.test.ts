import { expect, test } from 'vitest';
import { Witness } from '../../src/cdc/timeline.ts';

const [old, promoted] = [
  { systemId: '7', timeline: 1 },
  { systemId: '7', timeline: 2 },
];
const history = async () => '1\t0/64\tno recovery target specified\n';

/** One that has read transactions that end at these positions. */
function witnessOf(...positions: bigint[]): Witness {
  const witness = new Witness();
  witness.accept(old);
  for (const position of positions) witness.note(position, `at ${position}`);
  return witness;
}

test('what lies behind the fork of the new timeline is lost', async () => {
  // 0/64 is 100.
  expect(await witnessOf(99n, 100n, 101n, 140n).compare(promoted, history)).toEqual({
    fork: '0/64',
    seen: '0/8C',
    transactions: 2,
    from: 'at 101',
    to: 'at 140',
  });
  expect(await witnessOf(99n, 100n).compare(promoted, history)).toBeUndefined();
  expect(await witnessOf(140n).compare(old, history)).toBeUndefined();
  const other = { systemId: '8', timeline: 2 };
  expect(await witnessOf(140n).compare(other, history)).toBeUndefined();
});

test('a loss is told again until somebody has been told', async () => {
  const witness = witnessOf(140n);
  const broken = async () => {
    throw new Error('Connection terminated');
  };
  await expect(witness.compare(promoted, broken)).rejects.toThrow(/terminated/);
  // The alert could not be raised either.
  expect(await witness.compare(promoted, history)).toMatchObject({ transactions: 1 });
  expect(await witness.compare(promoted, history)).toMatchObject({ transactions: 1 });
  witness.accept(promoted);
  expect(await witness.compare(promoted, history)).toBeUndefined();
});
