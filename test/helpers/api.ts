import { afterAll, beforeAll } from 'vitest';
import { type Api, type ApiOptions, startApi } from '../../src/api/server.ts';
import { createLog } from '../../src/log.ts';
import type { TestDatabase } from './database.ts';

export const jwtSecret = 'a secret of the tests, with more than 32 characters';

export interface GraphqlError {
  message: string;
  path?: (string | number)[];
  extensions: { code: string; field?: string; errorId?: string };
}

export interface Answer<Data = Record<string, unknown>> {
  status: number;
  data: Data;
  errors: GraphqlError[];
}

export class TestApi {
  api!: Api;
  /** The latest warnings and errors that it logged, where its log is silent. */
  readonly said: string[] = [];

  get origin(): string {
    return `http://127.0.0.1:${this.api.port}`;
  }

  /** Posts a GraphQL document, as a frontend does. */
  async query<Data = Record<string, unknown>>(
    query: string,
    variables: Record<string, unknown> = {},
    token?: string,
  ): Promise<Answer<Data>> {
    const response = await fetch(`${this.origin}/graphql`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify({ query, variables }),
    });
    const body = (await response.json()) as { data?: Data; errors?: GraphqlError[] };
    return { status: response.status, data: body.data as Data, errors: body.errors ?? [] };
  }

  /** The codes of the errors that a document is answered with. */
  async codes(
    query: string,
    variables: Record<string, unknown> = {},
    token?: string,
  ): Promise<string[]> {
    const { errors } = await this.query(query, variables, token);
    return errors.map(({ extensions }) => extensions.code);
  }

  /** Registers a user through the API. */
  async register(email: string, password = 'correct horse'): Promise<Session> {
    const { data, errors } = await this.query<{ register: { result: Session } }>(
      `mutation ($email: String!, $password: String!) {
        register(input: { email: $email, password: $password, firstName: "Test" }) {
          result { userId accessToken refreshToken }
        }
      }`,
      { email, password },
    );
    if (errors.length > 0) throw new Error([JSON.stringify(errors), ...this.said].join('\n'));
    return data.register.result;
  }
}

export interface Session {
  userId: string;
  accessToken: string;
  refreshToken: string;
}

/** Runs an API on the test file's database, on a port of its own. */
export function useApi(
  db: TestDatabase,
  logLevel = 'silent',
  options: Partial<ApiOptions> = {},
): TestApi {
  const test = new TestApi();
  const kept = {
    write: (line: string) => {
      test.said.push(line.trimEnd());
      if (test.said.length > 20) test.said.shift();
    },
  };
  beforeAll(async () => {
    test.api = await startApi({
      authenticatorUrl: db.url('authenticator'),
      jwtSecret,
      host: '127.0.0.1',
      port: 0,
      poolSize: 5,
      metrics: { sample: 1, slowMs: 1_000 },
      log: logLevel === 'silent' ? createLog('api', 'warn', kept) : createLog('api', logLevel),
      ...options,
    });
  });
  afterAll(() => test.api?.close());
  return test;
}
