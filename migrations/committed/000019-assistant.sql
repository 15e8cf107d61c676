--! Previous: sha1:2fec0c2fb7688989255ad2431f9b78d76d9d33a6
--! Hash: sha1:90e3b0dcf8d012a69b551789c0578aab4053a941
--! Message: assistant
--! Baseline: topics/19-assistant.sql

/*
 * Chats with an assistant, their messages, and embeddings for searching their texts.
 */

-- Chats. updated_at moves with every message, so that the latest chats come from an
-- index.
create table app_public.chats (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  title text not null default 'New chat',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint chats_pkey primary key (user_id, id),
  constraint chats_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint chats_title_check
    check (length(title) between 1 and 200 and title !~ '^\s+$')
);

-- The latest chats of a user.
create index chats_user_id_updated_at_idx on app_public.chats (user_id, updated_at);

alter table app_public.chats enable row level security;

create policy own on app_public.chats
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.chats
  for select to gw_readonly
  using (true);

grant select, delete, insert (id, title), update (title) on app_public.chats to app_user;

grant select on app_public.chats to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.chats
  for each row execute function app_private.tg__timestamps();

comment on table app_public.chats is
  E'@defaultOrder updated_at desc\n'
  'A conversation with the assistant. Deleting a chat deletes its messages and vectors.';
comment on column app_public.chats.user_id is 'The user who owns the chat.';
comment on column app_public.chats.id is
  'Id of the chat, unique among the user''s chats. A client may choose it when it '
  'creates the chat, to make retries safe.';
comment on column app_public.chats.title is
  'Title of the chat, 1 to 200 characters, not only white space; "New chat" by default.';
comment on column app_public.chats.created_at is 'When the chat was created.';
comment on column app_public.chats.updated_at is
  'When the title last changed or a message was added.';
comment on constraint chats_pkey on app_public.chats is
  'you have a chat with this id already';
comment on constraint chats_title_check on app_public.chats is
  'a title has 1 to 200 characters, not only white space';

--! Included functions/app_private/tg_chat_messages__touch_chat.sql
-- Not definer: a user may update the title of a chat, and tg__timestamps() then sets
-- updated_at. Of many messages in one transaction, only the first writes the chat.
create or replace function app_private.tg_chat_messages__touch_chat() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update app_public.chats
  set title = chats.title
  where chats.user_id = new.user_id
    and chats.id = new.chat_id
    and chats.updated_at < now();
  return null;
end
$$;

comment on function app_private.tg_chat_messages__touch_chat() is
  'Sets updated_at of the chat to which a message was added.';
--! EndIncluded functions/app_private/tg_chat_messages__touch_chat.sql

