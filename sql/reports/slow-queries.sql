-- slow-queries: statements by the time that they took
-- Params:
--   order total|mean|calls = total: what comes first
--   min_calls bigint = 1: leave out what ran less often
--   limit integer = 20: how many
-- Needs: pg_stat_statements
-- Columns: total_seconds, share (of all statements), calls, mean_seconds, max_seconds,
--   rows, hit_ratio (blocks found in memory), role_name, query. Constants are replaced.
-- Read: The first few lines are where work pays. A high mean: explain (analyze, buffers).
--   Very many calls with a low mean: ask for more at once. select
--   pg_stat_statements_reset(); begins anew.
-- Cost: Reads the statistics of statements, 5,000 at most; milliseconds.
with statements as (
  select
    pg_stat_statements.total_exec_time / 1000 as total_seconds,
    pg_stat_statements.total_exec_time
      / nullif(sum(pg_stat_statements.total_exec_time) over (), 0) as share,
    pg_stat_statements.calls,
    pg_stat_statements.mean_exec_time / 1000 as mean_seconds,
    pg_stat_statements.max_exec_time / 1000 as max_seconds,
    pg_stat_statements.rows,
    (shared_blks_hit::numeric / nullif(shared_blks_hit + shared_blks_read, 0))::float8
      as hit_ratio,
    pg_get_userbyid(pg_stat_statements.userid)::text as role_name,
    regexp_replace(pg_stat_statements.query, '\s+', ' ', 'g') as query,
    pg_stat_statements.queryid
  from pg_stat_statements
  where pg_stat_statements.dbid
    = (select oid from pg_catalog.pg_database where datname = current_database())
)
select total_seconds, share, calls, mean_seconds, max_seconds, rows, hit_ratio, role_name,
  query
from statements
where calls
    >= coalesce(nullif(current_setting('report.min_calls', true), ''), '1')::bigint
  and query !~* 'pg_stat_statements'
order by
  case coalesce(nullif(current_setting('report.order', true), ''), 'total')
    when 'mean' then mean_seconds when 'calls' then calls else total_seconds end desc,
  total_seconds desc, queryid, role_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '20')::integer;
