import { createClient } from 'graphql-ws';
import type { Json, JsonObject } from './graphql-documents.ts';

/** An API that is served for this alone. */
export interface ServedApi {
  /** Where it takes GraphQL. */
  url: string;
  /** An access token of a user, of a session that nobody has ended. */
  tokenOf(userId: string): Promise<string>;
  close(): Promise<void>;
}

export interface GraphqlResponse {
  data: Json;
  codes: string[];
  errorMessages: string[];
  /** The whole response as text, with node ids readable. */
  text: string;
}

/** A subscription, and what it was told so far. */
export interface Followed {
  /** Its events as text, with node ids readable. */
  readonly texts: string[];
  readonly codes: string[];
  isOver: boolean;
  /** Resolves when it has ended, or when it takes longer than that. */
  over(milliseconds: number): Promise<void>;
  stop(): void;
}

/** Node ids are base64 of JSON; whose they are must be readable. */
const readable = (text: string): string =>
  text.replace(/WyJ[A-Za-z0-9+/_-]+=*/g, (id) => `${id} ${Buffer.from(id, 'base64')}`);

/** Asks an API, as a user or as nobody. */
export class GraphqlClient {
  readonly #api: ServedApi;
  asked = 0;

  constructor(api: ServedApi) {
    this.#api = api;
  }

  async ask(document: string, variables: JsonObject, as: string | null): Promise<GraphqlResponse> {
    this.asked += 1;
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (as !== null) headers.authorization = `Bearer ${await this.#api.tokenOf(as)}`;
    const body = JSON.stringify({ query: document, variables });
    const response = await fetch(this.#api.url, { method: 'POST', headers, body });
    const received = (await response.json()) as {
      data?: Json;
      errors?: { message: string; extensions?: { code?: string } }[];
    };
    const errors = received.errors ?? [];
    return {
      data: received.data ?? null,
      codes: errors.map(({ extensions }) => extensions?.code ?? ''),
      errorMessages: errors.map(({ message }) => message),
      text: readable(JSON.stringify(received)),
    };
  }

  /** Subscribes, as a user or as nobody. */
  async follow(document: string, variables: JsonObject, as: string | null): Promise<Followed> {
    this.asked += 1;
    const client = createClient({
      url: this.#api.url.replace(/^http/, 'ws'),
      retryAttempts: 0,
      connectionParams:
        as === null ? {} : { authorization: `Bearer ${await this.#api.tokenOf(as)}` },
    });
    let end = (): void => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const followed: Followed = {
      ...{ texts: [], codes: [], isOver: false },
      over: (milliseconds) =>
        Promise.race([
          ended,
          new Promise<void>((resolve) => setTimeout(resolve, milliseconds).unref()),
        ]),
      stop: () => void client.dispose(),
    };
    const note = (errors: readonly { extensions?: { code?: unknown } }[]): void => {
      followed.codes.push(...errors.map(({ extensions }) => String(extensions?.code ?? '')));
    };
    const over = (): void => {
      followed.isOver = true;
      end();
    };
    client.subscribe(
      { query: document, variables },
      {
        next: (result) => {
          followed.texts.push(readable(JSON.stringify(result)));
          note(result.errors ?? []);
        },
        error: (error) => {
          note(Array.isArray(error) ? error : []);
          over();
        },
        complete: over,
      },
    );
    return followed;
  }
}

/** Every object of a response, by its type. */
export function collectObjects(data: Json, into: Map<string, JsonObject[]>): void {
  if (Array.isArray(data)) {
    for (const element of data) collectObjects(element, into);
  } else if (typeof data === 'object' && data !== null) {
    const name = data.__typename;
    if (typeof name === 'string') into.set(name, [...(into.get(name) ?? []), data]);
    for (const value of Object.values(data)) collectObjects(value, into);
  }
}

/** The form of a response: what is null, how many elements a list has. */
export function shapeOf(data: Json): Json {
  if (Array.isArray(data)) return data.map(shapeOf);
  if (data === null) return null;
  if (typeof data !== 'object') return 'value';
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, shapeOf(value)]));
}
