import type { Report } from '../../src/toolkit/prove/report.ts';

/** What was reported, as "who aspect" for each object. */
export function leaksOf(report: Report, mark = 'LEAK'): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const finding of report.findings.filter((entry) => entry.mark === mark)) {
    const { object, who, aspect } = finding;
    found[object] = [...(found[object] ?? []), `${who} ${aspect}`];
  }
  return found;
}
