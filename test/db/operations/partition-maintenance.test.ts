import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connect, type Sql, type Transaction } from '../../../src/postgres/connect.ts';
import { useDatabase } from '../../helpers/database.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();
const users = 20;
const rows = 3_000;

/** A table of two months past and of no month at all, all in DEFAULT; and its mirror. */
beforeEach(async () => {
  await db.as('owner').unsafe(`
    create table ops.people (id integer primary key);
    create table ops.noted (
      person integer not null references ops.people on delete cascade,
      at timestamptz not null,
      id integer not null,
      body text not null,
      twice integer generated always as (id * 2) stored,
      constraint noted_pkey primary key (person, at, id),
      constraint noted_body_check check (length(body) < 1000)
    ) partition by range (at);
    create table app_partitions.noted_default partition of ops.noted default
      with (fillfactor = 85);
    create index noted_body_idx on ops.noted (body);
    create table ops.mirror (like ops.noted);
    insert into ops.people select generate_series(1, ${users});
    insert into ops.noted (person, at, id, body)
    select 1 + number % ${users}, case number % 3
        when 0 then timestamptz '2001-02-03' + number * interval '1 minute'
        when 1 then timestamptz '2001-03-03' + number * interval '1 minute'
        else 'infinity' end, number, repeat('x', 100)
    from generate_series(1, ${rows}) as number;
    insert into ops.mirror select * from ops.noted;
    insert into ops.partition_policies (parent_table, step, premake)
    values ('ops.noted', '1 month', 1);
  `);
});

afterEach(async () => {
  await db.as('owner').unsafe(`
    select ops.abandon_partition_move('ops.noted');
    delete from ops.partition_policies where parent_table = 'ops.noted'::regclass;
    drop table if exists ops.noted, ops.mirror, ops.people,
      app_partitions.noted_moved, app_partitions.noted_p200102 cascade;
  `);
});

const maintain = (sql: Sql = db.as('owner'), patience = '20 seconds') =>
  sql`call ops.maintain_partitions(${patience}, p_at_once_bytes => 0)`;

const names = async () => {
  const found = await db.as('owner')`
    select inhrelid::regclass::text as name from pg_inherits
    where inhparent = 'ops.noted'::regclass order by 1`;
  return found.map((each) => each.name as string);
};

const moves = () => db.as('owner')`select phase from ops.partition_moves`;

/** Rows that the table has and the mirror lacks, and the reverse. */
const differences = () => db.as('owner')`
  (table ops.noted except table ops.mirror) union all (table ops.mirror except table ops.noted)`;

/** Does a step until the move has reached a phase. */
async function advanceTo(phase: string): Promise<void> {
  for (;;) {
    await db.as('owner')`select * from ops.advance_partitions('ops.noted', 0)`;
    const [move] = await moves();
    if (move?.phase === phase) return;
    if (move === undefined) throw new Error(`the move ended before ${phase}`);
  }
}

/** A random write of the table, done to its mirror in the same transaction. */
async function write(sql: Transaction, number: number): Promise<void> {
  const id = 1 + Math.floor(Math.random() * rows);
  const kind = Math.random();
  for (const table of ['ops.noted', 'ops.mirror']) {
    const columns = table === 'ops.noted' ? '' : ', twice';
    const twice = table === 'ops.noted' ? '' : `, ${(rows + number) * 2}`;
    if (kind < 0.3) {
      await sql.unsafe(`
        insert into ${table} (person, at, id, body${columns})
        values (${1 + (number % users)}, timestamptz '2001-02-28' + ${number % 99} * interval '1 hour',
          ${rows + number}, 'new'${twice})`);
    } else if (kind < 0.6) {
      await sql.unsafe(`update ${table} set body = body || '.' where id = ${id}`);
    } else if (kind < 0.8) {
      await sql.unsafe(`delete from ${table} where id = ${id}`);
    } else {
      // From one partition to another, this month's included.
      const at = number % 2 === 0 ? 'now()' : "timestamptz '2001-02-11'";
      await sql.unsafe(`update ${table} set at = date_trunc('day', ${at}) where id = ${id}`);
    }
  }
}

