import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  getNullableType,
  getOperationAST,
  isInterfaceType,
  isListType,
  isObjectType,
  Kind,
  type SelectionSetNode,
  valueFromASTUntyped,
} from 'postgraphile/graphql';
import { limits } from '../limits.ts';

/** What an operation may ask for at most, with these variables. */
export interface Cost {
  /** Rows of all pages, those of inner pages as often as there are outer rows. */
  rows: number;
  /** Values that the response would have. */
  values: number;
  /** Fields that have fields of their own. */
  objects: number;
  /** The fields of the operation itself, by name, aliases aside. */
  rootFields: string[];
}

/** Elements of a list that is no page, such as the days of a change. */
const usualList = 10;

interface Sum {
  rows: number;
  values: number;
}

type Variables = Readonly<Record<string, unknown>> | null | undefined;

function argumentOf(field: FieldNode, name: string, variables: Variables): unknown {
  const argument = field.arguments?.find((one) => one.name.value === name);
  if (argument === undefined) return undefined;
  return valueFromASTUntyped(argument.value, variables as never);
}

/** How many rows a field returns at most. */
function lengthOf(
  field: FieldNode,
  definition: { type: unknown; args: readonly { name: string }[] },
  variables: Variables,
): number {
  const isPaged = definition.args.some(({ name }) => name === 'first');
  if (isPaged) {
    for (const name of ['first', 'last']) {
      const asked = argumentOf(field, name, variables);
      // More than a page has is refused later.
      if (typeof asked === 'number' && asked >= 0) return Math.min(asked, limits.pageRows);
    }
    return limits.pageRows;
  }
  // There may be more, and mostly there are a few.
  if (field.name.value === 'groupedAggregates') return limits.pageRows;
  return isListType(getNullableType(definition.type as never)) ? usualList : 1;
}

/** The rows of a connection are in these; without them it has none, such as with totalCount alone. */
const isInnerList = (parent: GraphQLNamedType, name: string): boolean =>
  parent.name.endsWith('Connection') && (name === 'nodes' || name === 'edges');

/** The rows that a mutation of many has written. */
const isBulk = (parent: GraphQLNamedType, type: unknown): boolean =>
  parent.name.endsWith('Payload') && isListType(getNullableType(type as never));

/**
 * Estimates what an operation asks for, from its document and variables alone: before anything is
 * planned. Fragments are written out, so what they select has been counted before.
 */
export function costOf(
  schema: GraphQLSchema,
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Variables,
): Cost {
  const operation = getOperationAST(document, operationName);
  const root = operation == null ? undefined : schema.getRootType(operation.operation);
  const cost: Cost = { rows: 0, values: 0, objects: 0, rootFields: [] };
  if (operation == null || root == null) return cost;
  const defaults: Record<string, unknown> = {};
  for (const { variable, defaultValue } of operation.variableDefinitions ?? []) {
    if (defaultValue !== undefined) {
      defaults[variable.name.value] = valueFromASTUntyped(defaultValue);
    }
  }
  const values: Variables = { ...defaults, ...variables };
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) {
      fragments.set(definition.name.value, definition);
    }
  }

  const ofField = (field: FieldNode, parent: GraphQLNamedType, length: number): Sum => {
    const definition =
      isObjectType(parent) || isInterfaceType(parent)
        ? parent.getFields()[field.name.value]
        : undefined;
    if (definition === undefined || field.selectionSet === undefined) return { rows: 0, values: 1 };
    cost.objects += 1;
    const type = getNamedType(definition.type);
    const isConnection = type.name.endsWith('Connection');
    const asked = isInnerList(parent, field.name.value)
      ? length
      : isBulk(parent, definition.type)
        ? limits.bulkRows
        : lengthOf(field, definition, values);
    const times = isConnection ? 1 : asked;
    const inner = ofSet(field.selectionSet, type, asked);
    const own = times > 1 ? times : 0;
    return { rows: own + times * inner.rows, values: 1 + times * inner.values };
  };

  const ofSet = (set: SelectionSetNode, parent: GraphQLNamedType, length: number): Sum => {
    const sum: Sum = { rows: 0, values: 0 };
    for (const selection of set.selections) {
      let part: Sum;
      if (selection.kind === Kind.FIELD) part = ofField(selection, parent, length);
      else {
        const inner =
          selection.kind === Kind.FRAGMENT_SPREAD ? fragments.get(selection.name.value) : selection;
        if (inner === undefined) continue;
        const named = inner.typeCondition?.name.value;
        const type = named === undefined ? parent : (schema.getType(named) ?? parent);
        part = ofSet(inner.selectionSet, type, length);
      }
      sum.rows += part.rows;
      sum.values += part.values;
    }
    return sum;
  };

  const collectRoots = (set: SelectionSetNode): void => {
    for (const selection of set.selections) {
      if (cost.rootFields.length > limits.selections) return;
      if (selection.kind === Kind.FIELD) cost.rootFields.push(selection.name.value);
      else if (selection.kind === Kind.INLINE_FRAGMENT) collectRoots(selection.selectionSet);
      else {
        const fragment = fragments.get(selection.name.value);
        if (fragment !== undefined) collectRoots(fragment.selectionSet);
      }
    }
  };

  collectRoots(operation.selectionSet);
  return Object.assign(cost, ofSet(operation.selectionSet, root, 1));
}
