-- wal: write-ahead log, checkpoints and archive since their statistics began
-- Params: none
-- Columns: measure, value (a count, bytes, or milliseconds, as the measure says), per_hour,
--   counted_since.
-- Read: checkpoints_requested over checkpoints_timed: raise max_wal_size. full_page_images of
--   most of wal_bytes: fewer checkpoints, wal_compression. wal_buffers_full that grows: raise
--   wal_buffers. archive_failed above 0: the check wal-archiver.
-- Cost: Milliseconds.
with checkpoints as (
  -- PostgreSQL 17 has them in another view.
  select (xpath('//*[local-name()="timed"]/text()', document))[1]::text::numeric as timed,
    (xpath('//*[local-name()="requested"]/text()', document))[1]::text::numeric as requested,
    (xpath('//*[local-name()="since"]/text()', document))[1]::text::timestamptz as since
  from query_to_xml(
    case when current_setting('server_version_num')::integer >= 170000 then
      'select num_timed as timed, num_requested as requested, stats_reset as since
       from pg_catalog.pg_stat_checkpointer'
    else
      'select checkpoints_timed as timed, checkpoints_req as requested, stats_reset as since
       from pg_catalog.pg_stat_bgwriter'
    end, false, false, '') as document
),
measures as (
  select measure, value, since
  from pg_catalog.pg_stat_wal
  cross join lateral (
    values ('wal_bytes', wal_bytes, stats_reset),
      ('wal_records', wal_records::numeric, stats_reset),
      ('full_page_images', wal_fpi::numeric, stats_reset),
      ('wal_buffers_full', wal_buffers_full::numeric, stats_reset)
  ) as counted (measure, value, since)
  union all
  select measure, value, since
  from checkpoints
  cross join lateral (
    values ('checkpoints_timed', timed), ('checkpoints_requested', requested)
  ) as counted (measure, value)
  union all
  select measure, value, stats_reset
  from pg_catalog.pg_stat_archiver
  cross join lateral (
    values ('archived', archived_count::numeric), ('archive_failed', failed_count::numeric)
  ) as counted (measure, value)
)
select
  measure,
  value::float8 as value,
  (value * 3600 / nullif(extract(epoch from now() - since), 0))::float8 as per_hour,
  since as counted_since
from measures
order by measure;
