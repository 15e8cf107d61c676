-- missing-configuration: missing rows that planning and sending need
-- Params: none
-- Needs: function ops.missing_configuration
-- Columns: level, object (table, queue or message type), detail, remediation.
-- Read: Somebody deleted the row, past the triggers that refuse it. Nothing is lost:
--   what is due is planned and sent when the row is back, within the late window.
-- Cost: Reads tables of a few rows.
select 'critical' as level, object, detail, remediation
from ops.missing_configuration()
order by object;
