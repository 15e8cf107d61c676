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
      with covered as (
        select conname as name, conrelid as relation, conkey as columns
        from pg_catalog.pg_constraint
        union all
        -- An expression index such as (lower(email)) has its column only in its expression.
        select index_class.relname, pg_index.indrelid,
          array(select pg_depend.refobjsubid from pg_catalog.pg_depend
            where pg_depend.objid = pg_index.indexrelid
              and pg_depend.refobjid = pg_index.indrelid
              and pg_depend.refobjsubid > 0)
        from pg_catalog.pg_index
        inner join pg_catalog.pg_class as index_class
          on index_class.oid = pg_index.indexrelid
        where pg_index.indisunique
      )
      select distinct on (covered.name) covered.name, pg_attribute.attname as column
      from covered
      inner join pg_catalog.pg_attribute on pg_attribute.attrelid = covered.relation
        and pg_attribute.attnum = any (covered.columns)
      inner join pg_catalog.pg_class on pg_class.oid = covered.relation
      where pg_class.relnamespace in (
        'app_public'::regnamespace, 'app_partitions'::regnamespace)
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
