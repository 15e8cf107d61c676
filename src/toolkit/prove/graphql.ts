import {
  buildClientSchema,
  getIntrospectionQuery,
  getNamedType,
  type IntrospectionQuery,
  isObjectType,
  isRequiredArgument,
} from 'postgraphile/graphql';
import { withSql } from '../../postgres/connect.ts';
import type { Database } from '../../postgres/urls.ts';
import { changedSince } from './attempt.ts';
import { Disguise } from './disguise.ts';
import { collectObjects, GraphqlClient, type ServedApi, shapeOf } from './graphql-client.ts';
import {
  type Context,
  disguised,
  forbiddenMarks,
  isMisunderstood,
  refusals,
  sourceFor,
  watchRows,
} from './graphql-context.ts';
import {
  argumentSets,
  documentFor,
  type Field,
  type JsonObject,
  rowType,
} from './graphql-documents.ts';
import { proveConnection } from './graphql-filters.ts';
import { proveInputs } from './graphql-inputs.ts';
import { proveLive } from './graphql-live.ts';
import type { ProveOptions } from './options.ts';
import { Report, type Who } from './report.ts';
import { makeWorld, strangers } from './world.ts';

/** Calls one field as a stranger, with A's values in its arguments. */
async function proveField(
  context: Context,
  kind: 'query' | 'mutation',
  field: Field,
  who: Exclude<Who, 'A'>,
  as: string | null,
): Promise<void> {
  const { world, client, schema, report, disguise } = context;
  const object = `${kind === 'query' ? 'Query' : 'Mutation'}.${field.name}`;
  const about = context.objects.get(rowType(schema, field)) ?? [];
  const sources = about.length > 0 ? about.slice(0, 2) : [undefined];
  const forbidden = forbiddenMarks(context, as);
  for (const one of sources) {
    const sets = argumentSets(field, sourceFor(context, one), kind === 'mutation');
    for (const variables of sets) {
      let document = documentFor(schema, kind, field, variables);
      let response = await client.ask(document, variables, as);
      if (response.codes.includes('FORBIDDEN') && kind === 'query') {
        // What it is related to may be forbidden, and itself not.
        document = documentFor(schema, kind, field, variables, 0);
        response = await client.ask(document, variables, as);
      }
      const given = JSON.stringify(variables);
      const what = `${field.name} ${given}`;
      const isRefused = response.codes.some((code) => refusals.test(code));
      report.record(object, who, 'see', isRefused ? 'refused' : 'empty');
      if (isMisunderstood(response.codes)) {
        const detail = `${response.errorMessages.join('; ')}: ${what}`;
        report.record(object, who, 'see', 'cannot prove', detail);
        continue;
      }
      const found = [...forbidden].find(
        (mark) => response.text.includes(mark) && !given.includes(mark),
      );
      if (found !== undefined) report.leak(object, who, 'see', `returns ${found}: ${what}`);
      else if (as !== null && [...world.marksOfB].some((mark) => response.text.includes(mark))) {
        report.record(object, who, 'see', 'own rows only');
      }
      if (kind === 'mutation') {
        report.record(object, who, 'change', isRefused ? 'refused' : 'empty');
        await watchRows(context, object, who, what);
        // Inputs that refer to rows are tried one by one, in graphql-inputs.ts.
        if (!/^(update|delete)/.test(field.name)) continue;
      }
      const other = disguised(variables, disguise) as JsonObject;
      if (JSON.stringify(other) === given) continue;
      const control = await client.ask(document, other, as);
      const same =
        String(control.codes) === String(response.codes) &&
        JSON.stringify(shapeOf(control.data)) === JSON.stringify(shapeOf(response.data));
      report.record(object, who, 'infer', isRefused ? 'refused' : 'empty');
      if (!same) {
        const codes = `${response.codes.join() || 'no error'}, nobody's: ${control.codes.join() || 'no error'}`;
        report.leak(object, who, 'infer', `A's: ${codes}: ${what}`, response.codes);
      }
    }
  }
}

