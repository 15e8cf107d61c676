import { expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const api = useApi(useDatabase());
const embedding = (...first: number[]) => [
  ...first,
  ...Array.from({ length: 1536 - first.length }, () => 0),
];

type Row = { rowId: string };

test('a chat remembers through the API, which shows no embedding', async () => {
  const { accessToken } = await api.register('chat@example.com');
  const run = async <Data>(query: string, variables: object = {}) => {
    const { data, errors } = await api.query<Data>(query, { ...variables }, accessToken);
    expect(errors).toEqual([]);
    return data;
  };
  const { createChat } = await run<{ createChat: { chat: Row } }>(
    'mutation { createChat(input: { chat: { title: "Trip" } }) { chat { rowId } } }',
  );
  const chatId = createChat.chat.rowId;
  const { createChatMessage } = await run<{ createChatMessage: { chatMessage: Row } }>(
    `mutation ($chatId: UUID!) {
      createChatMessage(input: { chatMessage: { chatId: $chatId, role: user, content: "Where?" } }) {
        chatMessage { rowId }
      }
    }`,
    { chatId },
  );
  const messageId = createChatMessage.chatMessage.rowId;
  for (const [content, numbers] of [
    ['near', embedding(1, 0.1)],
    ['far', embedding(0, 1)],
  ]) {
    const added = await run(
      `mutation ($chatId: UUID!, $messageId: UUID, $content: String!, $embedding: [Float!]!) {
        addChatVector(input: {
          chatId: $chatId, messageId: $messageId, content: $content, embedding: $embedding
        }) { result { content chatId messageId } }
      }`,
      { chatId, messageId, content, embedding: numbers },
    );
    expect(added).toEqual({ addChatVector: { result: { content, chatId, messageId } } });
  }
  const search = `query ($of: [Float!]!, $chatId: UUID, $count: Int) {
    searchChatVectors(queryEmbedding: $of, chatId: $chatId, matchCount: $count) {
      nodes { content messageId similarity }
    }
  }`;
  const found = await run<{
    searchChatVectors: { nodes: { content: string; similarity: number }[] };
  }>(search, { of: embedding(1), chatId });
  expect(found.searchChatVectors.nodes.map(({ content }) => content)).toEqual(['near', 'far']);
  expect(found.searchChatVectors.nodes[0]?.similarity).toBeCloseTo(1 / Math.hypot(1, 0.1), 5);
  const { errors } = await api.query(search, { of: [1, 2, 3] }, accessToken);
  expect(errors[0]?.extensions).toEqual({ code: 'VALIDATION_FAILED', field: 'queryEmbedding' });
  expect(await api.codes('{ chatVectors { nodes { embedding } } }', {}, accessToken)).toEqual([
    'GRAPHQL_VALIDATION_FAILED',
  ]);
});

test('slides are reordered through the API, and a wrong list names its field', async () => {
  const { accessToken } = await api.register('slides@example.com');
  const { data } = await api.query<{ createProject: { project: Row } }>(
    'mutation { createProject(input: { project: { name: "Deck" } }) { project { rowId } } }',
    {},
    accessToken,
  );
  const projectId = data.createProject.project.rowId;
  const ids: string[] = [];
  for (const slideNumber of [1, 2]) {
    const made = await api.query<{
      createProjectVisualization: { projectVisualization: Row };
    }>(
      `mutation ($projectId: UUID!, $slideNumber: Int!) {
        createProjectVisualization(input: { projectVisualization: {
          projectId: $projectId, slideNumber: $slideNumber, data: { kind: "bar" }
        } }) { projectVisualization { rowId } }
      }`,
      { projectId, slideNumber },
      accessToken,
    );
    ids.push(made.data.createProjectVisualization.projectVisualization.rowId);
  }
  const reorder = (visualizationIds: string[]) =>
    api.query<{ reorderVisualizations: { result: object[] } }>(
      `mutation ($projectId: UUID!, $visualizationIds: [UUID!]!) {
        reorderVisualizations(input: { projectId: $projectId, visualizationIds: $visualizationIds }) {
          result { rowId slideNumber }
        }
      }`,
      { projectId, visualizationIds },
      accessToken,
    );
  expect((await reorder(ids.toReversed())).data.reorderVisualizations.result).toEqual([
    { rowId: ids[1], slideNumber: 1 },
    { rowId: ids[0], slideNumber: 2 },
  ]);
  expect((await reorder(ids.slice(1))).errors[0]?.extensions).toEqual({
    code: 'VALIDATION_FAILED',
    field: 'visualizationIds',
  });
  const { errors } = await api.query(
    `mutation ($projectId: UUID!) {
      createProjectVisualization(input: { projectVisualization: {
        projectId: $projectId, slideNumber: 1
      } }) { clientMutationId }
    }`,
    { projectId },
    accessToken,
  );
  expect(errors[0]?.extensions).toMatchObject({ code: 'UNIQUE_VIOLATION' });
});
