import type { GraphileConfig } from 'postgraphile/graphile-build';
import { GraphQLList, GraphQLNonNull, type GraphQLType } from 'postgraphile/graphql';

/** A list without nulls in it, itself null as before. */
function withoutNulls<Type extends GraphQLType>(type: Type): Type {
  if (type instanceof GraphQLNonNull) return new GraphQLNonNull(withoutNulls(type.ofType)) as Type;
  if (!(type instanceof GraphQLList) || type.ofType instanceof GraphQLNonNull) return type;
  return new GraphQLList(new GraphQLNonNull(type.ofType)) as Type;
}

const required = <Type extends GraphQLType>(type: Type): Type =>
  (type instanceof GraphQLNonNull ? type : new GraphQLNonNull(type)) as Type;

/**
 * What cannot be null is not nullable: the row that a mutation answers with (it fails when there is
 * none), and the elements of lists, given or answered. The fields of Query and Mutation stay
 * nullable, so that one that fails takes no other along.
 */
export const NotNullPlugin: GraphileConfig.Plugin = {
  name: 'NotNullPlugin',
  version: '1.0.0',
  schema: {
    hooks: {
      GraphQLObjectType_fields_field: {
        after: ['NotFoundPlugin'],
        callback(field, _build, { scope }) {
          if (scope.isMutationPayload !== true) return field;
          const { fieldName } = scope;
          const type = withoutNulls(field.type);
          // A function may answer with null, unless the tag @notNull of its comment says otherwise.
          const isOfRow =
            scope.isPgCreatePayloadType === true ||
            scope.isPgUpdatePayloadType === true ||
            scope.isPgDeletePayloadType === true;
          const isThere = fieldName === 'query' || (isOfRow && fieldName !== 'clientMutationId');
          return { ...field, type: isThere ? required(type) : type };
        },
      },
      GraphQLInputObjectType_fields_field(field, _build, { scope }) {
        return scope.isMutationInput === true
          ? { ...field, type: withoutNulls(field.type) }
          : field;
      },
      GraphQLObjectType_fields_field_args_arg(arg, _build, { scope }) {
        return scope.isRootQuery === true ? { ...arg, type: withoutNulls(arg.type) } : arg;
      },
    },
  },
};
