import { GenericContainer, Wait } from 'testcontainers';
import { changeUrl } from '../../src/postgres/urls.ts';
import { bootstrapRoles } from '../../src/server/bootstrap.ts';
import { ensureImage } from '../../src/server/docker.ts';
import { readSecrets } from '../../src/server/state.ts';

/** The server of the tests in a container of our own image (GW_TEST_DB=docker). */
export async function startContainer(
  cronDatabase: string,
): Promise<{ superuserUrl: string; stop: () => Promise<void> }> {
  const secrets = readSecrets();
  const image = await ensureImage((text) => process.stderr.write(`${text}\n`));
  const container = await new GenericContainer(image)
    .withEnvironment({ POSTGRES_PASSWORD: secrets.superuser, POSTGRES_DB: cronDatabase })
    .withCommand(['-c', 'fsync=off', '-c', 'max_connections=200'])
    .withExposedPorts(5432)
    .withWaitStrategy(Wait.forSuccessfulCommand('pg_isready -q -h 127.0.0.1 -U postgres'))
    .start();
  const superuserUrl = changeUrl(
    `postgres://${container.getHost()}:${container.getMappedPort(5432)}/postgres`,
    { user: 'postgres', password: secrets.superuser },
  );
  await bootstrapRoles(superuserUrl, secrets);
  return {
    superuserUrl,
    stop: async () => {
      await container.stop();
    },
  };
}
