import type { Config } from '../config.ts';

/** Settings of a session in which a person acts: ops.audit() records who. */
export const asOperator = (
  { GW_OPERATOR: operator }: Pick<Config, 'GW_OPERATOR'>,
  application: string,
): Record<string, string> => ({
  application_name: application,
  ...(operator === undefined ? {} : { 'groundwork.operator': operator }),
});
