-- audit: the latest privileged actions
-- Params:
--   action text = : only actions that match this regular expression
--   limit integer = 50: how many entries
-- Needs: ops.audit_log
-- Columns: id, occurred_at, actor, application, client_address, action, details.
-- Read: An entry that nobody can explain is one to ask about. Whether the log itself was
--   altered: select * from ops.verify_audit_log(); which a check asks daily.
-- Cost: Reads the newest entries by an index; all of them where an action is asked for.
select
  id,
  occurred_at,
  actor,
  application_name as application,
  host(client_address) as client_address,
  action,
  details::text as details
from ops.audit_log
where action ~ coalesce(current_setting('report.action', true), '')
order by id desc
limit coalesce(nullif(current_setting('report.limit', true), ''), '50')::integer;
