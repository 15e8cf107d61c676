import type { Pool } from 'pg';

export interface Constraint {
  /** The column that it is about. */
  column: string;
  /** What it demands, in words that a form can show: its comment. */
  message: string | null;
}

/**
 * Knows which column each constraint and unique index of the API's tables is about, and what its
 * comment says, so that an error can name the field and the rule. A constraint on several columns
 * is about the last one that is not the tenant key. Partitions count too: their copies have names
 * of their own.
 */
export class Constraints {
  #known = new Map<string, Constraint>();
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async load(): Promise<void> {
    const { rows } = await this.#pool.query<Constraint & { name: string }>(`
      with relation as (
        select oid
        from pg_catalog.pg_class
        where relnamespace in ('app_public'::regnamespace, 'app_partitions'::regnamespace)
          and relkind in ('r', 'p')
      ),
      covered as (
        select pg_constraint.conname as name, relation.oid as relation,
          unnest(pg_constraint.conkey)::integer as column,
          obj_description(
            coalesce(nullif(pg_constraint.conparentid, 0), pg_constraint.oid), 'pg_constraint'
          ) as comment
        from relation
        inner join pg_catalog.pg_constraint on pg_constraint.conrelid = relation.oid
        union all
        -- An index on an expression such as lower(email) depends on the column.
        select index_class.relname, relation.oid, pg_depend.refobjsubid,
          obj_description(index_class.oid, 'pg_class')
        from relation
        inner join pg_catalog.pg_index on pg_index.indrelid = relation.oid
          and pg_index.indisunique
        inner join pg_catalog.pg_class as index_class on index_class.oid = pg_index.indexrelid
        inner join pg_catalog.pg_depend on pg_depend.classid = 'pg_class'::regclass
          and pg_depend.objid = pg_index.indexrelid
          and pg_depend.refclassid = 'pg_class'::regclass
          and pg_depend.refobjid = relation.oid
          and pg_depend.refobjsubid > 0
      )
      select distinct on (covered.name) covered.name, pg_attribute.attname as column,
        -- Without the lines of tags.
        nullif(regexp_replace(
          max(covered.comment) over (partition by covered.name), '^(@[^\\n]*\\n?)+', ''), '')
          as message
      from covered
      inner join pg_catalog.pg_attribute on pg_attribute.attrelid = covered.relation
        and pg_attribute.attnum = covered.column
      order by covered.name, pg_attribute.attname in ('user_id', 'deleted_at', 'is_guest'),
        pg_attribute.attnum`);
    this.#known = new Map(rows.map(({ name, ...known }) => [name, known]));
  }

  /** What is known of it, or undefined. */
  of = (name: string): Constraint | undefined => this.#known.get(name);
}
