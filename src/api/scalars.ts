import { TYPES } from 'postgraphile/@dataplan/pg';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { type GraphQLScalarTypeConfig, Kind } from 'postgraphile/graphql';

interface Format {
  description: string;
  /** What a value looks like, for whoever sent another. */
  looks: string;
  isValid: (text: string) => boolean;
}

const time = '([01]\\d|2[0-3]):[0-5]\\d(:[0-5]\\d)?';
const [timeForm, zonedForm] = [
  new RegExp(`^${time}$`),
  // Seconds may have a fraction, of which PostgreSQL keeps six digits.
  /^(\d{4}-\d{2}-\d{2})T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?(Z|[+-](0\d|1[0-5])(:?[0-5]\d)?)$/i,
];

/** Whether YYYY-MM-DD is a day of the calendar, in the years 1 to 9999. */
function isDay(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text) || text.startsWith('0000')) return false;
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

/** Scalars whose values PostgreSQL would read in many forms, and some of them as another value. */
const formats: Record<string, Format> = {
  Date: {
    description: 'A day of the calendar, `YYYY-MM-DD`. Nothing else is taken: no time, no zone.',
    looks: 'a date looks like 2030-01-31',
    isValid: isDay,
  },
  Time: {
    description:
      'A time of day, `HH:MM:SS`, from 00:00:00 to 23:59:59, without a zone. `HH:MM` is taken too.',
    looks: 'a time of day looks like 09:30:00',
    isValid: (text) => timeForm.test(text),
  },
  Datetime: {
    description:
      'An instant, as RFC 3339 has it: `2030-01-31T09:30:00Z`, or with an offset from UTC, `+02:00`.',
    looks: 'an instant looks like 2030-01-31T09:30:00Z, with Z or an offset such as +02:00',
    isValid: (text) => isDay(zonedForm.exec(text)?.[1] ?? ''),
  },
  UUID: {
    description: 'A UUID, as RFC 9562 writes it: 32 hexadecimal digits with four hyphens.',
    looks: 'an id looks like 5f0c1b9e-6d57-4b52-9d9c-0d3c5c4c6f11',
    isValid: (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text),
  },
};

function parse({ looks, isValid }: Format, value: unknown): string {
  if (typeof value === 'string' && isValid(value)) return value;
  throw Object.assign(new Error(looks), { extensions: { code: 'VALIDATION_FAILED' } });
}

/** The format of PostgreSQL's `time` may have a fraction of a second; that of the API has none. */
const withoutFraction = (value: unknown): string => String(value).replace(/\..*$/, '');

/** A value that is not what its type says is refused, in place of being read as another. */
export const ScalarsPlugin: GraphileConfig.Plugin = {
  name: 'ScalarsPlugin',
  version: '1.0.0',
  gather: {
    hooks: {
      // An average of a few digits, which JSON's numbers hold.
      pgCodecs_attribute(_info, { attribute }) {
        if (attribute.codec === TYPES.numeric) attribute.codec = TYPES.float;
      },
    },
  },
  schema: {
    hooks: {
      GraphQLScalarType(config) {
        const { name } = config as { name: string };
        const format = formats[name];
        if (format === undefined) return config;
        return {
          ...config,
          description: format.description,
          ...(name === 'Time' ? { serialize: withoutFraction } : {}),
          parseValue: (value: unknown) => parse(format, value),
          parseLiteral: (node) =>
            parse(
              format,
              node.kind === Kind.STRING || node.kind === Kind.INT ? node.value : undefined,
            ),
        } satisfies Partial<GraphQLScalarTypeConfig<unknown, unknown>> as typeof config;
      },
    },
  },
};
