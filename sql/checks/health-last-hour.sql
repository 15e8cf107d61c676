-- last-hour: deadlocks, temporary files, requested checkpoints, forgotten statements, disk reads
-- Params:
--   last_hour_deadlocks bigint = 5: at least so many
--   last_hour_temp_bytes bigint = 10737418240: bytes of temporary files, at least
--   last_hour_checkpoints bigint = 4: requested before their time, at least
--   last_hour_evictions bigint = 20: times that pg_stat_statements made room, at least
--   last_hour_hit_ratio numeric = 0.9: less of the blocks than this were in memory
--   last_hour_blocks bigint = 1000000: of so many blocks at least
-- Needs: ops.statistics_samples
-- Every: 10 minutes
-- Columns: level, object (what there is too much of), detail, remediation.
-- Read: What happened since the oldest sample of the last hour; each is normal now and then.
-- Cost: Milliseconds.
with recent as (
  select max(growth) filter (where name = 'deadlocks') as deadlocks,
    max(growth) filter (where name = 'temp_bytes') as temp_bytes,
    max(growth) filter (where name = 'checkpoints_requested') as checkpoints,
    max(growth) filter (where name = 'statements_evicted') as evictions,
    max(growth) filter (where name = 'blocks_hit') as hit,
    max(growth) filter (where name = 'blocks_read') as read
  from ops.recent_statistics(interval '1 hour')
)
select
  'warning' as level,
  finding.object,
  finding.detail,
  finding.remediation
from recent
cross join (
  select
    coalesce(nullif(current_setting('health.last_hour_deadlocks', true), ''),
      '5')::bigint as deadlocks,
    coalesce(nullif(current_setting('health.last_hour_temp_bytes', true), ''),
      '10737418240')::bigint as temp_bytes,
    coalesce(nullif(current_setting('health.last_hour_checkpoints', true), ''),
      '4')::bigint as checkpoints,
    coalesce(nullif(current_setting('health.last_hour_evictions', true), ''),
      '20')::bigint as evictions,
    coalesce(nullif(current_setting('health.last_hour_hit_ratio', true), ''),
      '0.9')::numeric as hit_ratio,
    coalesce(nullif(current_setting('health.last_hour_blocks', true), ''),
      '1000000')::bigint as blocks
) as limits
cross join lateral (
  values
    (recent.deadlocks >= limits.deadlocks, 'deadlocks',
      format('%s in the last hour', recent.deadlocks),
      'Two places lock the same rows in different orders; the server''s log names them.'),
    (recent.temp_bytes >= limits.temp_bytes, 'temporary files',
      format('%s in the last hour', pg_size_pretty(recent.temp_bytes)),
      'Raise work_mem, or find the statement: gw report slow-queries'),
    (recent.checkpoints >= limits.checkpoints, 'requested checkpoints',
      format('%s in the last hour', recent.checkpoints),
      'Raise max_wal_size, so that checkpoints come by time: gw report wal'),
    (recent.evictions >= limits.evictions, 'forgotten statements',
      format('pg_stat_statements made room %s times in the last hour', recent.evictions),
      'Raise pg_stat_statements.max, or find who sends statements that are all different.'),
    (recent.hit + recent.read >= limits.blocks
        and recent.hit < limits.hit_ratio * (recent.hit + recent.read), 'disk reads',
      format('%s of %s blocks were not in memory', recent.read, recent.hit + recent.read),
      'Raise shared_buffers, or add the index that is missing: gw report cache-hit')
) as finding (is_found, object, detail, remediation)
where finding.is_found
order by finding.object;
