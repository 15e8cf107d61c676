import process from 'node:process';
import { Command } from 'commander';
import { unknownVariables } from './config.ts';
import { EXIT } from './errors.ts';

type Register = (program: Command) => void;

/** In the order of --help: who registers these commands. */
const modules: { names: string[]; load: () => Promise<Register> }[] = [
  { names: ['up'], load: async () => (await import('./commands/up.ts')).registerUp },
  { names: ['serve'], load: async () => (await import('./commands/serve.ts')).registerServe },
  { names: ['worker'], load: async () => (await import('./commands/worker.ts')).registerWorker },
  { names: ['cdc'], load: async () => (await import('./commands/cdc.ts')).registerCdc },
  {
    names: ['messages'],
    load: async () => (await import('./commands/messages.ts')).registerMessages,
  },
  {
    names: ['templates'],
    load: async () => (await import('./commands/templates.ts')).registerTemplates,
  },
  { names: ['bounces'], load: async () => (await import('./commands/bounces.ts')).registerBounces },
  {
    names: ['migrate', 'watch', 'commit', 'uncommit', 'status', 'reset'],
    load: async () => (await import('./commands/migrate.ts')).registerMigrate,
  },
  {
    names: ['baseline'],
    load: async () => (await import('./commands/baseline.ts')).registerBaseline,
  },
  { names: ['db'], load: async () => (await import('./commands/db.ts')).registerDb },
  { names: ['seed'], load: async () => (await import('./commands/seed.ts')).registerSeed },
  { names: ['digests'], load: async () => (await import('./commands/digests.ts')).registerDigests },
  { names: ['env'], load: async () => (await import('./commands/env.ts')).registerEnv },
  { names: ['config'], load: async () => (await import('./commands/config.ts')).registerConfig },
  { names: ['token'], load: async () => (await import('./commands/token.ts')).registerToken },
  { names: ['schema'], load: async () => (await import('./commands/schema.ts')).registerSchema },
  {
    names: ['operations'],
    load: async () => (await import('./commands/operations.ts')).registerOperations,
  },
  { names: ['lint'], load: async () => (await import('./commands/lint.ts')).registerLint },
  { names: ['prove'], load: async () => (await import('./commands/prove.ts')).registerProve },
  { names: ['report'], load: async () => (await import('./commands/report.ts')).registerReport },
  { names: ['check'], load: async () => (await import('./commands/check.ts')).registerCheck },
  { names: ['tune'], load: async () => (await import('./commands/tune.ts')).registerTune },
  { names: ['backup'], load: async () => (await import('./commands/backup.ts')).registerBackup },
  {
    names: ['restore'],
    load: async () => (await import('./commands/restore.ts')).registerRestore,
  },
  { names: ['drill'], load: async () => (await import('./commands/drill.ts')).registerDrill },
  { names: ['fence'], load: async () => (await import('./commands/fence.ts')).registerFence },
  { names: ['adopt'], load: async () => (await import('./commands/adopt.ts')).registerAdopt },
  { names: ['audit'], load: async () => (await import('./commands/audit.ts')).registerAudit },
];

const services = new Set(['serve', 'worker', 'cdc']);

/**
 * The commands of `gw`, built but not run, so that tests and documentation can walk them.
 *
 * @param asked the only one that is needed: a command starts sooner when the others are not
 *   loaded. All when there is none of that name.
 */
export async function buildProgram(asked?: string): Promise<Command> {
  const program = new Command('gw')
    .description('Groundwork: a database-first PostgreSQL backend and its toolkit')
    .showHelpAfterError()
    .exitOverride((error) => {
      process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
    });

  program.hook('preAction', (_, command) => {
    // Processes say it in their log.
    if (services.has(command.name())) return;
    for (const { name, nearest } of unknownVariables()) {
      const meant = nearest === undefined ? '' : `; did you mean ${nearest}?`;
      process.stderr.write(`warning: nobody reads ${name}${meant}\n`);
    }
  });

  const wanted = modules.filter(({ names }) => names.includes(asked ?? ''));
  for (const { load } of wanted.length > 0 ? wanted : modules) (await load())(program);
  return program;
}
