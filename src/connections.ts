import type { Config } from './config.ts';

/** Connections of `gw worker`: one pool, pg-boss's too. */
export const workerPool = 8;

/** Connections that no process of ours may take: people, reports, backups, and the superuser's. */
const forPeople = 10;
const reserved = 3;

export interface Budget {
  process: 'serve' | 'worker' | 'cdc';
  /** What one process opens, at most. */
  total: number;
  are: string;
}

/** Each channel to which messages may be routed has a session of its own. */
const vendorsOf = ({ GW_DELIVERY_VENDORS: vendors, GW_VAPID_KEY: key }: Config): number =>
  vendors.length + (key === undefined ? 0 : 1);

/** How many connections each process takes of the server's max_connections. */
export const budgetOf = (config: Config): Budget[] => [
  {
    process: 'serve',
    total: config.GW_POOL_SIZE + 5,
    are: `${config.GW_POOL_SIZE} for requests, 2 for metrics, 1 listens, 1 for /readyz, 1 for the fence`,
  },
  {
    process: 'worker',
    total: workerPool + 2 + vendorsOf(config),
    are: `${workerPool} for the queue, ${1 + vendorsOf(config)} by which it lives, 1 for the fence`,
  },
  {
    process: 'cdc',
    total: 5,
    are: '2 for statements, 1 for its lease, 1 for the fence, 1 reads the log (of max_wal_senders)',
  },
];

/** What max_connections must be, with the numbers of processes as names. */
export const formulaOf = (config: Config): string => {
  const terms = budgetOf(config).map(
    ({ process, total }) =>
      // A reader of the log is counted by max_wal_senders.
      `${process} × ${process === 'cdc' ? total - 1 : total}`,
  );
  return `max_connections ≥ ${terms.join(' + ')} + ${forPeople + reserved}`;
};
