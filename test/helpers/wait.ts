import { patience } from './patience.ts';

/**
 * Asks again and again until the answer is there.
 *
 * @param ask returns undefined or false while it is not
 * @throws after the time, with what was last seen
 */
export async function eventually<Answer>(
  ask: () => Promise<Answer | undefined | false>,
  milliseconds = 20_000,
): Promise<Answer> {
  const deadline = Date.now() + patience(milliseconds);
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > deadline) throw new Error(`not after ${patience(milliseconds)} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
