-- Runs as gw_owner after committed migrations and after each run of the current one, whichever
-- tool ran them: partitions, pg_cron jobs and the audit log follow. A step that fails raises an
-- alert, and is tried again; `gw migrate` runs them too, and says which failed.
do $$
begin
  if to_regprocedure('ops.follow_migrations()') is not null then
    perform from ops.follow_migrations();
  end if;
end
$$;
