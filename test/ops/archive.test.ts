import { describe, expect, test } from 'vitest';
import { gapsIn, lsnNumber, segmentNumber, segmentOf } from '../../src/toolkit/backup/archive.ts';

const mb = 1_024 * 1_024;
const files = (...names: string[]) => names.map((name) => ({ name, at: new Date(0) }));

describe('the archived log', () => {
  test('numbers its files over the border of 4 GB, whatever their size', () => {
    expect(segmentNumber('0000000100000000000000FF', 16 * mb)).toBe(255n);
    expect(segmentNumber('000000010000000100000000', 16 * mb)).toBe(256n);
    expect(segmentNumber('00000001000000000000003F', 64 * mb)).toBe(63n);
    expect(segmentNumber('000000010000000100000000', 64 * mb)).toBe(64n);
    expect(segmentOf('1/0', 16 * mb)).toBe(256n);
    expect(segmentOf('0/FFFFFFFF', 64 * mb)).toBe(63n);
    expect(lsnNumber('16/B374D848')).toBe(0x16b374d848n);
    expect(() => lsnNumber('16-B3')).toThrow(/no position/);
  });

  test('names what is missing, within a timeline, from the first file that is needed', () => {
    const log = files(
      '000000010000000000000001',
      '0000000100000000000000FE',
      '000000010000000100000001',
      '000000020000000100000005',
      '000000020000000100000007',
    );
    const first = '0000000100000000000000FE';
    expect(gapsIn(log, first, 16 * mb)).toEqual([
      '0000000100000000000000FF to 000000010000000100000000',
      '000000020000000100000006',
    ]);
    expect(gapsIn(log.slice(3, 4), first, 16 * mb)).toEqual([]);
    const large = files('00000001000000000000003F', '000000010000000100000000');
    expect(gapsIn(large, '00000001000000000000003F', 64 * mb)).toEqual([]);
  });
});
