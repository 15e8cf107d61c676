import { registerHooks } from 'node:module';
import { GwError } from '../../errors.ts';

/**
 * Two faults of @dataplan/pg, corrected in its text as it is loaded; the package offers no other
 * way to reach them. Pages by a column that may be null lost the rows without a value, or came
 * to no end, and the cursor of a row without a number said 0.
 *
 * When a release has changed the text, the API does not start: then look whether the fault is
 * mended, and take its entry away. `test/api/pages.test.ts` knows.
 */
const repairs = [
  {
    file: '@dataplan/pg/dist/steps/pgSelect.js',
    wrong: `(nullsFirst && beforeOrAfter === "after") ||
                (!nullsFirst && beforeOrAfter === "before")`,
    right: `(nullsFirst && beforeOrAfter === "before") ||
                (!nullsFirst && beforeOrAfter === "after")`,
  },
  {
    file: '@dataplan/pg/dist/steps/pgCursor.js',
    wrong: 'codec.fromPg(orderVal)',
    right: 'orderVal == null ? null : codec.fromPg(orderVal)',
  },
];

const done = new Set<string>();

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    const repair = repairs.find(({ file }) => url.endsWith(file));
    if (repair === undefined) return loaded;
    const text = String(loaded.source);
    if (text.split(repair.wrong).length !== 2) return loaded;
    done.add(repair.file);
    return { ...loaded, source: text.replace(repair.wrong, () => repair.right) };
  },
});

/**
 * Makes sure that the package was loaded after this module, and was what it is known to be.
 *
 * @throws GwError when pages would be wrong
 */
export function assertRepaired(): void {
  const missing = repairs.filter(({ file }) => !done.has(file)).map(({ file }) => file);
  if (missing.length === 0) return;
  throw new GwError(`pages would lose rows: ${missing.join(' and ')} could not be corrected`, {
    hint: 'Install the versions of package-lock.json: npm ci.',
  });
}
