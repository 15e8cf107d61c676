import { type ASTNode, type DocumentNode, GraphQLError, Kind, visit } from 'postgraphile/graphql';

export const noNullBytes = 'a text has no null characters';

/** The name under which a value stands in a document: that of its field, or of its argument. */
function nameOf(
  parent: ASTNode | readonly ASTNode[] | undefined,
  ancestors: readonly (ASTNode | readonly ASTNode[])[],
): string | undefined {
  for (const one of [...ancestors, parent].toReversed()) {
    if (one === undefined || !('kind' in one)) continue;
    if (one.kind === Kind.OBJECT_FIELD || one.kind === Kind.ARGUMENT) return one.name.value;
  }
  return undefined;
}

const invalid = (message: string, node: ASTNode, field: string | undefined): GraphQLError =>
  new GraphQLError(message, {
    nodes: node,
    extensions: { code: 'VALIDATION_FAILED', ...(field === undefined ? {} : { field }) },
  });

/** Texts in a document that PostgreSQL cannot hold. */
export function refuseNullBytes(document: DocumentNode): GraphQLError[] {
  const errors: GraphQLError[] = [];
  visit(document, {
    StringValue(node, _key, parent, _path, ancestors) {
      if (!node.value.includes('\0')) return;
      errors.push(invalid(noNullBytes, node, nameOf(parent, ancestors)));
    },
  });
  return errors;
}

/** What is wrong with values of a document, in the words of their scalars and with their fields. */
export function explain(
  document: DocumentNode,
  errors: readonly GraphQLError[],
): readonly GraphQLError[] {
  const wrong = errors.filter(({ extensions }) => extensions.code === 'VALIDATION_FAILED');
  if (wrong.length === 0) return errors;
  const names = new Map<ASTNode, string | undefined>();
  const nodes = new Set(wrong.map((error) => error.nodes?.[0]));
  visit(document, {
    enter(node, _key, parent, _path, ancestors) {
      if (nodes.has(node)) names.set(node, nameOf(parent, ancestors));
    },
  });
  return errors.map((error) => {
    const [node] = error.nodes ?? [];
    if (!wrong.includes(error) || node === undefined) return error;
    return invalid(error.originalError?.message ?? error.message, node, names.get(node));
  });
}
