import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Deployment } from 'kubernetes-models/apps/v1';
import { Job } from 'kubernetes-models/batch/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { Service } from 'kubernetes-models/v1';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { loadConfig, variables } from '../../src/config.ts';
import { buildProgram } from '../../src/program.ts';
import { projectRoot } from '../../src/project.ts';

const folder = join(projectRoot, 'docs', 'deploy', 'kubernetes');
const read = (...path: string[]): string => readFileSync(join(projectRoot, ...path), 'utf8');

interface Container {
  name: string;
  args: string[];
  env?: { name: string; value: string }[];
  ports?: { name: string; containerPort: number }[];
  securityContext: object;
  [probe: string]: unknown;
}
interface Resource {
  kind: string;
  metadata: { name: string };
  spec: {
    template?: { spec: { containers: Container[]; terminationGracePeriodSeconds?: number } };
  };
}

const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
const resources = files
  .filter((name) => name !== 'kustomization.yaml')
  .flatMap((name) =>
    parseAllDocuments(readFileSync(join(folder, name), 'utf8')).map(
      (document) => document.toJS() as Resource,
    ),
  );
const kustomization = parse(read('docs', 'deploy', 'kubernetes', 'kustomization.yaml')) as {
  resources: string[];
  configMapGenerator: { literals: string[] }[];
};
const settings = Object.fromEntries(
  kustomization.configMapGenerator.flatMap(({ literals }) =>
    literals.map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]),
  ),
);
const containers = resources.flatMap(({ spec: { template } }) => template?.spec.containers ?? []);
const known = (name: string): boolean => name.replace(/_FILE$/, '') in variables.shape;

const models = { Deployment, Job, NetworkPolicy, PodDisruptionBudget, Service };

describe('the manifests of Kubernetes', () => {
  test.each(resources.map((resource) => [`${resource.kind} ${resource.metadata.name}`, resource]))(
    '%s is what the API of Kubernetes takes',
    (_, resource) => {
      const Model = models[resource.kind as keyof typeof models];
      expect(Model, resource.kind).toBeDefined();
      expect(() => new Model(resource as never).validate()).not.toThrow();
      // The check can fail.
      const wrong = { ...resource, spec: { ...resource.spec, replicas: 'many', ports: 'none' } };
      if (/^(Deployment|Service)$/.test(resource.kind)) {
        expect(() => new Model(wrong as never).validate()).toThrow();
      }
    },
  );

  test('are all named in the kustomization', () => {
    expect([...kustomization.resources, 'kustomization.yaml'].sort()).toEqual([...files].sort());
  });

  test('name variables that there are, with what production needs', () => {
    for (const { name, args, env = [] } of containers) {
      const given = [...Object.keys(settings), ...env.map((each) => each.name)];
      expect(
        given.filter((each) => !known(each)),
        name,
      ).toEqual([]);
      const [command] = args;
      if (command !== 'serve' && command !== 'worker') continue;
      const texts = Object.fromEntries(
        env.map((each) => [each.name.replace(/_FILE$/, ''), sampleOf(each.name)]),
      );
      expect(() => loadConfig({ ...settings, ...texts }, [command])).not.toThrow();
    }
  });

  test('run commands that there are, as nobody in particular, on a root that is read only', async () => {
    const { commands } = await buildProgram();
    for (const { args, securityContext } of containers) {
      const command = commands.find((each) => each.name() === args[0]);
      expect(command, args[0]).toBeDefined();
      for (const flag of args.slice(1)) {
        expect(command?.options.map(({ long }) => long)).toContain(flag);
      }
      expect(securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
    }
  });

  test('wait longer for an end than a process takes, and ask where it answers', () => {
    const { GW_SHUTDOWN_GRACE: grace } = loadConfig({});
    for (const { spec } of resources) {
      const pod = spec.template?.spec;
      if (pod?.terminationGracePeriodSeconds === undefined) continue;
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(grace + 5);
      for (const container of pod.containers) {
        const ports = new Map(container.ports?.map((port) => [port.name, port.containerPort]));
        expect(ports.get('metrics')).toBe(Number(settings.GW_METRICS_PORT));
        for (const [probe, path] of [
          ['startupProbe', '/healthz'],
          ['livenessProbe', '/healthz'],
          ['readinessProbe', '/readyz'],
        ] as const) {
          expect(container[probe]).toMatchObject({ httpGet: { path, port: 'metrics' } });
        }
      }
    }
  });
});

/** A value of the right form for a secret. */
function sampleOf(name: string): string {
  if (/URL/.test(name)) {
    return name.startsWith('DATABASE')
      ? 'postgres://gw_owner@db/groundwork'
      : 'https://example.com';
  }
  return name.startsWith('GW_DELIVERY_SECRET')
    ? `whsec_${Buffer.alloc(24).toString('base64')}`
    : 'a-secret-of-more-than-32-characters';
}

describe('docker-compose.yml', () => {
  const compose = parse(read('docker-compose.yml'), { merge: true }) as {
    services: Record<
      string,
      {
        profiles?: string[];
        environment?: Record<string, string>;
        secrets?: string[];
        command?: string[];
        read_only?: boolean;
        user?: string;
      }
    >;
    secrets: Record<string, { file: string }>;
  };
  const production = Object.entries(compose.services).filter(([, { profiles }]) =>
    profiles?.includes('production'),
  );

  test('has each process in the profile production, without a secret in its environment', () => {
    expect(production.map(([name]) => name).sort()).toEqual([
      'cdc',
      'migrate',
      'roles',
      'serve',
      'worker',
    ]);
    for (const [name, { environment = {}, secrets = [], read_only, user }] of production) {
      expect({ read_only, user }, name).toEqual({ read_only: true, user: '1000:1000' });
      for (const [variable, text] of Object.entries(environment)) {
        expect(known(variable), variable).toBe(true);
        if (/(PASSWORD|SECRET|TOKEN)$/.test(variable)) expect(text).toBe('');
        if (!variable.endsWith('_FILE')) continue;
        const secret = text.replace('/run/secrets/', '');
        expect(secrets, variable).toContain(secret);
        expect(compose.secrets[secret], secret).toBeDefined();
      }
    }
  });
});

test('the unit of systemd waits as long as a process takes', () => {
  const unit = read('docs', 'deploy', 'systemd', 'groundwork@.service');
  const stop = Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1]);
  expect(stop).toBeGreaterThanOrEqual(loadConfig({}).GW_SHUTDOWN_GRACE + 5);
  expect(unit).toMatch(/^ExecStart=\S+\/node src\/cli\.ts %i --wait$/m);
});

test('our image and the unit of systemd limit what the C library keeps', () => {
  const set = /^(ENV|Environment=).*\bMALLOC_ARENA_MAX=2$/m;
  expect(read('docker', 'Dockerfile')).toMatch(set);
  expect(read('docs', 'deploy', 'systemd', 'groundwork@.service')).toMatch(set);
});
