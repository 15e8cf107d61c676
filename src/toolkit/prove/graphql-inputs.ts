import { randomUUID } from 'node:crypto';
import {
  type GraphQLInputObjectType,
  getNamedType,
  isInputObjectType,
  isListType,
  isNonNullType,
} from 'postgraphile/graphql';
import { Disguise } from './disguise.ts';
import { type GraphqlResponse, shapeOf } from './graphql-client.ts';
import {
  type Context,
  disguised,
  isMisunderstood,
  refusals,
  sourceFor,
  watchRows,
} from './graphql-context.ts';
import {
  documentFor,
  type Field,
  inputValue,
  type Json,
  type JsonObject,
  rowType,
} from './graphql-documents.ts';
import type { Who } from './report.ts';

/** An input that names a row: where it stands, and whether it is a list of names. */
interface Place {
  path: string[];
  isList: boolean;
}

/** Inputs that can refer to a row; the keys of rows that are updated or deleted do not. */
function placesOf(field: Field, type: GraphQLInputObjectType, path: string[] = []): Place[] {
  const changes = /^(update|delete)/.test(field.name);
  return Object.values(type.getFields()).flatMap((input): Place[] => {
    const inner = getNamedType(input.type);
    const here = [...path, input.name];
    if (isInputObjectType(inner)) return placesOf(field, inner, here);
    if (inner.name !== 'UUID' || (changes && path.at(-1) !== 'patch')) return [];
    const bare = isNonNullType(input.type) ? input.type.ofType : input.type;
    return [{ path: here, isList: isListType(bare) }];
  });
}

/** A copy of an input with another value in one place. */
function withValue(input: JsonObject, [name, ...rest]: string[], value: Json): JsonObject {
  if (name === undefined) return input;
  const inner = input[name];
  if (rest.length === 0) return { ...input, [name]: value };
  const isList = Array.isArray(inner);
  const one = isList ? inner[0] : inner;
  const next = withValue(
    typeof one === 'object' && !Array.isArray(one) ? { ...one } : {},
    rest,
    value,
  );
  return { ...input, [name]: isList ? [next] : next };
}

const outcome = (response: GraphqlResponse): string =>
  JSON.stringify([response.codes, response.codes.length === 0 && shapeOf(response.data)]);

/**
 * Tries to refer to A's rows in every input of a mutation that names one, the rest being B's
 * own: A's row must be answered like one that does not exist.
 */
export async function proveInputs(
  context: Context,
  field: Field,
  who: Exclude<Who, 'A'>,
  as: string | null,
): Promise<void> {
  const { world, schema, client, report } = context;
  const [argument] = field.args;
  const type = argument && getNamedType(argument.type);
  if (argument === undefined || !isInputObjectType(type)) return;
  const object = `Mutation.${field.name}`;
  const isUpdate = /^update/.test(field.name);
  const name = rowType(schema, field);
  const [ofA, ofB] = [context.objects.get(name)?.[0], context.objectsOfB.get(name)?.[0]];

  /** Calls it with B's own values but one; undefined leaves that one B's too. */
  const call = async (place: Place, value?: Json): Promise<GraphqlResponse> => {
    // Other words each time, or what must be unique would be refused for that.
    const source = sourceFor(context, ofB, world.b, new Disguise(world.marksOfB));
    let input = inputValue(argument.type, argument.name, source) as JsonObject;
    if (isUpdate)
      input = withValue(input, 'patches' in input ? ['patches', 'patch'] : ['patch'], {});
    const own = source.values(place.path.at(-1) ?? '') ?? null;
    const given = value ?? (place.isList && !Array.isArray(own) ? [own] : own);
    const variables = { [argument.name]: withValue(input, place.path, given) };
    const response = await client.ask(
      documentFor(schema, 'mutation', field, variables, 0),
      variables,
      as,
    );
    await watchRows(context, object, who, `${field.name} ${JSON.stringify(variables)}`);
    return response;
  };

  for (const place of placesOf(field, type)) {
    const at = place.path.join('.');
    const mine = sourceFor(context, ofA).values(place.path.at(-1) ?? '');
    const theirs = mine ?? world.a.id;
    const asked: Json = place.isList && !Array.isArray(theirs) ? [theirs] : theirs;
    const nobodys = disguised(asked, context.disguise);
    const missing = JSON.stringify(nobodys) === JSON.stringify(asked) ? randomUUID() : nobodys;
    const [existing, nothing] = [await call(place, asked), await call(place, missing)];
    if (isMisunderstood([...existing.codes, ...nothing.codes])) {
      const messages = [...existing.errorMessages, ...nothing.errorMessages].join('; ');
      report.record(object, who, 'reference', 'cannot prove', `${at}: ${messages}`);
      continue;
    }
    const isRefused = (response: GraphqlResponse) =>
      response.codes.some((code) => refusals.test(code));
    report.record(object, who, 'reference', 'refused');
    report.record(object, who, 'infer', isRefused(existing) ? 'refused' : 'empty');
    if (outcome(existing) !== outcome(nothing)) {
      const [one, other] = [existing, nothing].map(({ codes }) => codes.join() || 'done');
      const detail = `${at}: A's: ${one}; nobody's: ${other}`;
      report.leak(object, who, 'infer', detail, existing.codes);
      if (existing.codes.length === 0 && /^(create|update|upsert)/.test(field.name)) {
        report.leak(object, who, 'reference', `refers to A's row: ${at}`, [at]);
      }
    } else if (!/^(create|update|upsert)/.test(field.name) || existing.codes.length === 0) {
      // A function may refuse for many reasons, as long as it is for the same.
    } else if (at.endsWith('.rowId')) {
      // The new row's own key, which refers to nothing.
    } else if (!isRefused(existing)) {
      // It must be this reference that is refused, or nothing is proved about it.
      const own = await call(place);
      const isByKey = existing.codes.includes('FOREIGN_KEY_VIOLATION');
      if (isByKey ? !own.codes.includes('FOREIGN_KEY_VIOLATION') : own.codes.length === 0) continue;
      const detail = `${at}: ${existing.errorMessages.join()}; its own: ${own.errorMessages.join()}`;
      report.record(object, who, 'reference', 'cannot prove', detail);
    }
  }
}
