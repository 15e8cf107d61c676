/** What one request may ask for. docs/reference/graphql.md lists the same numbers. */
export const limits = {
  /** Rows of a page; also how many it has unless fewer are asked for. */
  pageRows: 100,
  /** Groups of one response; a caller that needs more filters the rows. */
  groups: 1_000,
  /** How long a statement may run. */
  statementSeconds: 5,
  /** How long a request may be. */
  bodyBytes: 1_000_000,
  /** Fields in fields. */
  depth: 12,
  /** Lists in lists. */
  listDepth: 4,
  /** How often a field may stand inside itself. */
  selfDepth: 2,
  /** Fields in fields of an introspection query; what graphql-js's own needs. */
  introspectionDepth: 15,
} as const;
