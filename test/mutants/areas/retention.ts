import { type Mutant, sqlFunction } from '../mutant.ts';

const retention = 'db/operations/retention';
const dropped = 'db/operations/dropped-partitions';
const expired = 'db/operations/expired-rows';

export const mutants: Mutant[] = [
  {
    fault: 'a slot that is being made lets a partition go',
    file: sqlFunction('ops/is_confirmed_by_cdc'),
    find: 'coalesce(pg_replication_slots.confirmed_flush_lsn < p_position, true)',
    replace: 'coalesce(pg_replication_slots.confirmed_flush_lsn < p_position, false)',
    tests: [dropped],
  },
  {
    fault: 'a slot of another database keeps a partition',
    file: sqlFunction('ops/is_confirmed_by_cdc'),
    find: '      and pg_replication_slots.database = current_database()\n',
    replace: '',
    tests: [dropped],
  },
  {
    fault: 'a slot that is at the very position has not confirmed',
    file: sqlFunction('ops/is_confirmed_by_cdc'),
    find: 'confirmed_flush_lsn < p_position',
    replace: 'confirmed_flush_lsn <= p_position',
    tests: [dropped],
  },
  {
    fault: 'a backup that began before a partition left counts when it ended afterwards',
    file: sqlFunction('ops/is_backed_up'),
    find: 'backups.started_at >= p_since',
    replace: 'backups.finished_at >= p_since',
    tests: [dropped, 'db/operations/backups'],
  },
  {
    fault: 'a backup that nobody verified counts',
    file: sqlFunction('ops/is_backed_up'),
    find: 'and backups.verified_at is not null',
    replace: '',
    tests: [dropped, 'db/operations/backups'],
  },
  {
    fault: 'a partition leaves a step too early',
    file: sqlFunction('ops/partitions_to_detach'),
    find: 'ends.ends_at <= now() - ends.retention',
    replace: "ends.ends_at <= now() - ends.retention + interval '1 day'",
    tests: [retention],
  },
  {
    fault: 'a table that was in use is the first again',
    file: sqlFunction('ops/partitions_to_detach'),
    find: ') nulls first,',
    replace: ') nulls last,',
    tests: [retention],
  },
  {
    fault: 'a partition that was attached again is dropped',
    file: sqlFunction('ops/partitions_to_drop'),
    find: '    and not pg_class.relispartition\n',
    replace: '',
    tests: [dropped],
  },
  {
    fault: 'a partition is dropped whose policy does not say so any more',
    file: sqlFunction('ops/partitions_to_drop'),
    find: "    and partition_policies.retention_action = 'drop'\n",
    replace: '',
    tests: [dropped],
  },
  {
    fault: 'a partition is dropped that was detached to be kept',
    file: sqlFunction('ops/partitions_to_drop'),
    find: '    and latest.will_drop\n',
    replace: '',
    tests: [dropped],
  },
  {
    fault: 'an obstacle is recorded each night',
    file: sqlFunction('ops/drop_detached_partitions'),
    find: `      order by partition_events.id desc
      limit 1`,
    replace: `      order by partition_events.id
      limit 1`,
    tests: [dropped],
  },
  {
    fault: 'rows that are not due yet are deleted',
    file: sqlFunction('ops/delete_expired_rows'),
    find: "            '   select ctid from %1$I.%2$I where %3$I < (now() - $1)::%4$s limit $2))'\n            ' and %3$I < (now() - $1)::%4$s',",
    replace: "            '   select ctid from %1$I.%2$I where %3$I < now()::%4$s limit $2))',",
    tests: [expired],
  },
  {
    fault: 'rows of other partitions that bear the same ctid are deleted',
    file: sqlFunction('ops/delete_expired_rows'),
    find: "limit $2))'\n            ' and %3$I < (now() - $1)::%4$s',",
    replace: "limit $2))',",
    tests: [expired],
  },
  {
    fault: 'a table that cannot be emptied keeps the others from it',
    file: sqlFunction('ops/delete_expired_rows'),
    find: "        failure := sqlstate || ': ' || sqlerrm;",
    replace: '        raise;',
    tests: [expired],
  },
  {
    fault: 'a date is due at midnight of the session',
    file: sqlFunction('ops/delete_expired_rows'),
    find: "set timezone = 'UTC'\n",
    replace: '',
    tests: [expired],
  },
  {
    fault: 'a partition is premade one step too few',
    file: sqlFunction('ops/missing_partitions'),
    find: 'now() + policy.step * policy.premake',
    replace: 'now() + policy.step * (policy.premake - 1)',
    tests: ['db/operations/partitions'],
  },
  {
    fault: 'rows that fell into DEFAULT stay there',
    file: sqlFunction('ops/missing_partitions'),
    find: '      union\n      select unnest(strays)\n',
    replace: '',
    tests: ['db/operations/partitions', 'db/operations/partition-maintenance'],
  },
  {
    fault: 'pruning waits for a table in use as long as it takes',
    file: sqlFunction('ops/prune_partitions'),
    find: "set lock_timeout = '300ms'\n",
    replace: "set lock_timeout = '20s'\n",
    tests: [dropped],
  },
  {
    fault: 'the log of partitions can be changed',
    statement: 'drop trigger _200_append_only on ops.partition_events',
    tests: [retention, 'db/operations/partitions'],
  },
  {
    fault: 'a backup may have been verified before it ended',
    statement: 'alter table ops.backups drop constraint backups_verified_at_check',
    tests: ['db/operations/backups'],
  },
];
