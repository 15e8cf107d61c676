import { type AggregateSpec, PgAggregatesPreset } from '@graphile/pg-aggregates';
// What the package adds to Graphile's types is not reachable from its index.
import type {} from '@graphile/pg-aggregates/dist/AddAggregateTypesPlugin.js';
import type {} from '@graphile/pg-aggregates/dist/AddGroupByAggregateEnumValuesForAttributesPlugin.js';
import type {} from '@graphile/pg-aggregates/dist/AddHavingAggregateTypesPlugin.js';
import type {} from '@graphile/pg-aggregates/dist/InflectionPlugin.js';
import {
  type PgCodec,
  type PgSelectSingleStep,
  type PgSelectStep,
  TYPES,
} from 'postgraphile/@dataplan/pg';
import { constant, type FieldArgs } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { GraphQLNonNull, type GraphQLOutputType } from 'postgraphile/graphql';
import { sql } from 'postgraphile/pg-sql2';
import { limits } from './limits.ts';

/** How the rows of a column are put into groups: by its value, or by the day or week of it. */
type Grouping = 'value' | 'day' | 'week';

interface Aggregated {
  /** Columns that an index serves and that have few values in a range, or are truncated. */
  groupBy: Record<string, Grouping[]>;
  /** Columns of numbers that can be added up, or compared. */
  sums?: string[];
  averages?: string[];
}

/**
 * The tables whose connections can be counted and summed up, and by what. Nothing else has
 * aggregates: each table costs a dozen types, and each column a way to read all its rows.
 */
const aggregated: Record<string, Aggregated> = {
  tasks: {
    groupBy: {
      status: ['value'],
      priority: ['value'],
      project_id: ['value'],
      list_id: ['value'],
      due_date: ['value', 'week'],
      created_at: ['day', 'week'],
    },
  },
  goals: { groupBy: { status: ['value'] } },
  habit_logs: { groupBy: { habit_id: ['value'], log_date: ['value', 'week'] } },
  reflections: {
    groupBy: { reflection_date: ['week'] },
    averages: ['mood_score'],
  },
  chat_messages: { groupBy: { chat_id: ['value'], created_at: ['day', 'week'] } },
  message_logs: {
    groupBy: {
      message_type: ['value'],
      status: ['value'],
      scheduled_send_time: ['day', 'week'],
    },
  },
  user_activity: { groupBy: { occurred_at: ['day', 'week'] } },
  user_dashboard_aggregates: {
    groupBy: { agg_date: ['week'] },
    sums: ['tasks_created', 'tasks_completed', 'reflections_count', 'mood_sum', 'mood_count'],
  },
};

function of(codec: PgCodec | undefined): Aggregated | undefined {
  const pg = codec?.extensions?.pg;
  return pg?.schemaName === 'app_public' ? aggregated[pg.name] : undefined;
}

const applies: Record<string, (table: Aggregated) => string[] | undefined> = {
  sum: ({ sums }) => sums,
  average: ({ averages }) => averages,
  min: ({ averages }) => averages,
  max: ({ averages }) => averages,
};

/** PostgreSQL widens sums and averages to types that JSON has only as text; ours are small. */
const narrow: Record<string, Partial<AggregateSpec>> = {
  sum: {
    sqlAggregateWrap: (column) => sql`sum(${column})::integer`,
    pgTypeCodecModifier: () => TYPES.int,
  },
  average: {
    sqlAggregateWrap: (column) => sql`avg(${column})::double precision`,
    pgTypeCodecModifier: () => TYPES.float,
  },
};

function limited(spec: AggregateSpec): AggregateSpec {
  return {
    ...spec,
    ...narrow[spec.id],
    shouldApplyToEntity: ({ codec, attributeName }) => {
      const table = of(codec);
      const columns = table && applies[spec.id]?.(table);
      return attributeName !== undefined && columns?.includes(attributeName) === true;
    },
  };
}

