import { randomUUID } from 'node:crypto';
import type { Api } from '../../api/server.ts';
import { signAccessToken } from '../../api/tokens.ts';
import type { Json, JsonObject } from './graphql-documents.ts';

export interface Answer {
  data: Json;
  codes: string[];
  messages: string[];
  /** The whole answer as text, with node ids readable. */
  text: string;
}

/** Node ids are base64 of JSON; whose they are must be readable. */
const readable = (text: string): string =>
  text.replace(/WyJ[A-Za-z0-9+/_-]+=*/g, (id) => `${id} ${Buffer.from(id, 'base64')}`);

/** Asks an API in this process, as a user or as nobody. */
export class GraphqlClient {
  readonly #url: string;
  readonly #secret: string;
  asked = 0;

  constructor(api: Api, secret: string) {
    this.#url = `http://127.0.0.1:${api.port}/graphql`;
    this.#secret = secret;
  }

  async ask(document: string, variables: JsonObject, as: string | null): Promise<Answer> {
    this.asked += 1;
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (as !== null) {
      const claims = { sub: as, sid: randomUUID(), exp: Math.floor(Date.now() / 1000) + 600 };
      headers.authorization = `Bearer ${await signAccessToken(claims, this.#secret)}`;
    }
    const body = JSON.stringify({ query: document, variables });
    const response = await fetch(this.#url, { method: 'POST', headers, body });
    const answer = (await response.json()) as {
      data?: Json;
      errors?: { message: string; extensions?: { code?: string } }[];
    };
    const errors = answer.errors ?? [];
    return {
      data: answer.data ?? null,
      codes: errors.map(({ extensions }) => extensions?.code ?? ''),
      messages: errors.map(({ message }) => message),
      text: readable(JSON.stringify(answer)),
    };
  }
}

/** Every object of an answer, by its type. */
export function collectObjects(data: Json, into: Map<string, JsonObject[]>): void {
  if (Array.isArray(data)) {
    for (const element of data) collectObjects(element, into);
  } else if (typeof data === 'object' && data !== null) {
    const name = data.__typename;
    if (typeof name === 'string') into.set(name, [...(into.get(name) ?? []), data]);
    for (const value of Object.values(data)) collectObjects(value, into);
  }
}

/** The form of an answer: what is null, how many elements a list has. */
export function shapeOf(data: Json): Json {
  if (Array.isArray(data)) return data.map(shapeOf);
  if (data === null) return null;
  if (typeof data !== 'object') return 'value';
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, shapeOf(value)]));
}
