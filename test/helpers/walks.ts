import {
  buildClientSchema,
  type GraphQLEnumType,
  type GraphQLField,
  type GraphQLObjectType,
  type GraphQLSchema,
  getIntrospectionQuery,
  getNamedType,
  getNullableType,
  isEnumType,
  isObjectType,
  isScalarType,
} from 'graphql';
import type { TestApi } from './api.ts';

/** A field that comes in pages, and how to reach it. */
export interface Connection {
  /** Such as "Query.tasks" or "Task.goals". */
  name: string;
  parent: string;
  /** The type of its rows. */
  row: string;
  field: string;
  /** The orders that it has; null is none. */
  orders: (string | null)[];
  /** What is read of each row: its scalar fields. */
  columns: string[];
  canGoBack: boolean;
}

const rowType = (field: GraphQLField<unknown, unknown>): GraphQLObjectType | undefined => {
  const type = getNamedType(field.type);
  const nodes = isObjectType(type) && type.name.endsWith('Connection') && type.getFields().nodes;
  const row = nodes ? getNamedType(nodes.type) : undefined;
  return isObjectType(row) ? row : undefined;
};

/** Every connection of a schema. */
export function connectionsOf(schema: GraphQLSchema): Connection[] {
  return Object.values(schema.getTypeMap())
    .filter(isObjectType)
    .flatMap((type) =>
      Object.values(type.getFields()).flatMap((field): Connection[] => {
        const row = rowType(field);
        if (row === undefined) return [];
        const orderBy = field.args.find(({ name }) => name === 'orderBy');
        const values = orderBy === undefined ? [] : getNamedType(orderBy.type);
        return [
          {
            name: `${type.name}.${field.name}`,
            parent: type.name,
            row: row.name,
            field: field.name,
            orders: [
              null,
              ...(isEnumType(values)
                ? (values as GraphQLEnumType).getValues().map(({ name }) => name)
                : []),
            ],
            columns: Object.values(row.getFields())
              .filter(({ args, type: of }) => {
                const named = getNamedType(getNullableType(of));
                return args.length === 0 && (isScalarType(named) || isEnumType(named));
              })
              .map(({ name }) => name),
            canGoBack: field.args.some(({ name }) => name === 'last'),
          },
        ];
      }),
    );
}

/** The schema as a client sees it. */
export async function clientSchema(api: TestApi): Promise<GraphQLSchema> {
  const { data } = await api.query(getIntrospectionQuery());
  return buildClientSchema(data as never);
}

/** A row as its scalar fields. */
export type Node = Record<string, unknown>;

export interface Page {
  nodes: Node[];
  pageInfo: {
    endCursor: string | null;
    startCursor: string | null;
    hasNextPage: boolean;
    hasPreviousPage: boolean;
  };
  totalCount: number;
}

export interface Walk {
  order: string | null;
  direction: 'forward' | 'backward';
  /** In the order of the connection, whichever way it was walked. */
  nodes: Node[];
  totalCount: number;
  isOver: boolean;
  /** What went wrong, if something did. */
  error?: string;
  cursor: string | null;
}

/** Asks for several pages of a connection at once; their cursors are $c0, $c1 and so on. */
export type Ask = (selections: string, cursors: (string | null)[]) => Promise<Record<string, Page>>;

const pageSize = 3;
const together = 8;

/**
 * Walks a connection in every order, both ways, in pages of three.
 *
 * @param given arguments that the field needs, without which it is not about pages
 */
export async function walkAll(
  { orders, columns, field, canGoBack }: Connection,
  given: string | undefined,
  ask: Ask,
  most = 60,
): Promise<Walk[]> {
  const walks = orders.flatMap((order) =>
    (canGoBack ? (['forward', 'backward'] as const) : (['forward'] as const)).map(
      (direction): Walk => ({
        ...{ order, direction, nodes: [], totalCount: -1, isOver: false, cursor: null },
      }),
    ),
  );
  // Cursors are variables: the document of all pages is one, and is planned once.
  const select = ({ direction, order }: Walk, index: number): string => {
    const args = [
      ...(given === undefined ? [] : [given]),
      ...(order === null ? [] : [`orderBy: ${order}`]),
      direction === 'forward' ? `first: ${pageSize}, after: $c${index}` : '',
      direction === 'backward' ? `last: ${pageSize}, before: $c${index}` : '',
    ].filter((arg) => arg !== '');
    return `w${index}: ${field}(${args.join(', ')}) { nodes { ${columns.join(' ')} } totalCount
      pageInfo { endCursor startCursor hasNextPage hasPreviousPage } }`;
  };
  for (let start = 0; start < walks.length; start += together) {
    const group = walks.slice(start, start + together);
    const selections = group.map(select).join('\n');
    while (group.some(({ isOver }) => !isOver)) {
      const pages = await ask(
        selections,
        group.map(({ cursor }) => cursor),
      );
      group.forEach((walk, index) => {
        if (!walk.isOver) take(walk, pages[`w${index}`] as Page, most);
      });
    }
  }
  return walks;
}

/** Adds a page to a walk. */
function take(walk: Walk, { nodes, pageInfo, totalCount }: Page, most: number): void {
  walk.totalCount = totalCount;
  if (walk.direction === 'forward') {
    walk.nodes.push(...nodes);
    walk.cursor = pageInfo.endCursor;
    walk.isOver = !pageInfo.hasNextPage;
  } else {
    walk.nodes.unshift(...nodes);
    walk.cursor = pageInfo.startCursor;
    walk.isOver = !pageInfo.hasPreviousPage;
  }
  if (walk.nodes.length > most) {
    walk.isOver = true;
    walk.error = 'has no end';
  }
}
