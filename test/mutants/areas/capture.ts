import { type Mutant, sqlFunction } from '../mutant.ts';

const borders = 'cdc/borders';
const changes = 'cdc/changes';
const consumer = 'cdc/consumer';
const reconcile = 'cdc/reconcile';

export const mutants: Mutant[] = [
  {
    fault: 'a transaction that begins where the last one ended is skipped',
    file: 'src/cdc/reader.ts',
    find: 'current.commitLsn < applier.applied',
    replace: 'current.commitLsn <= applier.applied',
    tests: [borders],
  },
  {
    fault: 'a position is confirmed before its changes are stored',
    file: 'src/cdc/reader.ts',
    find: '    await applier.applyAll(batch);',
    replace:
      '    this.#options.stream.confirm(batch.at(-1)?.endLsn ?? applier.applied);\n' +
      '    await applier.applyAll(batch);',
    tests: [consumer],
  },
  {
    fault: 'the consumer goes on past the position at which it is held',
    file: sqlFunction('app_private/apply_changes'),
    find: 'if p_commit_lsn >= capture.hold_lsn then',
    replace: 'if p_commit_lsn > capture.hold_lsn then',
    tests: [borders],
  },
  {
    fault: 'what was committed at the hold is taken for what came before it',
    file: 'src/cdc/applier.ts',
    find: 'commitLsn < parseLsn(hold)',
    replace: 'commitLsn <= parseLsn(hold)',
    tests: [borders],
  },
  {
    fault: 'a second consumer counts everything twice',
    file: sqlFunction('app_private/apply_changes'),
    find: 'if capture.applied_lsn is distinct from p_from then',
    replace: 'if false then',
    tests: [changes, consumer],
  },
  {
    fault: 'a slice does not wait for what was committed before it and is not seen yet',
    file: sqlFunction('app_private/capture_slice'),
    find: 'where not pg_visible_in_snapshot(xid, pg_current_snapshot())',
    replace: 'where xid is null',
    tests: ['cdc/recount'],
  },
  {
    fault: 'the first slice takes away what was applied and is not seen yet',
    file: sqlFunction('app_private/capture_slice'),
    find: '    or capture.snapshot_waits_for >= pg_snapshot_xmin(pg_current_snapshot())\n',
    replace: '',
    tests: ['cdc/recount'],
  },
  {
    fault: 'a count that was broken off never ends',
    file: 'src/cdc/recount.ts',
    find: 'this.#isCounting = !isOver && state?.counted_below != null;',
    replace: 'this.#isCounting = false;',
    tests: ['cdc/recount'],
  },
  {
    fault: 'reconcile trusts what was captured',
    file: sqlFunction('app_private/differing_users'),
    find: 'select user_id from (select * from tasks_now except select * from tasks_before) as tasks',
    replace: 'select user_id from tasks_now where false',
    tests: [reconcile],
  },
  {
    fault: 'partitions that have changed are not counted',
    file: sqlFunction('app_private/capture_heartbeat'),
    find: ' or partitions <> app_private.task_partitions()',
    replace: '',
    tests: [changes],
  },
  {
    fault: 'a truncation of a table leaves its aggregates',
    file: sqlFunction('app_private/apply_changes'),
    find: "jsonb_array_elements_text(counted -> 'truncated')",
    replace: "jsonb_array_elements_text(counted -> 'emptied')",
    tests: [changes, consumer],
  },
  {
    fault: 'rows written before a truncation count after it',
    file: 'src/cdc/changes.ts',
    find: '    if (change.object === root) rows.clear();',
    replace: '    if (change.object === root) void rows;',
    tests: [changes, consumer],
  },
  {
    fault: 'rows and the truncation of a partition are one step',
    file: 'src/cdc/changes.ts',
    find: '    else if (rows.size > 0) return false;\n',
    replace: '',
    tests: [changes, consumer],
  },
  {
    fault: 'of two changes of a row the first counts',
    file: 'src/cdc/changes.ts',
    find: '      rows.set(captured[change.table].key.map((name) => change.row[name]).join(), change);',
    replace:
      '      const key = captured[change.table].key.map((name) => change.row[name]).join();\n' +
      '      if (!rows.has(key)) rows.set(key, change);',
    tests: [changes, consumer],
  },
  {
    fault: 'a task that is opened again stays completed',
    file: sqlFunction('app_private/capture_tasks'),
    find: '  select user_id, completed_on, 0, -1 from before where completed_on is not null\n',
    replace: '  select user_id, completed_on, 0, 0 from before where completed_on is not null\n',
    tests: [changes, consumer],
  },
  {
    fault: 'a deleted task stays counted',
    file: sqlFunction('app_private/capture_tasks'),
    find: '  select user_id, created_on, -1, 0 from removed\n',
    replace: '  select user_id, created_on, 0, 0 from removed\n',
    tests: [changes, consumer],
  },
  {
    fault: 'a mood that is withdrawn stays in the average',
    file: sqlFunction('app_private/capture_reflections'),
    find: 'case when mood_score is null then 0 else factor end',
    replace: 'factor',
    tests: [changes, consumer],
  },
  {
    fault: 'who moves keeps the days of the old zone',
    file: sqlFunction('app_private/capture_users'),
    find: '      (shifted.created_before, -1, 0), (shifted.created_now, 1, 0),\n',
    replace: '',
    tests: [changes, consumer, 'cdc/zones'],
  },
  {
    fault: 'aggregates of 0 stay',
    file: sqlFunction('app_private/add_to_aggregates'),
    find: 'aggregates.mood_sum, aggregates.mood_count) = (0, 0, 0, 0, 0);',
    replace: 'aggregates.mood_sum, aggregates.mood_count) = (0, 0, 0, 0, -1);',
    tests: [changes, consumer],
  },
  {
    fault: 'a slot that lost its log is read on',
    file: 'src/cdc/slot.ts',
    find: "logIsGone || found.wal_status === 'lost' || found.confirmed_flush_lsn === null",
    replace: 'found.confirmed_flush_lsn === null',
    tests: ['cdc/killed'],
  },
  {
    fault: 'a transaction of any size is held in memory',
    file: 'src/cdc/applier.ts',
    find: 'pieceSize = 10_000;',
    replace: 'pieceSize = 100_000_000;',
    tests: [reconcile],
  },
  {
    fault: 'a consumer that hangs keeps its place',
    file: 'src/cdc/session.ts',
    find: "          `select app_private.end_late_capture($1, $2, $3 * interval '1 millisecond') as ended`,",
    replace: '          `select $1::text is null and $2::int = 0 and $3::float = 0 as ended`,',
    tests: ['cdc/lease'],
  },
  {
    fault: 'reconciling does not see an aggregate too many',
    file: sqlFunction('app_private/capture_differences'),
    find: '  full join (\n',
    replace: '  left join (\n',
    tests: [reconcile],
  },
  {
    fault: 'a transaction that is too large is counted in part when it breaks off',
    file: 'src/cdc/applier.ts',
    find: "        await this.#apply.query('begin');\n        const hold = await this.#call(null, head, '{}');",
    replace: "        const hold = await this.#call(null, head, '{}');",
    tests: [reconcile],
  },
];
