import { createHash } from 'node:crypto';
import {
  type DocumentNode,
  getOperationAST,
  Kind,
  type OperationDefinitionNode,
  print,
  visit,
} from 'postgraphile/graphql';

/** What tells one operation or statement from another, without any value of it. */
export interface QueryName {
  /** At most 100 characters. */
  name: string;
  /** SHA-256, hexadecimal, of the text with its literals left out. */
  hash: string;
}

export interface OperationInfo {
  kind: 'query' | 'mutation' | 'subscription';
  /** The operation's name in the document, or its first field. */
  name: string;
  /** Its root field, which the schema has; `several`, where there are more. */
  field: string;
  document: DocumentNode;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** A cache that forgets what it learnt first. */
class Bounded<Key, Value> {
  readonly #entries = new Map<Key, Value>();

  get(key: Key, make: () => Value): Value {
    let value = this.#entries.get(key);
    if (value === undefined) {
      value = make();
      if (this.#entries.size >= 1000) {
        const [oldest] = this.#entries.keys();
        this.#entries.delete(oldest as Key);
      }
      this.#entries.set(key, value);
    }
    return value;
  }
}

function nameOf(operation: OperationDefinitionNode): string {
  if (operation.name !== undefined) return operation.name.value;
  const field = operation.selectionSet.selections.find(({ kind }) => kind === Kind.FIELD);
  return field?.kind === Kind.FIELD ? field.name.value : 'anonymous';
}

/** Names of fields are the schema's, and few; those of operations are whatever a client says. */
function fieldOf({ selectionSet: { selections } }: OperationDefinitionNode): string {
  const names = new Set(
    selections.map((one) => (one.kind === Kind.FIELD ? one.name.value : 'fragment')),
  );
  const [only] = names;
  return names.size === 1 && only !== undefined && only !== 'fragment' ? only : 'several';
}

const operations = new WeakMap<DocumentNode, Map<string, OperationInfo>>();

/**
 * Which operation of a document runs. Documents are remembered as long as the server keeps
 * them parsed.
 */
export function describeOperation(
  document: DocumentNode,
  operationName: string | null | undefined,
): OperationInfo | undefined {
  let known = operations.get(document);
  if (known === undefined) {
    known = new Map();
    operations.set(document, known);
  }
  const key = operationName ?? '';
  let info = known.get(key);
  if (info === undefined) {
    const operation = getOperationAST(document, operationName);
    if (operation == null) return undefined;
    info = {
      kind: operation.operation,
      name: nameOf(operation).slice(0, 80),
      field: fieldOf(operation),
      document,
    };
    known.set(key, info);
  }
  return info;
}

const documentHashes = new WeakMap<DocumentNode, string>();

/** The hash of a document, the same whatever literals stand in it. */
export function documentHash(document: DocumentNode): string {
  let hash = documentHashes.get(document);
  if (hash === undefined) {
    const bare = visit(document, {
      IntValue: (node) => ({ ...node, value: '0' }),
      FloatValue: (node) => ({ ...node, value: '0' }),
      StringValue: (node) => ({ ...node, value: '', block: false }),
      ListValue: (node) => ({ ...node, values: [] }),
    });
    hash = sha256(print(bare));
    documentHashes.set(document, hash);
  }
  return hash;
}

const statements = new Bounded<string, QueryName>();

/** A statement's verb and first table or function, and the hash of its text. */
export function describeStatement(text: string): QueryName {
  return statements.get(text, () => {
    const normal = text
      .replace(/'(?:[^']|'')*'/g, "'?'")
      .replace(/(?<![\w$"])\d+(?:\.\d+)?/g, '0')
      .replace(/\s+/g, ' ')
      .trim();
    const verb = /^[a-z]+/i.exec(normal)?.[0].toLowerCase() ?? 'statement';
    const object = /\b(?:from|into|update|join) "?(\w+)"?\."?(\w+)"?/i.exec(normal);
    const name = object === null ? verb : `${verb} ${object[1]}.${object[2]}`;
    return { name: name.slice(0, 100), hash: sha256(normal) };
  });
}
