import type { Mutant } from '../mutant.ts';

const change = (file: string, fault: string, find: string, replace: string, tests: string[]) => ({
  ...{ fault, file, find, replace, tests },
});

const origins = ['api/cross-origin'];
const http = ['api/http'];
const forms = ['api/forms'];
const bulk = ['api/bulk'];
const topics = ['api/live-topics'];
const pooler = ['api/pooler'];

export const mutants: Mutant[] = [
  change(
    'src/origins.ts',
    'pages of every origin may use the API',
    'return (asked) => origins.some((matches) => matches(asked));',
    'return (asked) => origins.length > 0 || asked === "";',
    origins,
  ),
  change(
    'src/origins.ts',
    'the star of an origin stands for several labels',
    '/^[a-z0-9_-]+$/.test(',
    '/^[a-z0-9._-]+$/.test(',
    origins,
  ),
  change(
    'src/api/routes.ts',
    'a page cannot read why it was refused',
    '      if (options.crossOrigin?.(request, response) === true) return;\n',
    "      if (request.method === 'OPTIONS' && options.crossOrigin?.(request, response)) return;\n",
    origins,
  ),
  change(
    'src/api/compression.ts',
    'what a client does not accept is sent',
    "const encoding = accepted.includes('br') ? 'br' : accepted[0];",
    "const encoding = accepted.length > 0 ? 'br' : 'br';",
    http,
  ),
  change(
    'src/api/preset.ts',
    'a query by GET is refused',
    'graphqlOverGET: true',
    'graphqlOverGET: false',
    http,
  ),
  change(
    'src/api/live/sockets.ts',
    'a client gives up when its token expires',
    '  expired: 4403,',
    '  expired: 4401,',
    ['clients/graphql-ws', 'api/live-sockets'],
  ),
  change(
    'src/api/scalars.ts',
    '30 February is a day',
    'return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);',
    "return text !== '' && day instanceof Date;",
    forms,
  ),
  change(
    'src/api/check-enums.ts',
    'urgent comes before low',
    "direction: variant === 'asc' ? 'ASC' : 'DESC',",
    "direction: variant === 'asc' ? 'DESC' : 'ASC',",
    forms,
  ),
  change(
    'src/api/violations.ts',
    'only the first wrong field is told',
    'names.get(error)?.filter((name) => name !== cause.constraint)',
    'names.get(error)?.filter((name) => name === "")',
    forms,
  ),
  change(
    'src/api/documents/sizes.ts',
    'null characters reach the database',
    "if (typeof one === 'string' && one.includes('\\0')) return { limit: 'nulls', field };",
    '',
    forms,
  ),
  change(
    'src/api/refusals.ts',
    'a global id that is none succeeds',
    "const $result = trap(payload.get('result'), TRAP_INHIBITED, { valueForInhibited: 'NULL' });",
    "const $result = TRAP_INHIBITED > 0 && trap !== undefined ? payload.get('result') : payload;",
    forms,
  ),
  change(
    'src/api/errors.ts',
    'nobody is told that they may not, in place of who they are',
    "return isAnonymous\n        ? { message: 'sign in first', code: 'UNAUTHENTICATED' }",
    "return isAnonymous && field === ''\n        ? { message: 'sign in first', code: 'UNAUTHENTICATED' }",
    forms,
  ),
  change(
    'src/api/bulk/write.ts',
    'of many rows, those that are not there are passed over',
    'const lost = mustFind ? all.filter((index) => !places.has(index)) : [];',
    'const lost = mustFind ? all.filter((index) => places.size < 0 && index < 0) : [];',
    bulk,
  ),
  change(
    'src/api/bulk/write.ts',
    'many rows come back in any order',
    '[...written].sort((one, other) => Number(one.place_) - Number(other.place_))',
    '[...written].sort((one, other) => Number(other.place_) - Number(one.place_))',
    bulk,
  ),
  change(
    'src/api/bulk/plugin.ts',
    'of two changes of a row one is lost',
    'if (seen.has(text)) {',
    'if (seen.has(text) && seen.size === 0) {',
    bulk,
  ),
  change(
    'src/api/bulk/plugin.ts',
    'a thousand rows are written at once',
    'rows.length <= limits.bulkRows',
    'rows.length <= 10 * limits.bulkRows',
    bulk,
  ),
  change(
    'src/api/live/hub.ts',
    "a chat's follower hears of all chats",
    'return partTopics.includes(this.topic) && key.startsWith(`${this.#only} `);',
    'return partTopics.includes(this.topic);',
    topics,
  ),
  change(
    'src/api/live/hub.ts',
    'many days of a habit are one that is not there',
    'if (this.#only === undefined || partTopics.includes(this.topic)) this.#many = true;',
    'if (this.#only === undefined) this.#many = true;',
    topics,
  ),
  change(
    'migrations/fixtures/functions/app_public/search_tasks.sql',
    "a search finds another user's tasks",
    'where tasks.user_id = app_hidden.current_app_user_id()\n    -- In a query of its own, which runs once and not for each row.\n    and tasks',
    'where tasks',
    ['api/planner'],
  ),
  change(
    'src/api/prepared.ts',
    'a statement that the server has forgotten fails for ever',
    '        if (!isOutlived(error)) throw error;\n',
    '        if (isOutlived(error) || used === undefined) throw error;\n',
    pooler,
  ),
  change(
    'src/api/pooler.ts',
    'a pooler in transaction mode is taken for a server',
    'if (isOwn) return;',
    'if (isOwn || before > 0) return;',
    pooler,
  ),
];
