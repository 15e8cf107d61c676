import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, type Sql } from '../../../src/postgres/connect.ts';
import { useDatabase } from '../../helpers/database.ts';
import { planDue } from '../../helpers/messages.ts';

/*
 * A session keeps the plans of its trigger functions. Its first statement may change one row and
 * its next 100,000: a plan that loops over old rows for each new row would take minutes. So each
 * kept plan is looked at, whatever it cost here.
 */
const db = useDatabase();
const plans: Node[] = [];
let sql: Sql;

interface Node {
  'Node Type': string;
  Plans?: Node[];
}

const nodes = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(nodes)];

/** Loops whose inner side reads a whole transition table each time. */
const loops = (): Node[] =>
  plans
    .flatMap(nodes)
    .filter((node) => node['Node Type'] === 'Nested Loop')
    .filter(({ Plans = [] }) =>
      Plans.every((side) =>
        nodes(side).some((each) => each['Node Type'] === 'Named Tuplestore Scan'),
      ),
    );

beforeAll(async () => {
  sql = connect(db.url('superuser'), {
    onnotice: ({ message = '' }) => {
      const [plan] = /(?<=plan:\n)\{[\s\S]*/.exec(message) ?? [];
      if (plan !== undefined) plans.push((JSON.parse(plan) as { Plan: Node }).Plan);
    },
  });
  await sql.unsafe(`
    load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_format = json;
    set auto_explain.log_level = notice;
    set client_min_messages = notice;
  `);
  const [{ id: userId } = { id: '' }] = await planDue(db.as('owner'), 30);
  await sql`
    insert into app_private.live_users (user_id, expires_at)
    select id, now() + interval '1 hour' from app_public.users`;
  await sql`
    insert into app_public.tasks (user_id, title)
    select ${userId}, 'Task ' || number from generate_series(1, 50) as number`;
  await sql`
    insert into app_public.habits (user_id, name) values (${userId}, 'Run')`;
  await sql`
    insert into app_public.habit_logs (user_id, habit_id, log_date)
    select user_id, id, current_date - number
    from app_public.habits cross join generate_series(1, 50) as number`;
});

afterAll(() => sql.end({ timeout: 1 }));

const changes: Record<string, string> = {
  'an update of tasks': "update app_public.tasks set title = title || '.'",
  'an update of habit logs': "update app_public.habit_logs set note = note || '.'",
  'an update of users': "update app_public.users set first_name = first_name || '.'",
  'an update of settings':
    "update app_public.user_settings set locale = case locale when 'en' then 'de' else 'en' end",
  'an update of messages': "update app_public.message_logs set status = 'CANCELED'",
};

for (const [title, change] of Object.entries(changes)) {
  test(`${title} of one row leaves no loop for those of many`, async () => {
    const table = /update (\S+)/.exec(change)?.[1] ?? '';
    await sql.unsafe(`${change} where ctid = (select ctid from ${table} limit 1)`);
    plans.length = 0;
    await sql.unsafe(change);
    expect(plans.length).toBeGreaterThan(1);
    expect(loops()).toEqual([]);
  });
}