/** Sums, averages and counts of the tables above; no ordering and filtering by them. */
const AggregatesPlugin: GraphileConfig.Plugin = {
  name: 'AggregatesPlugin',
  version: '1.0.0',
  after: ['aggregates'],
  schema: {
    behaviorRegistry: {
      add: {
        // A plugin that is left out declares it, and one that is not left out asks for it.
        'resource:groupedAggregates:having': {
          description: 'Whether groups can be filtered; they cannot.',
          entities: ['pgResource'],
        },
      },
    },
    entityBehavior: {
      pgResource: {
        override: {
          provides: ['aggregatedTables'],
          after: ['default'],
          callback: (behavior, resource) =>
            of(resource.codec) !== undefined
              ? behavior
              : [behavior, '-resource:aggregates', '-resource:groupedAggregates'],
        },
      },
      pgCodecAttribute: {
        override: {
          provides: ['aggregatedTables'],
          after: ['default'],
          callback: (behavior, [codec, name]) =>
            of(codec)?.groupBy[name] !== undefined ? behavior : [behavior, '-attribute:groupBy'],
        },
      },
    },
    hooks: {
      build: {
        after: ['PgAggregatesSpecsPlugin'],
        callback(build) {
          build.pgAggregateSpecs = (build.pgAggregateSpecs ?? [])
            .filter(({ id }) => id in applies)
            .map(limited);
          build.pgAggregateGroupBySpecs = (['day', 'week'] as const).map((unit) => ({
            id: `truncated-to-${unit}`,
            isSuitableType: (codec) => codec === TYPES.timestamptz || codec === TYPES.date,
            shouldApplyToEntity: ({ codec, attributeName }) =>
              of(codec)?.groupBy[attributeName ?? '']?.includes(unit) === true,
            // A date has no zone; an instant's day is that in UTC, the session's zone.
            sqlWrap: (value) => sql`date_trunc(${sql.literal(unit)}, ${value})::date`,
            sqlWrapCodec: () => TYPES.date,
          }));
          return build;
        },
      },
      GraphQLEnumType_values(values, build, { scope }) {
        const resource = scope.pgTypeResource;
        if (scope.isPgAggregateGroupEnum !== true || resource === undefined) return values;
        // A column comes with its groupings; those by value that are not wanted are left out.
        const unwanted = Object.entries(of(resource.codec)?.groupBy ?? {})
          .filter(([, groupings]) => !groupings.includes('value'))
          .map(([attributeName]) =>
            build.inflection.aggregateGroupByAttributeEnum({ resource, attributeName }),
          );
        return Object.fromEntries(
          Object.entries(values).filter(([name]) => !unwanted.includes(name)),
        );
      },
      GraphQLObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        if (scope.isPgAggregateContainerType !== true) return fields;
        const type = build.getGraphQLTypeByPgCodec(TYPES.int, 'output') as GraphQLOutputType;
        const count = fieldWithHooks({ fieldName: 'count' }, () => ({
          description: 'How many rows there are.',
          type: new GraphQLNonNull(type),
          plan: ($group: PgSelectSingleStep) => $group.select(sql`count(*)::integer`, TYPES.int),
        }));
        return build.extend(fields, { count }, 'AggregatesPlugin adds count');
      },
      GraphQLObjectType_fields_field(field, _build, { scope }) {
        const { plan } = field;
        if (scope.fieldName !== 'groupedAggregates' || plan === undefined) return field;
        field.description = `The rows of all pages in groups, at most ${limits.groups} of them, in no particular order.`;
        field.plan = (parent, args: FieldArgs, info) => {
          const groups = plan(parent, args, info) as PgSelectStep;
          groups.setFirst(constant(limits.groups));
          return groups;
        };
        return field;
      },
    },
  },
};

/** What of @graphile/pg-aggregates is used, with its limits. */
export const AggregatesPreset: GraphileConfig.Preset = {
  extends: [PgAggregatesPreset],
  plugins: [AggregatesPlugin],
  disablePlugins: [
    'PgAggregatesSmartTagsPlugin',
    'PgAggregatesAddHavingAggregateTypesPlugin',
    'PgAggregatesOrderByAggregatesPlugin',
    'PgAggregatesFilterRelationalAggregatesPlugin',
  ],
};
