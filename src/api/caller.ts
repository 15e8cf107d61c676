import type { PgCodecWithAttributes } from 'postgraphile/@dataplan/pg';
import { access, context, type FieldArgs, lambda, type Step } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';

/** The column that says whose a row is. It can only be the caller: row-level security sees to it. */
export const tenantKey = 'user_id';

const isTenantKey = (codec: PgCodecWithAttributes, attributeName: string): boolean =>
  attributeName === tenantKey &&
  codec.attributes[tenantKey] !== undefined &&
  codec.extensions?.pg?.schemaName === 'app_public';

/** Who asks; null without a token. */
export const callerStep = (): Step<string | null> =>
  lambda(
    access<string>(context().get('pgSettings') as Step, 'app.current_user_id'),
    (userId) => (userId === '' ? null : userId),
    true,
  );

/** What a field is given, and whose rows it is about, as if the client had said so. */
function withCaller(args: FieldArgs, name: string): FieldArgs {
  const isCaller = (path: unknown): boolean =>
    Array.isArray(path)
      ? path.length === 2 && path[0] === 'input' && path[1] === name
      : path === name;
  return Object.create(args, {
    [`$${name}`]: { get: callerStep },
    getRaw: { value: (path: never) => (isCaller(path) ? callerStep() : args.getRaw(path)) },
  });
}

/**
 * Nobody has to say who they are twice: the user's id is in the token. It is no argument of a
 * field that finds a row by its key, no filter and no order, and not in the names of keys. The key
 * itself still has it, so PostgreSQL is given `user_id = …` and plans for one partition.
 */
export const CallerPlugin: GraphileConfig.Plugin = {
  name: 'CallerPlugin',
  version: '1.0.0',
  after: ['PgSimplifyInflectionPlugin', 'PgRowByUniquePlugin', 'PgMutationUpdateDeletePlugin'],
  inflection: {
    replace: {
      _joinAttributeNames(previous, _preset, codec, names) {
        const telling = names.filter((name) => !isTenantKey(codec as never, name));
        return previous?.(codec, telling.length > 0 ? telling : names) ?? '';
      },
    },
  },
  schema: {
    entityBehavior: {
      pgCodecAttribute: {
        override: {
          provides: ['impliedCaller'],
          after: ['default', 'inferred'],
          callback: (behavior, [codec, attributeName]) =>
            isTenantKey(codec, attributeName)
              ? [behavior, '-filterBy', '-orderBy', '-groupBy']
              : behavior,
        },
      },
    },
    hooks: {
      GraphQLInputObjectType_fields(fields, build, { scope }) {
        const {
          pgResource: resource,
          isPgUpdateByKeysInputType,
          isPgDeleteByKeysInputType,
        } = scope;
        if (isPgUpdateByKeysInputType !== true && isPgDeleteByKeysInputType !== true) return fields;
        const codec = resource?.codec as PgCodecWithAttributes | undefined;
        if (codec?.attributes === undefined || !isTenantKey(codec, tenantKey)) return fields;
        const name = build.inflection.attribute({ codec, attributeName: tenantKey });
        const { [name]: _, ...others } = fields;
        return others;
      },
      GraphQLObjectType_fields_field(field, build, { scope }) {
        const { pgFieldResource: resource, isPgRowByUniqueConstraintField } = scope;
        const isByKeys =
          isPgRowByUniqueConstraintField === true ||
          /^constraint:resource:(update|delete)$/.test(scope.fieldBehaviorScope ?? '');
        const codec = resource?.codec as PgCodecWithAttributes | undefined;
        const { plan } = field;
        if (!isByKeys || plan === undefined || codec?.attributes === undefined) return field;
        if (!isTenantKey(codec, tenantKey)) return field;
        const name = build.inflection.attribute({ codec, attributeName: tenantKey });
        const { [name]: _, ...others } = field.args ?? {};
        return {
          ...field,
          ...(isPgRowByUniqueConstraintField === true ? { args: others } : {}),
          plan: ($parent, args, info) => plan($parent, withCaller(args, name), info),
        };
      },
    },
  },
};