-- Messages of chats. The embedding of a message is not a column but a row of
-- chat_vectors, for three reasons. It takes 6 kB, which reading a conversation would load
-- too. A long message has several, one for each piece. It is computed after the message
-- was stored, and a message cannot be updated.
create table app_public.chat_messages (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  chat_id uuid not null,
  role text not null,
  content text not null,
  metadata jsonb not null default '{}',
  -- Not now(): a question and its answer stored in one transaction must keep their order.
  created_at timestamptz not null default clock_timestamp(),
  constraint chat_messages_pkey primary key (user_id, id),
  constraint chat_messages_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint chat_messages_user_id_chat_id_fkey
    foreign key (user_id, chat_id) references app_public.chats (user_id, id)
    on delete cascade,
  constraint chat_messages_role_check
    check (role in ('user', 'assistant', 'system', 'tool')),
  constraint chat_messages_content_check check (length(content) <= 200000),
  constraint chat_messages_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- For a conversation in order, and for the foreign key to chats.
create index chat_messages_user_id_chat_id_created_at_idx
  on app_public.chat_messages (user_id, chat_id, created_at);

-- The target of a foreign key of chat_vectors, which keeps a vector in the chat of its
-- message. A unique index, not a constraint: the API would add a query for a constraint.
create unique index chat_messages_user_id_chat_id_id_key
  on app_public.chat_messages (user_id, chat_id, id);

alter table app_public.chat_messages enable row level security;

create policy own on app_public.chat_messages
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.chat_messages
  for select to gw_readonly
  using (true);

-- No update: a message stays as it was written, so its embeddings stay correct.
grant select, delete, insert (id, chat_id, role, content, metadata)
  on app_public.chat_messages to app_user;

grant select on app_public.chat_messages to gw_readonly;

create trigger _500_touch_chat after insert on app_public.chat_messages
  for each row execute function app_private.tg_chat_messages__touch_chat();

comment on table app_public.chat_messages is
  E'@defaultOrder created_at\n@behavior -update\n'
  'A message of a chat. A message can be added and deleted, but not changed.';
comment on column app_public.chat_messages.user_id is 'The user who owns the chat.';
comment on column app_public.chat_messages.id is
  'Id of the message, unique among the user''s messages. A client may choose it when it '
  'creates the message, to make retries safe.';
comment on column app_public.chat_messages.chat_id is
  'The chat that contains the message.';
comment on column app_public.chat_messages.role is
  'Author of the message: user, assistant, system or tool.';
comment on column app_public.chat_messages.content is
  'Text of the message, at most 200,000 characters.';
comment on column app_public.chat_messages.metadata is
  'Metadata of the message, such as model and token counts; a JSON object, empty by '
  'default.';
comment on column app_public.chat_messages.created_at is 'When the message was added.';
comment on constraint chat_messages_pkey on app_public.chat_messages is
  'you have a message with this id already';
comment on constraint chat_messages_role_check on app_public.chat_messages is
  E'@enum ChatRole\n'
  '@value user The person.\n'
  '@value assistant The assistant.\n'
  '@value system An instruction to the assistant.\n'
  '@value tool What a tool answered.\n'
  'a role is user, assistant, system or tool';
comment on constraint chat_messages_content_check on app_public.chat_messages is
  'a message has at most 200,000 characters';
comment on constraint chat_messages_metadata_check on app_public.chat_messages is
  'the metadata are a JSON object';

-- Texts with their embeddings: pieces of messages, or other texts that belong to a chat.
--
-- No index on embedding. A search reads all rows of one user, which are thousands and not
-- millions, and the result is exact. An HNSW or IVFFlat index searches the rows of all
-- users first and then removes those of other users, so it would return too few.
create table app_public.chat_vectors (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  chat_id uuid not null,
  message_id uuid,
  content text not null,
  embedding public.vector(1536) not null,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint chat_vectors_pkey primary key (user_id, id),
  constraint chat_vectors_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint chat_vectors_user_id_chat_id_fkey
    foreign key (user_id, chat_id) references app_public.chats (user_id, id)
    on delete cascade,
  constraint chat_vectors_user_id_chat_id_message_id_fkey
    foreign key (user_id, chat_id, message_id)
    references app_public.chat_messages (user_id, chat_id, id)
    on delete cascade,
  constraint chat_vectors_content_check check (length(content) between 1 and 200000),
  -- A zero vector has no direction, so its cosine distance is not a number.
  constraint chat_vectors_embedding_check check (public.vector_norm(embedding) > 0),
  constraint chat_vectors_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- For a search in one chat, and for both foreign keys.
create index chat_vectors_user_id_chat_id_message_id_idx
  on app_public.chat_vectors (user_id, chat_id, message_id);

alter table app_public.chat_vectors enable row level security;

create policy own on app_public.chat_vectors
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.chat_vectors
  for select to gw_readonly
  using (true);

-- No update of content and embedding: they belong together.
grant select, delete,
  insert (id, chat_id, message_id, content, embedding, metadata), update (metadata)
  on app_public.chat_vectors to app_user;

grant select on app_public.chat_vectors to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.chat_vectors
  for each row execute function app_private.tg__timestamps();

comment on table app_public.chat_vectors is
  E'@behavior -insert\n'
  'A text of a chat with its embedding. addChatVector adds it; searchChatVectors finds '
  'it.';
comment on column app_public.chat_vectors.user_id is 'The user who owns the chat.';
comment on column app_public.chat_vectors.id is
  'Id of the vector, unique among the user''s vectors.';
comment on column app_public.chat_vectors.chat_id is 'The chat that the text belongs to.';
comment on column app_public.chat_vectors.message_id is
  'The message of the chat that the text comes from; null when it comes from no message.';
comment on column app_public.chat_vectors.content is
  'The text that was embedded, 1 to 200,000 characters.';
comment on column app_public.chat_vectors.embedding is
  E'@behavior -attribute:select -attribute:insert -attribute:update -attribute:filterBy -attribute:orderBy -condition:attribute:filterBy\n'
  'The embedding: 1,536 numbers.';
comment on column app_public.chat_vectors.metadata is
  'Metadata of the text, a JSON object; empty by default.';
comment on column app_public.chat_vectors.created_at is 'When the vector was created.';
comment on column app_public.chat_vectors.updated_at is 'When the vector last changed.';
comment on constraint chat_vectors_pkey on app_public.chat_vectors is
  'you have a vector with this id already';
comment on constraint chat_vectors_content_check on app_public.chat_vectors is
  'a text has 1 to 200,000 characters';
comment on constraint chat_vectors_embedding_check on app_public.chat_vectors is
  'an embedding is not all zeros';
comment on constraint chat_vectors_metadata_check on app_public.chat_vectors is
  'the metadata are a JSON object';

-- One row of search_chat_vectors(): a row of chat_vectors without its embedding, and its
-- similarity to the query.
create type app_public.chat_vector_match as (
  vector_id uuid,
  chat_id uuid,
  message_id uuid,
  content text,
  metadata jsonb,
  similarity double precision,
  created_at timestamptz
);

comment on type app_public.chat_vector_match is
  'A text that searchChatVectors found, and its similarity to the query.';
comment on column app_public.chat_vector_match.vector_id is
  E'@notNull\n'
  'Id of the vector.';
comment on column app_public.chat_vector_match.chat_id is
  E'@notNull\n'
  'The chat that the text belongs to.';
comment on column app_public.chat_vector_match.message_id is
  'The message that the text comes from; null when it comes from no message.';
comment on column app_public.chat_vector_match.content is
  E'@notNull\n'
  'The text that was embedded.';
comment on column app_public.chat_vector_match.metadata is
  E'@notNull\n'
  'Metadata of the text, a JSON object.';
comment on column app_public.chat_vector_match.similarity is
  E'@notNull\n'
  'Cosine similarity to the query, from -1 to 1. 1 means the same direction, '
  '0 unrelated.';
comment on column app_public.chat_vector_match.created_at is
  E'@notNull\n'
  'When the vector was created.';

--! Included functions/app_hidden/to_embedding.sql
create or replace function app_hidden.to_embedding(
  numbers double precision[], argument text
) returns public.vector
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(numbers) is distinct from 1536 or array_ndims(numbers) <> 1 then
    raise exception '% has % numbers, not 1536',
        argument, coalesce(cardinality(numbers), 0)
      using errcode = 'GW002', column = argument;
  end if;
  -- A vector holds 4-byte floats, none of them null, infinite or NaN. All zeros would
  -- have no direction.
  if exists (
      select
      from unnest(numbers) as number
      where abs(number) <= 3.4e38 is not true
    )
    or not exists (
      select from unnest(numbers) as number where abs(number) > 1e-37
    )
  then
    raise exception '% has numbers that are not finite, or only zeros', argument
      using errcode = 'GW002', column = argument;
  end if;
  return numbers::public.vector;
end
$$;

grant execute on function app_hidden.to_embedding(double precision[], text) to app_user;
comment on function app_hidden.to_embedding(double precision[], text) is
  'Converts 1,536 numbers to an embedding. Raises GW002, naming the argument, for '
  'anything else.';
--! EndIncluded functions/app_hidden/to_embedding.sql
--! Included functions/app_public/add_chat_vector.sql
create or replace function app_public.add_chat_vector(
  chat_id uuid, content text, embedding double precision[],
  message_id uuid default null, metadata jsonb default '{}'
) returns app_public.chat_vectors
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into app_public.chat_vectors (chat_id, message_id, content, embedding, metadata)
  values (
    add_chat_vector.chat_id,
    add_chat_vector.message_id,
    add_chat_vector.content,
    app_hidden.to_embedding(add_chat_vector.embedding, 'embedding'),
    coalesce(add_chat_vector.metadata, '{}')
  )
  returning *
$$;

grant execute on function
  app_public.add_chat_vector(uuid, text, double precision[], uuid, jsonb) to app_user;
comment on function
  app_public.add_chat_vector(uuid, text, double precision[], uuid, jsonb) is
  E'@notNull\n'
  'Adds a text and its embedding of 1,536 numbers to a chat. Errors: VALIDATION_FAILED '
  '(embedding), FOREIGN_KEY_VIOLATION (chatId, messageId), CHECK_VIOLATION (content, '
  'metadata).';
--! EndIncluded functions/app_public/add_chat_vector.sql
--! Included functions/app_public/search_chat_vectors.sql
-- An exact search: an index finds the rows of the user or of the chat, and all their
-- distances are computed.
create or replace function app_public.search_chat_vectors(
  query_embedding double precision[], match_count integer default 10,
  chat_id uuid default null
) returns setof app_public.chat_vector_match
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with query as materialized (
    select app_hidden.to_embedding(
      search_chat_vectors.query_embedding, 'query_embedding') as embedding
  )
  select chat_vectors.id, chat_vectors.chat_id, chat_vectors.message_id,
    chat_vectors.content, chat_vectors.metadata,
    1 - (chat_vectors.embedding operator(public.<=>) query.embedding),
    chat_vectors.created_at
  from query
  inner join app_public.chat_vectors
    on chat_vectors.user_id = app_hidden.current_app_user_id()
    and (search_chat_vectors.chat_id is null
      or chat_vectors.chat_id = search_chat_vectors.chat_id)
  order by chat_vectors.embedding operator(public.<=>) query.embedding,
    chat_vectors.created_at desc, chat_vectors.id
  limit greatest(0, least(100, coalesce(search_chat_vectors.match_count, 10)))
$$;

grant execute on function
  app_public.search_chat_vectors(double precision[], integer, uuid) to app_user;
comment on function
  app_public.search_chat_vectors(double precision[], integer, uuid) is
  'Your texts nearest to an embedding of 1,536 numbers, nearest first. With chatId, only '
  'texts of that chat. Returns at most matchCount texts: 10 by default, 100 at most. '
  'Error: VALIDATION_FAILED (queryEmbedding).';
--! EndIncluded functions/app_public/search_chat_vectors.sql
