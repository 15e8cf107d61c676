-- Runs as gw_owner after committed migrations and after each run of the current one:
-- partitions and pg_cron jobs follow what the migrations declare, and the audit log gets an
-- entry for each migration that ran, whichever tool ran it.
do $$
begin
  if to_regprocedure('ops.ensure_partitions()') is not null then
    perform ops.ensure_partitions();
    perform ops.sync_cron_jobs();
  end if;

  -- A migration that was taken back and ran again has another date.
  if to_regprocedure('ops.audit(text, jsonb)') is not null then
    perform ops.audit('migration.ran', ran.details)
    from (
      select entry.details
      from graphile_migrate.migrations
      cross join lateral (
        select jsonb_build_object('migration', migrations.filename, 'hash', migrations.hash,
          'ran_at', to_char(migrations.date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
      ) as entry (details)
      where not exists (
        select from ops.audit_log
        where audit_log.action = 'migration.ran'
          and audit_log.details = entry.details
      )
      order by migrations.filename
    ) as ran;
  end if;
end
$$;
