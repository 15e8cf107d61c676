/** What one request may ask for. docs/reference/graphql.md lists the same numbers. */
export const limits = {
  /** Rows of a page; also how many it has unless fewer are asked for. */
  pageRows: 100,
  /** Rows that one field of a mutation writes. */
  bulkRows: 100,
  /** Groups of one response; a caller that needs more filters the rows. */
  groups: 1_000,
  /** How long a statement may run. */
  statementSeconds: 5,
  /** How long a request may be. */
  bodyBytes: 1_000_000,
  /** How long a request without a token may be. */
  anonymousBodyBytes: 100_000,
  /** How long the text of a document may be; variables may use the rest of the request. */
  documentBytes: 64_000,
  /** Words and signs of a document. */
  tokens: 20_000,
  /** Brackets in brackets, of a document and of variables. */
  nesting: 50,
  /** Values in the variables of a request. */
  variableValues: 20_000,
  /** Characters of a text in the variables; the longest column holds 200,000. */
  textLength: 250_000,
  /** Fields of a document, those of a fragment as often as it is spread. */
  selections: 1_500,
  /** Those of them that have fields of their own, each of which is several steps of a plan. */
  objects: 100,
  /** Fields of a query itself. */
  rootFields: 50,
  /** Fields of a mutation itself. */
  mutationFields: 10,
  /** Fields of a mutation that sign in. */
  signIns: 1,
  /** Rows that an operation may ask for, pages in pages multiplied. */
  rows: 12_000,
  /** Values that a response may have, estimated in the same way. */
  values: 60_000,
  /** Values of a response from which it waits for its turn: all that run at once have `values`. */
  largeValues: 3_000,
  /** How long a response may be. */
  responseBytes: 10_000_000,
  /** What may wait for clients that do not read their responses, all together. */
  unreadBytes: 30_000_000,
  /** How long a client may read nothing of a response that waits for it. */
  stallSeconds: 60,
  /** Memory for documents and their plans. */
  documentMemoryBytes: 50_000_000,
  /** Fields in fields. */
  depth: 12,
  /** Lists in lists. */
  listDepth: 4,
  /** How often a field may stand inside itself. */
  selfDepth: 2,
  /** Fields in fields of an introspection query; what graphql-js's own needs. */
  introspectionDepth: 15,
} as const;

/** The fields that sign in: each costs a hash of a password, or makes a user. */
export const signInFields: readonly string[] = [
  'login',
  'register',
  'continueAsGuest',
  'upgradeGuest',
];
