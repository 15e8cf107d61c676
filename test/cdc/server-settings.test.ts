import { describe, expect, test } from 'vitest';
import { useCaptureServer } from '../helpers/capture-server.ts';
import { patience } from '../helpers/patience.ts';

const server = useCaptureServer('settings');

// In this order: the last leaves a server that cannot be used.
describe('on a server of its own', { shuffle: false }, () => {
  test('a server without wal2json is read with pgoutput; without a limit for slots it is said', {
    timeout: patience(120_000),
  }, async ({ skip }) => {
    const { sql } = server;
    const [known] = await sql`
      select from pg_settings where name = 'output_plugin_libraries'`;
    if (known === undefined) skip('this server loads every plugin');
    await sql`alter system set output_plugin_libraries = 'pgoutput'`;
    await sql`alter system set max_slot_wal_keep_size = '-1'`;
    await sql`select pg_reload_conf()`;
    expect((await server.run('resnapshot', '--yes')).code).toBe(0);
    const [row] = await sql`select plugin from ops.change_capture_status`;
    expect(row).toEqual({ plugin: 'pgoutput' });
    const [alert] = await sql`
      select level, resolved_at is null as open from ops.alerts
      where check_name = 'change-capture-disk'`;
    expect(alert).toEqual({ level: 'warning', open: true });
    expect((await server.run('reconcile')).output).toContain('no difference');
  });

  test('a server that does not write the log for it refuses with what to do', {
    timeout: patience(120_000),
  }, async () => {
    const { sql } = server;
    await sql`select pg_drop_replication_slot(slot_name) from pg_replication_slots`;
    await sql`alter system set wal_level = 'replica'`;
    await server.restart('cleanly');
    const refused = await server.run();
    expect(refused.code).toBe(2);
    expect(refused.output).toContain('wal_level = logical');
  });
});
