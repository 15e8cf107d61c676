/** A role that a process or a person logs in as. */
interface LoginRole {
  /** In the database. */
  name: string;
  /** The environment variable that has its password. */
  variable: string;
  purpose: string;
}

/**
 * The roles that log in: the one list of them. sql/bootstrap/roles.sql makes the same, and a
 * test compares the two.
 */
export const loginRoles = {
  owner: {
    name: 'gw_owner',
    variable: 'GW_OWNER_PASSWORD',
    purpose: 'owns every object; runs migrations and pg_cron jobs',
  },
  authenticator: {
    name: 'gw_authenticator',
    variable: 'GW_AUTHENTICATOR_PASSWORD',
    purpose: 'the API: may only become app_user or app_anonymous',
  },
  worker: {
    name: 'gw_worker',
    variable: 'GW_WORKER_PASSWORD',
    purpose: 'the worker: calls functions, reads no tenant table',
  },
  cdc: {
    name: 'gw_cdc',
    variable: 'GW_CDC_PASSWORD',
    purpose: 'change capture: reads the write-ahead log',
  },
  readonly: {
    name: 'gw_readonly',
    variable: 'GW_READONLY_PASSWORD',
    purpose: 'analytics: every row, no secret, no writing',
  },
  monitor: {
    name: 'gw_monitor',
    variable: 'GW_MONITOR_PASSWORD',
    purpose: 'reports and checks: statistics and ops',
  },
} as const satisfies Record<string, LoginRole>;

/** The short name of a role that logs in. */
export type LoginName = keyof typeof loginRoles;

export const loginNames = Object.keys(loginRoles) as LoginName[];

/** What gw_authenticator becomes for a request. */
export const requestRoles = { user: 'app_user', anonymous: 'app_anonymous' } as const;

/** What roles of others are members of, to do what these may. */
export const memberRoles = { sender: 'gw_sender', support: 'gw_support' } as const;

/** The names of all our roles in the database. */
export const roleNames: readonly string[] = [
  ...Object.values(loginRoles).map(({ name }) => name),
  ...Object.values(requestRoles),
  ...Object.values(memberRoles),
];

/** Something for each role that logs in. */
export const forEachLogin = <Value>(make: (login: LoginName) => Value): Record<LoginName, Value> =>
  Object.fromEntries(loginNames.map((login) => [login, make(login)])) as Record<LoginName, Value>;
