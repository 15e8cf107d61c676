-- audit-log: the audit log is not as it was written
-- Params: none
-- Every: 1 day
-- Needs: function ops.verify_audit_log
-- Columns: level, object (empty), detail, remediation.
-- Read: Somebody who owns the table altered or removed rows. Compare with a backup, and
--   with the head's hash that was kept elsewhere.
-- Cost: Reads the whole log and hashes each row: a second for some hundred thousand.
select
  'critical' as level,
  '' as object,
  format('entry %s: %s', broken_id, problem) as detail,
  'Find out who may write it; compare ops.audit_log with a backup.' as remediation
from ops.verify_audit_log()
order by object;
