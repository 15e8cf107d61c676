import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { Agent, request } from 'undici';
import type { Sql } from '../../src/postgres/connect.ts';

/** Something that is sent to an API to harm it. */
export interface Attack {
  name: string;
  /** The bodies of requests, which are all sent at once. */
  bodies: string[];
  /** Whether a token goes with them. */
  isSignedIn: boolean;
  /** Whether the responses are left unread. */
  isUnread?: boolean;
}

export const bodyOf = (query: string, variables = {}): string =>
  JSON.stringify({ query, variables });

const times = (count: number, make: (n: number) => string): string[] =>
  Array.from({ length: count }, (_, n) => make(n));

const doubling = (levels: number, leaf: string): string =>
  `{ ...f0 } ${times(levels, (level) =>
    level === levels - 1
      ? `fragment f${level} on Query { ${leaf} }`
      : `fragment f${level} on Query { ...f${level + 1} ...f${level + 1} }`,
  ).join(' ')}`;

/** A document as costly as one may be: as many fields, in as many steps, as the limits allow. */
const large = (n: number): string =>
  `query Q${n} { ${times(
    14,
    (k) => `a${k}: tasks(first: 1, offset: ${n + k}, orderBy: DUE_DATE_ASC) {
    nodes { title status project { name } list { name } goals(first: 1) { nodes { title } } }
    pageInfo { hasNextPage endCursor } totalCount }`,
  ).join(' ')} }`;

const pad = (text: string, length: number): string => `${text} # ${'x'.repeat(length)}`;

/** Every attack that the API is known to withstand, each with what a run of it sends. */
export const attacks: Attack[] = [
  {
    name: 'fragments that double, 20 deep',
    isSignedIn: false,
    bodies: times(8, (n) => bodyOf(`${doubling(20, '__typename')} # ${n}`)),
  },
  {
    name: 'fragments that double, 25 deep',
    isSignedIn: false,
    bodies: times(8, (n) => bodyOf(`${doubling(25, 'tasks { totalCount }')} # ${n}`)),
  },
  {
    name: '70 documents of 0.8 MB',
    isSignedIn: false,
    bodies: times(70, (n) =>
      bodyOf(`{ ${times(25_000, (k) => `a${n}x${k}: __typename`).join(' ')} }`),
    ),
  },
  {
    name: '100 documents as large as allowed',
    isSignedIn: true,
    bodies: times(100, (n) => bodyOf(large(n))),
  },
  {
    name: '200 documents of 60 KB',
    isSignedIn: true,
    bodies: times(200, (n) => bodyOf(pad(`{ a${n}: __typename }`, 60_000))),
  },
  {
    name: '100 logins in one request',
    isSignedIn: false,
    bodies: times(4, () =>
      bodyOf(
        `mutation { ${times(100, (k) => `l${k}: login(input: { email: "nobody@example.com", password: "password ${k}" }) { clientMutationId }`).join(' ')} }`,
      ),
    ),
  },
  {
    name: '200 guests in one request',
    isSignedIn: false,
    bodies: times(4, () =>
      bodyOf(
        `mutation { ${times(200, (k) => `g${k}: continueAsGuest(input: {}) { clientMutationId }`).join(' ')} }`,
      ),
    ),
  },
  {
    name: '50 × pages in pages',
    isSignedIn: true,
    bodies: times(50, () =>
      bodyOf('{tasks{nodes{user{tasks{nodes{user{goals{nodes{title}}}}}}}}}'),
    ),
  },
  {
    name: '50 × as many rows as allowed',
    isSignedIn: true,
    bodies: times(50, () =>
      bodyOf('{ tasks { nodes { title user { tasks { nodes { title description } } } } } }'),
    ),
  },
  {
    name: '40 × a response of 90 MB',
    isSignedIn: true,
    bodies: times(40, () =>
      bodyOf(`{ reflections { nodes { ${times(60, (k) => `c${k}: content`).join(' ')} } } }`),
    ),
  },
  {
    name: '4 × 20 clients that do not read',
    isSignedIn: true,
    isUnread: true,
    bodies: times(80, () => bodyOf('{ reflections(first: 90) { nodes { content } } }')),
  },
  {
    name: 'a search for 900 KB',
    isSignedIn: true,
    bodies: times(8, () =>
      bodyOf(
        'query ($s: String) { tasks(filter: { search: $s }) { totalCount } searchTasks(query: $s) { totalCount } }',
        { s: 'word '.repeat(180_000) },
      ),
    ),
  },
  {
    name: 'a filter nested 3,000 deep',
    isSignedIn: true,
    bodies: times(
      8,
      () =>
        `{"query":"query ($f: TaskFilter) { tasks(filter: $f) { totalCount } }","variables":{"f":${'{"not":'.repeat(3_000)}{}${'}'.repeat(3_000)}}}`,
    ),
  },
  {
    name: '100,000 braces',
    isSignedIn: false,
    bodies: times(8, () => bodyOf('{'.repeat(100_000))),
  },
  {
    name: 'JSON nested 400,000 deep',
    isSignedIn: false,
    bodies: times(
      4,
      () =>
        `{"query":"{ __typename }","variables":{"a":${'['.repeat(400_000)}${']'.repeat(400_000)}}}`,
    ),
  },
];