/** What A sees through the API: whatever list and object needs no argument. */
async function collect(context: Context): Promise<void> {
  const { schema, client, world, report } = context;
  for (const field of Object.values(schema.getQueryType()?.getFields() ?? {})) {
    const type = getNamedType(field.type);
    if (!isObjectType(type) || type === schema.getQueryType()) continue;
    if (field.args.some(isRequiredArgument)) continue;
    const response = await client.ask(documentFor(schema, 'query', field, {}), {}, world.a.id);
    const seesOwn = [...world.marks].some((mark) => response.text.includes(mark));
    if (world.attempts.options.objects?.test(`Query.${field.name}`) !== false) {
      report.add(`Query.${field.name}`, 'query');
      report.record(`Query.${field.name}`, 'A', 'see', seesOwn ? 'own rows only' : 'empty');
    }
    collectObjects(response.data, context.objects);
    const others = await client.ask(documentFor(schema, 'query', field, {}), {}, world.b.id);
    collectObjects(others.data, context.objectsOfB);
  }
}

/** Fields that keep B alive first; those that may close its account last. */
function inOrder(fields: Field[]): Field[] {
  const isPlain = ({ name }: Field) => /^(update|delete|create)/.test(name);
  return [...fields.filter(isPlain), ...fields.filter((field) => !isPlain(field))];
}

async function proveSchema(context: Context): Promise<void> {
  const { schema, report, world } = context;
  await collect(context);
  // Asking as A may have left rows of A's own, such as results that are cached.
  await changedSince(context.sql);
  const { objects } = world.attempts.options;
  const isWanted = ({ name }: Field, kind: string) => objects?.test(`${kind}.${name}`) !== false;
  const queries = Object.values(schema.getQueryType()?.getFields() ?? {}).filter(
    (field) => getNamedType(field.type) !== schema.getQueryType() && isWanted(field, 'Query'),
  );
  const mutations = inOrder(Object.values(schema.getMutationType()?.getFields() ?? {})).filter(
    (field) => isWanted(field, 'Mutation'),
  );
  for (const field of queries) report.add(`Query.${field.name}`, 'query');
  for (const field of mutations) report.add(`Mutation.${field.name}`, 'mutation');
  for (const [who, as] of strangers(world)) {
    for (const field of queries) {
      await proveConnection(context, field, who, as);
      await proveField(context, 'query', field, who, as);
    }
  }
  const subscriptions = Object.values(schema.getSubscriptionType()?.getFields() ?? {}).filter(
    (field) => isWanted(field, 'Subscription'),
  );
  for (const field of subscriptions) report.add(`Subscription.${field.name}`, 'subscription');
  await proveLive(context, subscriptions);
  // A key names a row of whoever asks. Later, when B has tried to create rows with A's ids, it may
  // have some of its own under them.
  const isByKey = ({ name }: Field) => /^(update|delete)/.test(name);
  for (const [who, as] of strangers(world)) {
    for (const field of mutations.filter(isByKey))
      await proveField(context, 'mutation', field, who, as);
  }
  for (const [who, as] of strangers(world)) {
    for (const field of mutations) await proveInputs(context, field, who, as);
  }
  for (const [who, as] of strangers(world)) {
    for (const field of mutations.filter((one) => !isByKey(one)))
      await proveField(context, 'mutation', field, who, as);
  }
}

/**
 * Has the database's API served and calls every field as the strangers. The two users are
 * committed for it, and removed afterwards.
 */
export async function proveGraphql(
  database: Database,
  serve: (database: Database) => Promise<ServedApi>,
  options: ProveOptions,
  report: Report,
): Promise<void> {
  await withSql(
    database.urls.superuser ?? '',
    async (sql) => {
      // What cannot be made is told by the SQL part.
      const made = new Report(options);
      const world = await sql.begin((transaction) => makeWorld(transaction, options, made));
      for (const finding of made.findings) {
        report.add(finding.object, finding.kind);
        report.record(finding.object, finding.who, finding.aspect, finding.mark, finding.detail);
      }
      const api = await serve(database);
      try {
        const client = new GraphqlClient(api);
        const response = await client.ask(getIntrospectionQuery(), {}, null);
        const schema = buildClientSchema(response.data as unknown as IntrospectionQuery);
        const disguise = new Disguise(world.marks);
        const context: Context = {
          ...{ world, client, schema, report, sql, disguise },
          ...{ objects: new Map(), objectsOfB: new Map(), position: '', sources: 0 },
        };
        await proveSchema(context);
        report.tried += client.asked;
      } finally {
        await api.close();
        const removals = [world.a, world.b].map((person) => world.removal(person));
        await sql.begin(async (transaction) => {
          for (const removal of removals) await transaction.unsafe(removal);
        });
      }
    },
    // The fingerprints of A's rows live in this session.
    { max: 1, idle_timeout: 0 },
  );
}
