import type { Mutant } from '../mutant.ts';

const up = ['cli/up'];
const secrets = ['cli/machine'];

export const mutants: Mutant[] = [
  {
    fault: 'secrets can be read by everybody on the machine',
    file: 'src/server/state.ts',
    find: 'writeFileSync(temporary, text, { mode: 0o600 });',
    replace: 'writeFileSync(temporary, text, { mode: 0o644 });',
    tests: secrets,
  },
  {
    fault: 'the folder of secrets can be entered by everybody',
    file: 'src/server/state.ts',
    find: 'mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });',
    replace: 'mkdirSync(stateDirectory, { recursive: true, mode: 0o755 });',
    tests: secrets,
  },
  {
    fault: 'everybody on the machine is a superuser of the database',
    file: 'src/server/cluster.ts',
    find: "'-A', 'scram-sha-256'",
    replace: "'-A', 'trust'",
    tests: secrets,
  },
  {
    fault: 'the server listens to the network',
    file: 'src/server/cluster.ts',
    find: "'listen_addresses=127.0.0.1'",
    replace: "'listen_addresses=*'",
    tests: secrets,
  },
  {
    fault: 'the superuser’s first password stays on the disk',
    file: 'src/server/cluster.ts',
    find: '    rmSync(passwordFile, { force: true });\n',
    replace: '',
    tests: secrets,
  },
  {
    fault: 'change capture may take a copy of the whole cluster',
    file: 'src/server/cluster.ts',
    find: "const refused = ['local replication gw_cdc', 'host replication gw_cdc all'];",
    replace: 'const refused: string[] = [];',
    tests: secrets,
  },
  {
    fault: 'two gw up run beside each other',
    file: 'src/up/lock.ts',
    find: "writeFileSync(path, String(process.pid), { flag: 'wx', mode: 0o600 });",
    replace: "writeFileSync(path, String(process.pid), { flag: 'w', mode: 0o600 });",
    tests: ['cli/lock'],
  },
  {
    fault: 'what a killed run left behind goes on',
    file: 'src/up/lock.ts',
    find: 'if (children.some(isOurs)) {',
    replace: 'if (children.length > 1_000) {',
    tests: ['cli/lock'],
  },
  {
    fault: 'a process that died is not started again',
    file: 'src/up/supervisor.ts',
    find: 'child.restart = setTimeout(() => this.#startAgain(child), wait);',
    replace: 'child.restart = setTimeout(() => {}, wait);',
    tests: up,
  },
  {
    fault: 'a process that is started again has to answer before it has started',
    file: 'src/up/supervisor.ts',
    find: `'is back');
      this.#askHealth(child);
    });`,
    replace: `'is back');
    });
    this.#askHealth(child);`,
    tests: up,
  },
  {
    fault: 'a process that dies at once is started again without a pause',
    file: 'src/up/supervisor.ts',
    find: '      child.failures += 1;\n',
    replace: '',
    tests: up,
  },
  {
    fault: 'two starts choose the same port',
    file: 'src/server/ports.ts',
    find: '    if (isAlive(holder)) return false;\n',
    replace: '',
    tests: ['cli/ports'],
  },
  {
    fault: 'a port that was asked for and is taken is another one',
    file: 'src/server/ports.ts',
    find: 'if (asked !== undefined) {',
    replace: 'if (asked !== undefined && (await isFree(asked, host))) {',
    tests: ['cli/ports'],
  },
  {
    fault: 'change capture forgets what it had committed when the server crashes',
    file: 'src/cdc/session.ts',
    find: "when 'off' then 'on' else",
    replace: "when 'off' then 'off' else",
    tests: ['cdc/consumer'],
  },
  {
    fault: 'a server of another major starts on the old cluster',
    file: 'src/server/locate.ts',
    find: 'installation.major === major',
    replace: 'installation.major >= major',
    tests: ['cli/old-cluster'],
  },
  {
    fault: 'a server is not restarted after an update of its programs',
    file: 'src/server/cluster.ts',
    find: "return readlinkSync(`/proc/${pid}/exe`).endsWith(' (deleted)');",
    replace: 'return false;',
    tests: ['cli/old-cluster'],
  },
  {
    fault: 'a role keeps an attribute that somebody gave it',
    file: 'sql/bootstrap/roles.sql',
    find: 'rolsuper or rolcreatedb or rolcreaterole or rolbypassrls',
    replace: 'rolsuper or rolcreatedb or rolcreaterole',
    tests: ['ops/superuser', 'docs/roles'],
  },
  {
    fault: 'an error of a statement is in the server’s log, with its values',
    file: 'sql/bootstrap/roles.sql',
    find: "alter role %I set log_min_messages = log'",
    replace: "alter role %I set log_min_messages = warning'",
    tests: ['ops/server-log', 'docs/roles', 'ops/logs'],
  },
  {
    fault: 'a log line has an e-mail address',
    file: 'src/log.ts',
    find: "export const scrub = (text: string): string => text.replace(secrets, '[redacted]');",
    replace: 'export const scrub = (text: string): string => (secrets ? text : text);',
    tests: ['ops/logs', 'api/errors'],
  },
  {
    fault: 'a log line quotes the value that was refused',
    file: 'src/log.ts',
    find: '/^(22|P0)/.test(code) ? message.replace(/".*"/gs, \'"…"\') : message;',
    replace: 'code ? message : message;',
    tests: ['ops/logs', 'api/errors'],
  },
  {
    fault: 'psql shows the password among its arguments',
    file: 'src/commands/db.ts',
    find: "      url.password = '';\n",
    replace: '',
    tests: secrets,
  },
];
