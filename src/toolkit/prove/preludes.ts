import { ident, literal } from './attempt.ts';
import type { Column, Relation } from './catalogue.ts';
import type { World } from './world.ts';

/** Longer ago than any policy asks for. */
const longAgo = "now() - interval '3 years'";

/**
 * Values in which policies may tell rows apart: flags, states, what may be null, old and young.
 */
export function variantsOf(relation: Relation): string[] {
  const values = (column: Column): string[] => {
    if (column.isGenerated) return [];
    const none = column.isRequired || column.hasDefault ? [] : ['null'];
    if (column.baseType === 'boolean') return ['true', 'false'];
    if (column.labels.length > 0) return column.labels.map((label) => literal(label, column.type));
    const checks = relation.checks.filter(({ columns }) => columns.includes(column.name));
    const listed = checks.find(({ definition }) => / = ANY /.test(definition));
    if (listed !== undefined && column.baseType === 'text') {
      return [...listed.definition.matchAll(/'((?:[^']|'')*)'/g)].map(([text]) => text);
    }
    const isMoment = /^(timestamp|date)/.test(column.baseType);
    return isMoment ? ['now()', longAgo, ...none] : none;
  };
  return relation.columns
    .flatMap((column) => values(column).map((value) => `${ident(column.name)} = ${value}`))
    .slice(0, 40);
}

/** Statements after which a table holds nothing but rows of A. */
export function onlyRowsOfA(world: World, relation: Relation): string {
  const where = world.maker.whereOf(relation, world.a);
  if (!relation.isPartition) {
    return `delete from ${relation.name} where (${where}) is not true`;
  }
  const columns = relation.columns
    .filter(({ isGenerated }) => !isGenerated)
    .map(({ name }) => ident(name))
    .join(', ');
  // A's rows may belong into another partition: this one is taken out, and given a copy.
  // Emptied first, because rows that others refer to cannot be taken out with it.
  return `create temporary table gw_copy on commit drop as
      select * from ${relation.root} where ${where};
    delete from ${relation.name};
    alter table ${relation.parent} detach partition ${relation.name};
    insert into ${relation.name} (${columns}) overriding system value
      select ${columns} from pg_temp.gw_copy limit 1`;
}
