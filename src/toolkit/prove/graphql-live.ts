import { setTimeout as sleep } from 'node:timers/promises';
import { getNamedType } from 'postgraphile/graphql';
import { literal } from './attempt.ts';
import type { Followed } from './graphql-client.ts';
import { type Context, forbiddenMarks, refusals, sourceFor } from './graphql-context.ts';
import { argumentSets, documentFor, type Field, rowType } from './graphql-documents.ts';
import type { Person } from './rows.ts';
import type { World } from './world.ts';

/** How long an own change may take to be told, in milliseconds. */
const patienceMs = 15_000;
const pollMs = 100;

/** What names a row in a notification, as the triggers of its table have it. */
interface Notice {
  relation: string;
  topic: string;
  key: string;
}

/** Tables whose triggers notify, with the topic and key of their notifications. */
async function noticesOf({ sql }: Context): Promise<Notice[]> {
  return sql<Notice[]>`
    with told as (
      select distinct pg_trigger.tgrelid, pg_proc.proname::text as function,
        string_to_array(rtrim(encode(pg_trigger.tgargs, 'escape'), '\\000'), '\\000') as args
      from pg_catalog.pg_trigger
      inner join pg_catalog.pg_proc on pg_proc.oid = pg_trigger.tgfoid
      where not pg_trigger.tgisinternal
        and pg_proc.proname in ('tg__notify', 'tg__changes', 'tg_habit_logs__changes')
    ),
    named as (
      select tgrelid,
        case function when 'tg_habit_logs__changes' then 'habit_log' else args[1] end as topic,
        case function
          when 'tg__notify' then string_to_array(args[2], ',')
          when 'tg_habit_logs__changes' then array['habit_id', 'log_date']
          else array['id']
        end as columns
      from told
      where function <> 'tg__changes' or args[2] = 'live'
    )
    select distinct (
        select relnamespace::regnamespace || '.' || relname from pg_catalog.pg_class
        where pg_class.oid = tgrelid) as relation, topic,
      (select string_agg(
          case when atttypid = 'timestamptz'::regtype
            then format('to_char(%I at time zone ''UTC'', ''YYYY-MM-DD"T"HH24:MI:SS.US"Z"'')', attname)
            else format('%I::text', attname) end,
          ' || '' '' || ' order by array_position(columns, attname::text))
        from pg_catalog.pg_attribute
        where attrelid = tgrelid and attname = any (columns)) as key
    from named`;
}

/**
 * Tells B that rows of somebody have changed, whoever's they are: it must see its own alone. Returns
 * the parts of the keys that it was told.
 */
async function tell(
  { sql, world }: Context,
  notices: readonly Notice[],
  person: Person,
): Promise<Set<string>> {
  const told = new Set<string>();
  for (const { relation, topic, key } of notices) {
    const entry = relationOf(world, relation);
    if (entry === undefined) continue;
    const [row] = await sql.unsafe<{ keys: string[] | null }[]>(`
      select array_agg(${key}) as keys,
        app_private.notify_live(${literal(topic)}, 'UPDATE',
          array_agg(${literal(world.b.id)}::uuid), array_agg(${key}))
      from ${relation} where ${world.maker.whereOf(entry, person)} having count(*) > 0`);
    for (const part of row?.keys?.flatMap((text) => text.split(' ')) ?? []) told.add(part);
  }
  return told;
}

const relationOf = ({ relations }: World, name: string) =>
  [...relations.values()].find(({ name: quoted }) => quoted.replaceAll('"', '') === name);

const hasMark = (texts: readonly string[], marks: ReadonlySet<string>): string | undefined =>
  [...marks].find((mark) => texts.some((text) => text.includes(mark)));

/** Repeats what is told until it is heard anew. */
async function untilHeard(
  followed: Followed,
  marks: ReadonlySet<string>,
  again: () => Promise<unknown>,
): Promise<boolean> {
  const deadline = Date.now() + patienceMs;
  const before = followed.texts.length;
  while (hasMark(followed.texts.slice(before), marks) === undefined) {
    if (followed.isOver || Date.now() > deadline) return false;
    await again();
    await sleep(pollMs);
  }
  return true;
}

/**
 * Follows every subscription as the strangers, with A's keys in its arguments too, and has the
 * database tell B of A's rows: an event shows what its reader may see, whatever names it.
 */
export async function proveLive(context: Context, fields: readonly Field[]): Promise<void> {
  const { world, client, schema, report } = context;
  const notices = await noticesOf(context);
  for (const field of fields) {
    const object = `Subscription.${field.name}`;
    const type = getNamedType(field.type);
    const about = context.objects.get(rowType(schema, field))?.[0];
    const sets = [{}, ...argumentSets(field, sourceFor(context, about), false)];
    const distinct = [...new Map(sets.map((set) => [JSON.stringify(set), set])).values()];
    for (const variables of distinct) {
      const document = documentFor(schema, 'subscription', field, variables);
      const nobody = await client.follow(document, variables, null);
      await nobody.over(patienceMs);
      const isRefused = nobody.codes.some((code) => refusals.test(code));
      report.record(
        object,
        'anonymous',
        'see',
        isRefused ? 'refused' : 'cannot prove',
        `${type.name}`,
      );
      nobody.stop();

      const followed = await client.follow(document, variables, world.b.id);
      const given = JSON.stringify(variables);
      // With A's key it hears nothing, and that is right: its own is told beside it.
      const own =
        given === '{}'
          ? followed
          : await client.follow(documentFor(schema, 'subscription', field, {}), {}, world.b.id);
      const isHeard = await untilHeard(own, world.marksOfB, () => tell(context, notices, world.b));
      const told = await tell(context, notices, world.a);
      const isHeardAgain = await untilHeard(own, world.marksOfB, () =>
        tell(context, notices, world.b),
      );
      const found = hasMark(
        [...followed.texts, ...own.texts].map((text) => text.replaceAll(given.slice(1, -1), '')),
        new Set([...forbiddenMarks(context, world.b.id)].filter((mark) => !told.has(mark))),
      );
      if (found !== undefined) report.leak(object, 'B', 'see', `tells ${found}: ${given}`);
      else if (isHeard && isHeardAgain) report.record(object, 'B', 'see', 'own rows only');
      else
        report.record(
          object,
          'B',
          'see',
          'cannot prove',
          `no change of its own was told: ${given}`,
        );
      followed.stop();
      own.stop();
    }
  }
}
