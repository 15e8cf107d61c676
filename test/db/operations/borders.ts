import { type Borders, matches, only } from '../../helpers/borders.ts';

/** The CHECKs of what a copy and a backup are. */
export const borders: Record<string, Borders> = {
  backups_failure_check: {
    inside: [{ failure: "'x'" }, { verified_at: 'now()' }],
    outside: [{ failure: "''" }, { failure: "'x'", verified_at: 'now()' }],
  },
  backups_pinned_check: matches('pinned', ['x'], ['']),
  identity_closed_check: matches('closed', ['x'], ['']),
  identity_is_only_check: only('is_only'),
  standbys_machine_check: {
    inside: [
      { machine: "'a'", data_directory: "''" },
      { machine: "''", data_directory: "'/a'" },
    ],
    outside: [{ machine: "''", data_directory: "''" }],
  },
};
