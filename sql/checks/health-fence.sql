-- fence: this database is a copy that nobody has adopted
-- Params: none
-- Needs: function ops.fence_reason
-- Columns: level, object (empty), detail, remediation.
-- Read: It plans, queues, sends, alerts and captures nothing, and the API only reads. That is
--   right for a copy. When this is the database that should work, nothing is sent until it is
--   adopted.
-- Cost: Milliseconds.
select 'critical' as level, '' as object,
  'this database is a copy, and does nothing: ' || reason as detail,
  'If it is to work in the original''s place: gw adopt. If it is a copy, leave it.' as remediation
from ops.fence_reason() as reason
where reason is not null;
