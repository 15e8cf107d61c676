import type { PgCodecWithAttributes, PgResource } from 'postgraphile/@dataplan/pg';
import { tenantKey } from '../caller.ts';
import type { Target } from './statements.ts';

declare global {
  namespace DataplanPg {
    interface PgResourceUniqueExtensions {
      /** Whether it is checked at the end of a transaction. */
      isDeferrable?: boolean;
    }
  }
}

export type Build = GraphileBuild.Build;
export type Kind = 'create' | 'update' | 'delete' | 'upsert';

/** A mutation of many rows, or an upsert. */
export interface Mutation {
  kind: Kind;
  resource: PgResource;
  target: Target;
  field: string;
  /** Of the rows in the payload: one for an upsert, otherwise several. */
  rows: string;
  input: string;
  payload: string;
  tableType: string;
  /** The input's field that holds the rows, and the type of one. */
  list: string;
  item: string;
}

/** The tables of users' own rows, with what may be done to them one by one. */
export function* mutationsOf(build: Build): Generator<Mutation> {
  const { inflection, behavior } = build;
  for (const resource of Object.values(build.pgResources) as PgResource[]) {
    const codec = resource.codec as PgCodecWithAttributes;
    const { attributes } = codec;
    if (resource.parameters !== undefined || attributes?.[tenantKey] === undefined) continue;
    const primary = resource.uniques.find(({ isPrimary }) => isPrimary);
    // A user has one row of such a table.
    if (primary === undefined || primary.attributes.length < 2) continue;
    const tableType = inflection.tableType(codec);
    const allowed = (what: 'attribute:insert' | 'attribute:update') =>
      Object.keys(attributes).filter((name) =>
        behavior.pgCodecAttributeMatches([codec, name], what),
      );
    const target = (key: readonly string[]): Target => ({
      resource,
      columns: attributes,
      insertable: allowed('attribute:insert'),
      updatable: allowed('attribute:update'),
      key: key.filter((column) => column !== tenantKey),
      primaryKey: [...primary.attributes],
      tenantKey,
    });
    const many = inflection.pluralize(tableType);
    const named = (kind: Kind, type: string, key: readonly string[], list: string): Mutation => ({
      ...{ kind, resource, target: target(key), tableType, list },
      field: inflection.camelCase(`${kind}-${type}`),
      rows: inflection.camelCase(type),
      input: inflection.upperCamelCase(`${kind}-${type}-input`),
      payload: inflection.upperCamelCase(`${kind}-${type}-payload`),
      item:
        kind === 'create' || kind === 'upsert'
          ? inflection.inputType(tableType)
          : inflection.upperCamelCase(`${kind}-${type}-item`),
    });
    const mayInsert = behavior.pgResourceMatches(resource, 'resource:insert');
    const mayUpdate = behavior.pgResourceUniqueMatches(
      [resource, primary],
      'constraint:resource:update',
    );
    if (mayInsert) {
      yield named('create', many, primary.attributes, inflection.camelCase(many));
    }
    if (mayUpdate) yield named('update', many, primary.attributes, 'patches');
    if (behavior.pgResourceUniqueMatches([resource, primary], 'constraint:resource:delete')) {
      yield named('delete', many, primary.attributes, 'keys');
    }
    // By a key that says what the row is about; an id of its own is made for it.
    const natural = resource.uniques.find(
      ({ attributes: key, extensions }) =>
        key.includes(tenantKey) && !key.includes('id') && extensions?.isDeferrable !== true,
    );
    if (mayInsert && mayUpdate && natural !== undefined) {
      yield named('upsert', tableType, natural.attributes, inflection.camelCase(tableType));
    }
  }
}