describe('maintain_partitions', () => {
  test('moves rows while others read and write them, and loses none', async () => {
    const writers = connect(db.url('owner'), { max: 4 });
    const readers = connect(db.url('owner'), { max: 2 });
    let ended = false;
    let number = 0;
    const counts = new Set<number>();
    const writing = Array.from({ length: 4 }, async (_, place) => {
      while (!ended) {
        number += 1;
        const mine = number;
        const level = place === 0 ? 'isolation level repeatable read' : '';
        await writers
          .begin(level, (sql) => write(sql, mine))
          .catch((error: Error) => {
            // Two writers of a row, one of them REPEATABLE READ; the mirror follows.
            if (!/could not serialize|deadlock/.test(error.message)) throw error;
          });
      }
    });
    const reading = (async () => {
      while (!ended) {
        const [row] = await readers`
          select count(*)::int as rows from ops.noted full join ops.mirror using (person, at, id)
          where noted.id is null or mirror.id is null`;
        counts.add(row?.rows);
      }
    })();
    await eventually(async () => number > 50);
    await maintain();
    const after = number + 50;
    await eventually(async () => number > after);
    ended = true;
    await Promise.all([...writing, reading]);
    await Promise.all([writers.end(), readers.end()]);

    expect([...counts]).toEqual([0]);
    expect(await differences()).toEqual([]);
    expect(await names()).toEqual([
      'app_partitions.noted_default',
      'app_partitions.noted_p200102',
      'app_partitions.noted_p200103',
      expect.stringMatching(/^app_partitions.noted_p20/),
      expect.stringMatching(/^app_partitions.noted_p20/),
    ]);
    const left = await db.as('owner')`
      select distinct at::text from app_partitions.noted_default`;
    expect(left).toEqual([{ at: 'infinity' }]);
    expect(await moves()).toEqual([]);
    expect(await db.as('owner')`select from ops.partition_changes`).toEqual([]);
  });

  test('leaves partitions that have all that a partition of the table has', async () => {
    const describePartition = async (name: string) => {
      const [row] = await db.as('owner')`
        select relkind, reloptions, relreplident,
          (select array_agg(conname || pg_get_constraintdef(oid) || coninhcount order by conname)
            from pg_constraint where conrelid = pg_class.oid) as constraints,
          (select count(*)::int from pg_index
            inner join pg_inherits on pg_inherits.inhrelid = pg_index.indexrelid
            where indrelid = pg_class.oid) as indexes,
          (select count(*)::int from pg_index where indrelid = pg_class.oid) as all_indexes,
          (select array_agg(indexrelid::regclass::text order by 1) from pg_index
            where indrelid = pg_class.oid and relname like '%default') as names,
          (select array_agg(tgname order by tgname) from pg_trigger
            where tgrelid = pg_class.oid and not tgisinternal) as triggers
        from pg_class where oid = ${name}::text::regclass`;
      return {
        ...row,
        constraints: row?.constraints.map((text: string) => text.replace(/^noted_\w*pkey/, 'pkey')),
      };
    };
    const before = await describePartition('app_partitions.noted_default');
    await maintain();
    expect(await describePartition('app_partitions.noted_default')).toEqual(before);
    // The name of an index says of which partition it is.
    expect(await describePartition('app_partitions.noted_p200102')).toEqual({
      ...before,
      names: null,
    });
    expect(before).toMatchObject({ indexes: 2, all_indexes: 2, reloptions: ['fillfactor=85'] });
    await expect(
      db.as(
        'owner',
      )`insert into ops.noted (person, at, id, body) values (999, '2001-02-03', 1, '')`,
    ).rejects.toMatchObject({ code: '23503' });
  });

  test('exchanges the partitions without scanning a row under its locks', async () => {
    await advanceTo('waiting');
    const told: string[] = [];
    const sql = connect(db.url('owner'), {
      max: 1,
      onnotice: (notice) => told.push(notice.message ?? ''),
    });
    await sql`set client_min_messages = debug1`;
    await sql`call ops.maintain_partitions('20 seconds', 0)`;
    await sql.end();
    const implied = told.filter((text) => /implied by existing constraints/.test(text));
    // Two past months, this one and the next, and DEFAULT.
    expect(implied).toHaveLength(5);
    expect(told.filter((text) => /rewriting|verifying/.test(text))).toEqual([]);
  });

  test('waits for a transaction whose snapshot is older, which still finds its rows', async () => {
    await db.as('superuser').begin('isolation level repeatable read', async (reader) => {
      await reader`select 1`;
      const [backend] = await reader`select pg_backend_pid() as pid`;
      await expect(maintain(db.as('owner'), '1 second')).rejects.toMatchObject({
        code: 'GW018',
        message: expect.stringContaining(`process ${backend?.pid}, since`),
      });
      const [row] = await reader`select count(*)::int as rows from ops.noted`;
      expect(row?.rows).toBe(rows);
    });
    await maintain();
    expect(await names()).toHaveLength(5);
    expect(await differences()).toEqual([]);
  });

  test('tries again while somebody uses the table, and does the other tables first', async () => {
    await advanceTo('waiting');
    let done: Promise<unknown> | undefined;
    await db.as('superuser').begin(async (reader) => {
      await reader`select from ops.noted limit 1`;
      done = maintain().execute();
      await eventually(async () => {
        const [row] = await db.as('superuser')`
          select from pg_stat_activity where wait_event = 'PgSleep' and query ~ 'maintain'`;
        return row !== undefined;
      });
    });
    await done;
    expect(await names()).toHaveLength(5);
  });

  test('begins again when the table was truncated meanwhile', async () => {
    await advanceTo('settling');
    await db.as('owner')`truncate ops.noted`;
    await expect(maintain()).rejects.toMatchObject({ message: expect.stringMatching(/truncated/) });
    expect(await moves()).toEqual([]);
    await maintain();
    expect(await db.as('owner')`select from ops.noted`).toHaveLength(0);
  });

  test('gives up when somebody made a partition of the same range, and goes on after it', async () => {
    await advanceTo('waiting');
    await db.as('owner').begin((sql) =>
      sql.unsafe(`
      create table app_partitions.noted_hand (like ops.noted including generated including constraints);
      with gone as (delete from ops.noted where at < '2001-02-15' returning person, at, id, body)
      insert into app_partitions.noted_hand (person, at, id, body) select * from gone;
      alter table ops.noted attach partition app_partitions.noted_hand
        for values from ('2001-02-01') to ('2001-02-15')`),
    );
    await expect(maintain()).rejects.toMatchObject({ message: expect.stringMatching(/overlap/) });
    expect(await moves()).toEqual([]);
    expect(await differences()).toEqual([]);
  });

  test('says what cannot be moved, with GW012', async () => {
    await db.as('owner')`alter table ops.noted drop constraint noted_pkey`;
    await expect(maintain()).rejects.toMatchObject({
      message: expect.stringMatching(/GW012: .*primary key/),
    });
    await db.as('owner').unsafe(`
      alter table ops.noted add primary key (person, at, id);
      create table ops.child (person integer, at timestamptz, id integer,
        foreign key (person, at, id) references ops.noted)`);
    await expect(maintain()).rejects.toMatchObject({
      message: expect.stringMatching(/GW012: .*reference them/),
    });
    await db.as('owner')`drop table ops.child`;
  });

  test('goes on where a run that was killed had stopped', async () => {
    const runner = connect(db.url('owner'), { max: 1 });
    await db.as('superuser').begin('isolation level repeatable read', async (reader) => {
      // The exchange waits for it.
      await reader`select 1`;
      const [backend] = await runner`select pg_backend_pid() as pid`;
      const killed = maintain(runner).catch((error: Error) => error);
      await eventually(async () => (await moves())[0]?.phase === 'waiting');
      await db.as('superuser')`select pg_terminate_backend(${backend?.pid})`;
      expect(await killed).toBeInstanceOf(Error);
    });
    await runner.end({ timeout: 1 });
    await maintain();
    expect(await names()).toHaveLength(5);
    expect(await differences()).toEqual([]);
  });
});
