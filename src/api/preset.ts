// First: it corrects what the next ones load.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { PersistedPlugin } from '@grafserv/persisted';
import { PgSimplifyInflectionPreset } from '@graphile/simplify-inflection';
import { PgManyToManyPreset } from '@graphile-contrib/pg-many-to-many';
import type { Pool } from 'pg';
import { makePgService } from 'postgraphile/adaptors/pg';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { PgIndexBehaviorsPlugin, PgJWTPlugin } from 'postgraphile/graphile-build-pg';
import type { GraphQLError } from 'postgraphile/graphql';
import { PostGraphileAmberPreset } from 'postgraphile/presets/amber';
import { PostGraphileConnectionFilterPreset } from 'postgraphile-plugin-connection-filter';
import { AggregatesPreset } from './aggregates.ts';
import { BulkPlugin } from './bulk/plugin.ts';
import { CallerPlugin } from './caller.ts';
import { CheckEnumsPlugin } from './check-enums.ts';
import { CompressionPlugin } from './compression.ts';
import { DescriptionsPlugin } from './descriptions.ts';
import { documentPlugin } from './documents/plugin.ts';
import { limits } from './limits.ts';
import type { LiveSource } from './live/follow.ts';
import { LivePlugin, SubscriptionTransportPlugin } from './live/plugin.ts';
import { liveRowPlugins } from './live/rows.ts';
import { LinkTablesPlugin, PartitionedIndexPlugin, TenantKeyNamesPlugin } from './naming.ts';
import { NotNullPlugin } from './not-null.ts';
import type { Operations } from './operations.ts';
import { OutagePlugin } from './outage-plugin.ts';
import { OrdersPlugin } from './pages/orders.ts';
import { PageSizePlugin } from './pages/page-size.ts';
import { assertRepaired } from './pages/repair.ts';
import { prepareAnew } from './prepared.ts';
import type { CountSignIns } from './rates.ts';
import { NotFoundPlugin, RefusalPlugin } from './refusals.ts';
import { ScalarsPlugin } from './scalars.ts';
import { SearchFilterPlugin } from './search-filter.ts';
import { type Asker, type SharedOptions, shareConnections } from './shares.ts';
import { telemetryPlugin } from './telemetry/plugin.ts';
import { observeStatements } from './telemetry/statements.ts';
import type { Telemetry } from './telemetry/telemetry.ts';
import { type Claims, tokenAudience, tokenIssuer } from './tokens.ts';
import { VectorPlugin } from './vector-plugin.ts';
import type { Violations } from './violations.ts';

export interface PresetOptions {
  pool: Pool;
  jwtSecret: string;
  /** What a request's token says; undefined for an anonymous one. */
  claimsOf: (request: IncomingMessage) => Claims | undefined;
  /** Where a user's changes come from; unset where there are no sockets. */
  liveOf?: ((userId: string) => LiveSource) | undefined;
  maskError: (error: GraphQLError) => GraphQLError;
  /** Whether callers may read the schema: introspection, GraphiQL, names like a wrong one. */
  showsSchema?: boolean | undefined;
  /** Operations that clients name by a hash; alone: nothing else is run. */
  operations?: { list: Operations; alone: boolean } | undefined;
  /** Counts fields that sign in; absent where nothing is served. */
  countSignIns?: CountSignIns | undefined;
  /** Whether nothing may be changed, which is asked at each request. */
  readsOnly?: (() => boolean) | undefined;
  /** Absent where nothing is served. */
  violations?: Violations | undefined;
  /** Shares of the pool; absent where nothing is served. */
  connections?: Omit<SharedOptions, 'askerOf'> | undefined;
  /** Absent where nothing is served, such as when the schema is printed. */
  telemetry?: Telemetry | undefined;
  /** A superuser's URL, to rebuild the schema whenever the database changes. */
  watchUrl?: string | undefined;
}

/** Aborted when the connection ends before the response does. */
function goneSignal(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) controller.abort();
  });
  return controller.signal;
}

/** Set with set_config(…, true) inside the transaction of each operation. */
const settingsOf = (
  claims: Claims | undefined,
  traceparent: string | undefined,
  readsOnly: boolean,
) => ({
  role: claims === undefined ? 'app_anonymous' : 'app_user',
  'app.current_user_id': claims?.sub ?? '',
  'app.current_session_id': claims?.sid ?? '',
  'app.traceparent': traceparent ?? '',
  statement_timeout: `${limits.statementSeconds}s`,
  ...(readsOnly ? { transaction_read_only: 'on' } : {}),
});

