import {
  type DocumentNode,
  type FragmentDefinitionNode,
  Kind,
  type SelectionSetNode,
} from 'postgraphile/graphql';

/** What the operations of a document select once their fragments are written out. */
export interface Expansion {
  /** Fields, each as often as it is selected, in all operations; and those of each fragment once. */
  selections: number;
  /** Those of them that have fields of their own: a plan has steps for each. */
  objects: number;
  /** What stands in all fragments, spread or not: validation reads it all. */
  inFragments: number;
  /** How many fragments spread one another in a row. */
  chain: number;
}

type Counted = Omit<Expansion, 'inFragments'>;

/**
 * Counts what a document selects, before anything else reads it: validation and planning write
 * fragments out, so that twenty fragments which spread each other twice are a million fields. A
 * fragment is counted once and its number added wherever it is spread, so the time is that of
 * reading the document.
 */
export function expand(document: DocumentNode): Expansion {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) {
      fragments.set(definition.name.value, definition);
    }
  }
  const known = new Map<string, Counted>();
  const open = new Set<string>();

  const ofFragment = (name: string): Counted => {
    const counted = known.get(name);
    if (counted !== undefined) return counted;
    const fragment = fragments.get(name);
    // Validation refuses what is not there, and what spreads itself.
    if (fragment === undefined || open.has(name)) return { selections: 1, objects: 0, chain: 0 };
    // A chain that is too long is refused anyway; its end would take as many frames of the stack.
    if (open.size > longestChain) return { selections: 1, objects: 0, chain: 1 };
    open.add(name);
    const inner = ofSet(fragment.selectionSet);
    open.delete(name);
    const result = { ...inner, chain: inner.chain + 1 };
    known.set(name, result);
    return result;
  };

  /** What stands in a fragment itself, at any depth. */
  const within = (set: SelectionSetNode): number =>
    set.selections.reduce(
      (sum, selection) =>
        sum +
        1 +
        ('selectionSet' in selection && selection.selectionSet !== undefined
          ? within(selection.selectionSet)
          : 0),
      0,
    );

  const ofSet = (set: SelectionSetNode): Counted => {
    let selections = 0;
    let objects = 0;
    let chain = 0;
    for (const selection of set.selections) {
      let inner: Counted | undefined;
      if (selection.kind === Kind.FRAGMENT_SPREAD) {
        inner = ofFragment(selection.name.value);
        // An empty fragment is work as well.
        selections += Math.max(inner.selections, 1);
      } else {
        if (selection.kind === Kind.FIELD) selections += 1;
        if (selection.selectionSet !== undefined) {
          inner = ofSet(selection.selectionSet);
          selections += inner.selections;
          if (selection.kind === Kind.FIELD) objects += 1;
        }
      }
      if (inner !== undefined) {
        objects += inner.objects;
        if (inner.chain > chain) chain = inner.chain;
      }
    }
    return { selections, objects, chain };
  };

  let selections = 0;
  let objects = 0;
  let inFragments = 0;
  let chain = 0;
  for (const definition of document.definitions) {
    if (definition.kind === Kind.OPERATION_DEFINITION) {
      const counted = ofSet(definition.selectionSet);
      selections += counted.selections;
      objects += counted.objects;
      chain = Math.max(chain, counted.chain);
    } else if (definition.kind === Kind.FRAGMENT_DEFINITION) {
      // Nobody may spread it: validation reads it all the same.
      const counted = ofFragment(definition.name.value);
      selections += definition.selectionSet.selections.length;
      inFragments += within(definition.selectionSet);
      chain = Math.max(chain, counted.chain);
    }
  }
  return { selections, objects, inFragments, chain };
}

/** Fragments in a row; a client's components hardly nest as deeply. */
export const longestChain = 50;
