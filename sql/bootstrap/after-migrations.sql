-- Runs as gw_owner after committed migrations and after each run of the current one:
-- partitions and pg_cron jobs follow what the migrations declare.
do $$
begin
  if to_regprocedure('ops.ensure_partitions()') is not null then
    perform ops.ensure_partitions();
    perform ops.sync_cron_jobs();
  end if;
end
$$;
