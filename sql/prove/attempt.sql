-- What gw prove works with: temporary, so that nothing of it stays in the database.
-- Run by a superuser, in the transaction in which everything is tried.

-- Relations that hold rows of user A, how to fingerprint those rows, and what they were.
create temporary table gw_watch (
  relid oid primary key,
  relation text not null,
  statement text not null,
  fingerprint text
);

-- How many rows this transaction has written to each watched relation, attempts that were
-- undone included: what rises during an attempt was written by it.
create function pg_temp.gw_writes() returns jsonb language sql as $$
  select coalesce(jsonb_object_agg(relid, writes), '{}')
  from (
    select relid, pg_stat_get_xact_tuples_inserted(relid)
      + pg_stat_get_xact_tuples_updated(relid)
      + pg_stat_get_xact_tuples_deleted(relid) as writes
    from pg_temp.gw_watch
  ) as counted
  where writes > 0
$$;

create function pg_temp.gw_fingerprint(p_statement text) returns text language plpgsql as $$
declare
  result text;
begin
  execute p_statement into result;
  return coalesce(result, '');
end
$$;

-- Runs a statement as a role and user, says what came of it, and undoes it unless p_keep.
create function pg_temp.gw_attempt(
  p_role text, p_settings jsonb, p_prelude text, p_statement text,
  p_returns_rows boolean, p_watch boolean, p_keep boolean
) returns jsonb language plpgsql as $$
declare
  result jsonb := '{}';
  found_rows text[] := '{}';
  found_row record;
  counted bigint := 0;
  before_writes jsonb;
  after_writes jsonb;
  said_state text;
  said_message text;
  said_constraint text;
  said_column text;
  stage text := 'prelude';
begin
  begin
    if p_prelude is not null then
      execute p_prelude;
    end if;
    if p_watch then
      before_writes := pg_temp.gw_writes();
    end if;
    perform set_config(key, value, true) from jsonb_each_text(p_settings);
    if p_role is not null then
      execute format('set local role %I', p_role);
    end if;
    stage := 'statement';
    if p_returns_rows and p_statement like 'call %' then
      execute p_statement into found_row;
      counted := 1;
      found_rows := array[to_jsonb(found_row)::text];
    elsif p_returns_rows then
      for found_row in execute p_statement loop
        counted := counted + 1;
        if counted <= 500 then
          found_rows := found_rows || to_jsonb(found_row)::text;
        end if;
      end loop;
    else
      execute p_statement;
      get diagnostics counted = row_count;
    end if;
    -- Deferred constraints refuse here, or nobody would notice that they do.
    set constraints all immediate;
    set local role none;
    if p_watch then
      after_writes := pg_temp.gw_writes();
      result := jsonb_build_object('changed', (
        select coalesce(jsonb_agg(distinct gw_watch.relation), '[]')
        from pg_temp.gw_watch
        inner join jsonb_each(after_writes) as written (key, value)
          on written.key = gw_watch.relid::text
        where written.value is distinct from before_writes -> written.key
          and pg_temp.gw_fingerprint(gw_watch.statement)
            is distinct from gw_watch.fingerprint
      ));
    end if;
    if not p_keep then
      raise exception using errcode = 'GWUND';
    end if;
  exception
    when sqlstate 'GWUND' then
      null;
    when query_canceled or assert_failure or others then
      get stacked diagnostics said_state = returned_sqlstate,
        said_message = message_text, said_constraint = constraint_name,
        said_column = column_name;
      result := result || jsonb_build_object('state', said_state, 'message', said_message,
        'constraint', said_constraint, 'column', said_column, 'stage', stage);
      counted := 0;
      found_rows := '{}';
  end;
  return result || jsonb_build_object('count', counted, 'rows', to_jsonb(found_rows));
end
$$;
