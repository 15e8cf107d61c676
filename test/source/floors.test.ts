import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';

/** From bottom to top. A name with a slash is a folder and all that is in it. */
const floors = [
  [
    ...[
      'client-address.ts',
      'config.ts',
      'config-values.ts',
      'connections.ts',
      'environment.ts',
      'errors.ts',
      'html.ts',
      'http.ts',
    ],
    ...[
      'log-stream.ts',
      'log.ts',
      'mailbox.ts',
      'origins.ts',
      'process-log.ts',
      'project.ts',
      'tls.ts',
      'trace.ts',
    ],
    ...['tracing.ts', 'watchdog-thread.ts', 'watchdog.ts'],
  ],
  ['terminal/'],
  ['postgres/'],
  ['server/'],
  ['migrations/'],
  ['messages/', 'audit/', 'metrics/'],
  ['toolkit/'],
  ['api/', 'worker/', 'cdc/', 'up/', 'drill/'],
  ['commands/'],
  ['program.ts'],
  ['cli.ts'],
  ['bootstrap.mjs'],
];

/** Which floor a file stands on, and in which of its rooms; undefined for none. */
function placeOf(file: string): { floor: number; room: string } | undefined {
  for (const [floor, rooms] of floors.entries()) {
    const room = rooms.find((name) => (name.endsWith('/') ? file.startsWith(name) : file === name));
    if (room !== undefined) return { floor, room };
  }
  return undefined;
}

/** The files that a text imports from, whether it does so at once or when it is needed. */
function importsOf(file: string, text: string): string[] {
  const specifiers = [...text.matchAll(/\b(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]/g)];
  return specifiers.map(([, path = '']) => posix.join(posix.dirname(file), path));
}

/** What is wrong with a file, in sentences. */
function faultsOf(file: string, text: string): string[] {
  const own = placeOf(file);
  if (own === undefined) return [`src/${file} stands on no floor`];
  return importsOf(file, text).flatMap((target) => {
    const there = placeOf(target);
    if (there === undefined) return [`src/${file} imports src/${target}, which stands on no floor`];
    if (there.floor > own.floor) return [`src/${file} imports src/${target}, which is above it`];
    // The files on the ground are one room.
    if (own.floor > 0 && there.floor === own.floor && there.room !== own.room) {
      return [`src/${file} imports src/${target}, which is another process`];
    }
    return [];
  });
}

const sources = readdirSync(join(projectRoot, 'src'), { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => /\.(ts|mjs)$/.test(path))
  .sort();

test('every import points down', () => {
  expect(sources.length).toBeGreaterThan(100);
  const faults = sources.flatMap((file) =>
    faultsOf(file, readFileSync(join(projectRoot, 'src', file), 'utf8')),
  );
  expect(faults).toEqual([]);
});

test('every floor is in use', () => {
  const used = new Set(sources.map((file) => placeOf(file)?.room));
  expect(floors.flat().filter((room) => !used.has(room))).toEqual([]);
});

test.each([
  ['a static import', "import { up } from '../api/server.ts';"],
  ['an import of types', "import type {\n  Up,\n} from '../api/server.ts';"],
  ['an import for its effect', "import '../api/server.ts';"],
  ['an export', "export * from '../api/server.ts';"],
  ['a dynamic import', "const { up } = await import(\n  '../api/server.ts'\n);"],
  ['a type that is imported in place', "type Up = typeof import('../api/server.ts');"],
])('%s that points up is found', (_, text) => {
  expect(faultsOf('server/locate.ts', text)).toEqual([
    'src/server/locate.ts imports src/api/server.ts, which is above it',
  ]);
});

test('an import of one process by another is found', () => {
  expect(faultsOf('worker/worker.ts', "import { up } from '../api/server.ts';")).toEqual([
    'src/worker/worker.ts imports src/api/server.ts, which is another process',
  ]);
});

test('a file outside of every floor is found', () => {
  expect(faultsOf('helpers/all.ts', '')).toEqual(['src/helpers/all.ts stands on no floor']);
});