export interface Sent {
  statuses: Map<string, number>;
  seconds: number;
}

const headersOf = (token: string | undefined): Record<string, string> => ({
  'content-type': 'application/json',
  ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
});

/** Sends all requests of an attack at once, and reads what comes, within some seconds. */
export async function send(
  attack: Attack,
  { port, token, withinMs }: { port: number; token: string; withinMs: number },
): Promise<Sent> {
  const began = performance.now();
  const statuses = new Map<string, number>();
  const count = (status: string) => statuses.set(status, (statuses.get(status) ?? 0) + 1);
  const headers = headersOf(attack.isSignedIn ? token : undefined);
  if (attack.isUnread === true) {
    const sockets = attack.bodies.map((body): Socket => {
      const socket = connect(port, '127.0.0.1');
      socket.pause();
      socket.on('error', () => {});
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(
        `POST /graphql HTTP/1.1\r\nhost: h\r\n${lines.join('')}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
      return socket;
    });
    await new Promise((resolve) => setTimeout(resolve, withinMs));
    for (const socket of sockets) socket.destroy();
    count('unread');
  } else {
    const dispatcher = new Agent({ headersTimeout: withinMs, bodyTimeout: withinMs });
    await Promise.all(
      attack.bodies.map(async (body) => {
        try {
          const options = { method: 'POST' as const, dispatcher, headers, body };
          const response = await request(`http://127.0.0.1:${port}/graphql`, options);
          for await (const _ of response.body);
          count(String(response.statusCode));
        } catch (error) {
          count((error as { code?: string }).code ?? 'failed');
        }
      }),
    );
    await dispatcher.destroy();
  }
  return { statuses, seconds: (performance.now() - began) / 1_000 };
}

/** Memory of a process now, or its most ever, in megabytes; NaN when it has ended. */
export const memoryOf = (pid: number, line: 'VmRSS' | 'VmHWM'): number => {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Math.round(Number(new RegExp(`${line}:\\s+(\\d+)`).exec(text)?.[1]) / 1024);
  } catch {
    return Number.NaN;
  }
};

/**
 * Asks as somebody who does no harm, one request after the other, until something is over.
 *
 * @returns how long each answer took, in milliseconds, the shortest first
 * @throws what ended the other work
 */
export async function askAlong(
  who: { port: number; token: string; withinMs: number },
  during: Promise<unknown>,
): Promise<number[]> {
  const worker = new Worker(new URL('./asking.ts', import.meta.url), {
    workerData: who,
    execArgv: [],
  });
  const answered = once(worker, 'message') as Promise<[number[]]>;
  try {
    // A thread that fails is heard of before it is over.
    await Promise.race([during, answered]);
  } finally {
    worker.postMessage('over');
  }
  const [took] = await answered;
  return took;
}

/** Gives a user what the attacks ask for. */
export async function giveRows(sql: Sql, userId: string): Promise<void> {
  await sql`insert into app_public.tasks (user_id, title, description)
    select ${userId}, 'task ' || n, repeat('words and words ', 20) from generate_series(1, 200) as n`;
  await sql`insert into app_public.reflections (user_id, reflection_date, content)
    select ${userId}, date '2029-01-01' + n, repeat(md5(n::text), 780)
    from generate_series(1, 90) as n`;
}
