// The way in for `npm start`, `npm test` and `npm run gw`. It must run on any Node from 20
// up with no package installed, so it is JavaScript and imports nothing but Node itself.
// It installs the packages when they are missing or stale, then hands over to Node 24
// (which is one of the packages) and TypeScript.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as module from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nodeBinary = join(root, 'node_modules', 'node', 'bin', 'node');
const say = (text) => process.stderr.write(`${text}\n`);

// Node 20 has none.
const { enableCompileCache } = module;

const [command = '--help', ...args] = process.argv.slice(2);

/** Everything else runs after `npm ci --omit=dev`, too. */
const needsDevelopment = command === 'test' || command === 'packages';

/** True when every package that the command needs is there in the version the lock file names. */
function packagesAreCurrent() {
  try {
    const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
    const installed = JSON.parse(
      readFileSync(join(root, 'node_modules', '.package-lock.json'), 'utf8'),
    ).packages;
    return (
      existsSync(nodeBinary) &&
      Object.entries(wanted).every(
        ([path, { version, optional, dev, devOptional }]) =>
          path === '' ||
          optional ||
          (!needsDevelopment && (dev || devOptional)) ||
          installed[path]?.version === version,
      )
    );
  } catch {
    return false;
  }
}

/** Two commands started together must not install at the same time. */
async function withInstallLock(work) {
  const lock = join(root, '.groundwork', 'install.lock');
  mkdirSync(dirname(lock), { recursive: true, mode: 0o700 });
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    let holder = 0;
    try {
      holder = Number(readFileSync(lock, 'utf8'));
      if (holder > 0) process.kill(holder, 0);
    } catch (error) {
      // ESRCH: the holder died. ENOENT: it finished just now. EPERM: it lives.
      if (error.code === 'ESRCH') rmSync(lock, { force: true });
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  try {
    return work();
  } finally {
    rmSync(lock, { force: true });
  }
}

function install() {
  if (packagesAreCurrent()) return;
  say('  …  packages       installing what package-lock.json names');
  const started = Date.now();
  // The npm that runs this script, on the Node that runs it; else the one on the PATH.
  const npm = process.env.npm_execpath?.endsWith('.js')
    ? [process.env.npm_node_execpath ?? process.execPath, process.env.npm_execpath]
    : ['npm'];
  const done = spawnSync(npm[0], [...npm.slice(1), 'ci', '--no-audit', '--no-fund'], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, npm_config_loglevel: 'error' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (done.status !== 0 || !packagesAreCurrent()) {
    say(`${done.stdout ?? ''}${done.stderr ?? ''}${done.error ?? ''}`);
    say("error: the packages could not be installed; npm's own words are above");
    process.exit(1);
  }
  say(`  ✔  packages       installed (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

if (!packagesAreCurrent()) await withInstallLock(install);
// `npm run check` wants only that.
if (command === 'packages') process.exit(0);

// What was compiled once need not be again: a command starts in half the time. Children use it
// too. Where the folder cannot be written, nothing is kept.
process.env.NODE_COMPILE_CACHE ??= join(root, 'node_modules', '.cache', 'node');
enableCompileCache?.(process.env.NODE_COMPILE_CACHE);

const isNewEnough = Number(process.versions.node.split('.')[0]) >= 24;
if (command !== 'test' && isNewEnough) {
  await import(pathToFileURL(join(root, 'src', 'cli.ts')).href);
} else {
  const script =
    command === 'test'
      ? [
          join(root, 'node_modules', 'vitest', 'vitest.mjs'),
          'run',
          '--config',
          join(root, 'test', 'vitest.config.ts'),
          ...args,
        ]
      : [join(root, 'src', 'cli.ts'), command, ...args];
  const child = spawn(isNewEnough ? process.execPath : nodeBinary, script, {
    cwd: command === 'test' ? root : process.cwd(),
    stdio: 'inherit',
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    // A terminal sends Ctrl-C to the child as well; a second copy does no harm.
    process.on(signal, () => child.kill(signal));
  }
  // Whoever kills npm with SIGKILL means us too.
  const parent = process.ppid;
  if (process.env.npm_lifecycle_event) {
    setInterval(() => process.ppid !== parent && child.kill('SIGTERM'), 1000).unref();
  }
  child.on('exit', (code, signal) => {
    process.exit(code ?? 128 + (constants.signals[signal] ?? 0));
  });
}
