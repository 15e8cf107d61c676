import type { Pool } from 'pg';

/**
 * Knows which column each constraint and unique index of the API's tables is about, so that
 * an error can name the field. A constraint on several columns is about the one that is not
 * the tenant key. Partitions count too: their copies have names of their own.
 */
export class ConstraintColumns {
  #columns = new Map<string, string>();
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async load(): Promise<void> {
    const { rows } = await this.#pool.query<{ name: string; column: string }>(`
      with relation as (
        select oid
        from pg_catalog.pg_class
        where relnamespace in ('app_public'::regnamespace, 'app_partitions'::regnamespace)
          and relkind in ('r', 'p')
      ),
      covered as (
        select pg_constraint.conname as name, relation.oid as relation,
          unnest(pg_constraint.conkey)::integer as column
        from relation
        inner join pg_catalog.pg_constraint on pg_constraint.conrelid = relation.oid
        union all
        -- An index on an expression such as lower(email) depends on the column.
        select index_class.relname, relation.oid, pg_depend.refobjsubid
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
      select distinct on (covered.name) covered.name, pg_attribute.attname as column
      from covered
      inner join pg_catalog.pg_attribute on pg_attribute.attrelid = covered.relation
        and pg_attribute.attnum = covered.column
      order by covered.name, pg_attribute.attname in ('user_id', 'deleted_at', 'is_guest'),
        pg_attribute.attnum`);
    this.#columns = new Map(rows.map(({ name, column }) => [name, column]));
  }

  /** The column, or undefined; an unknown constraint is read for the next time. */
  columnOf = (constraint: string): string | undefined => {
    const column = this.#columns.get(constraint);
    if (column === undefined) this.load().catch(() => {});
    return column;
  };
}