/** Everything that PostGraphile is told. */
export function makePreset(options: PresetOptions): GraphileConfig.Preset {
  assertRepaired();
  const {
    pool,
    jwtSecret,
    claimsOf,
    liveOf,
    maskError,
    telemetry,
    watchUrl,
    connections,
    operations,
  } = options;
  const askers = new WeakMap<object, Asker>();
  const showsSchema = options.showsSchema ?? true;
  const pgService = prepareAnew(
    makePgService({
      pool,
      schemas: ['app_public'],
      ...(watchUrl === undefined ? {} : { superuserConnectionString: watchUrl }),
    }),
  );
  const observed = telemetry === undefined ? pgService : observeStatements(pgService, telemetry);
  const served =
    connections === undefined
      ? observed
      : shareConnections(observed, {
          ...connections,
          askerOf: (pgSettings) => askers.get(pgSettings),
        });
  return {
    extends: [
      PostGraphileAmberPreset,
      PgSimplifyInflectionPreset,
      PostGraphileConnectionFilterPreset,
      PgManyToManyPreset,
      AggregatesPreset,
    ],
    plugins: [
      PgJWTPlugin,
      PgIndexBehaviorsPlugin,
      PartitionedIndexPlugin,
      TenantKeyNamesPlugin,
      LinkTablesPlugin,
      CallerPlugin,
      ScalarsPlugin,
      CheckEnumsPlugin,
      OrdersPlugin,
      PageSizePlugin,
      NotNullPlugin,
      BulkPlugin,
      RefusalPlugin,
      NotFoundPlugin,
      documentPlugin({
        showsSchema,
        countSignIns: options.countSignIns,
        violations: options.violations,
        callerOf: (request) => (request === undefined ? undefined : claimsOf(request)?.sub) ?? '',
      }),
      OutagePlugin,
      CompressionPlugin,
      ...(operations === undefined ? [] : [PersistedPlugin]),
      VectorPlugin,
      SearchFilterPlugin,
      DescriptionsPlugin,
      LivePlugin,
      ...liveRowPlugins,
      SubscriptionTransportPlugin,
      ...(telemetry === undefined ? [] : [telemetryPlugin(telemetry)]),
    ],
    pgServices: [served],
    schema: {
      // A schema that cannot be built whole must not be served in part.
      dontSwallowErrors: true,
      pgJwtSecret: jwtSecret,
      pgJwtSignOptions: { issuer: tokenIssuer, audience: tokenAudience, algorithm: 'HS256' },
      defaultBehavior: '-query:resource:list',
      // Nodes and edges are rows, and no row is null.
      pgForbidSetofFunctionsToReturnNull: true,
      // No index serves a function of a row.
      connectionFilterComputedColumns: false,
    },
    gather: {
      pgJwtTypes: 'app_public.access_token',
      // An argument without a default is required.
      pgStrictFunctions: true,
    },
    grafserv: {
      graphqlPath: '/graphql',
      graphiql: showsSchema,
      graphiqlPath: '/',
      graphiqlOnGraphQLGET: showsSchema,
      // urql asks so; grafserv refuses mutations over it.
      graphqlOverGET: true,
      maxRequestLength: limits.bodyBytes,
      // The documents' own cache takes its place.
      parseAndValidateCacheSize: 0,
      watch: watchUrl !== undefined,
      websockets: false,
      maskError,
      ...(operations === undefined
        ? {}
        : {
            persistedOperations: operations.list,
            allowUnpersistedOperation: !operations.alone,
          }),
    },
    grafast: {
      explain: false,
      context(requestContext) {
        const { node, ws } = requestContext;
        const request = (node?.req ?? ws?.request) as IncomingMessage | undefined;
        const claims = request === undefined ? undefined : claimsOf(request);
        const traceparent =
          request === undefined ? undefined : telemetry?.infoOf(request)?.traceparent;
        const pgSettings = settingsOf(claims, traceparent, options.readsOnly?.() === true);
        askers.set(pgSettings, {
          key: claims?.sub ?? '',
          gone: node === undefined ? undefined : goneSignal(node.res),
          isLive: ws !== undefined,
          received: 0,
        });
        return {
          live: ws === undefined || claims === undefined ? undefined : liveOf?.(claims.sub),
          pgSettings,
        };
      },
    },
  };
}
