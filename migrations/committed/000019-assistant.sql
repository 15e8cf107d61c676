--! Previous: sha1:de567631f8681318ee59c0b2848eb508d56c1dbe
--! Hash: sha1:1be4ce3c02d3d4f13c2fc4cdf50e2cb35dac4a5f
--! Message: assistant
--! Baseline: topics/19-assistant.sql

/*
 * Chats with an assistant, their messages, and texts found by their embeddings.
 */

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

grant select, delete on app_public.chats to app_user;

grant insert (id, title), update (title) on app_public.chats to app_user;

grant select on app_public.chats to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.chats
  for each row execute function app_private.tg__timestamps();

comment on table app_public.chats is
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

--! Included functions/app_private/tg_chat_messages__touch_chat.sql
-- Runs with the rights of whoever writes: they may change the title of their own chat,
-- and tg__timestamps() does the rest. Of many messages in a transaction the first is
-- enough.
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

-- What was said. The embedding of a message is not a column here but a row of
-- chat_vectors: 6 kB that reading a conversation would drag along, that a message may
-- have several of (one for each piece of a long text), and that comes later than the
-- message, by which time a message does not change any more.
create table app_public.chat_messages (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  chat_id uuid not null,
  role text not null,
  content text not null,
  metadata jsonb not null default '{}',
  -- Not now(): question and answer may be stored in one transaction, and have an order.
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

-- A conversation in its order; the foreign key to chats needs it too.
create index chat_messages_user_id_chat_id_created_at_idx
  on app_public.chat_messages (user_id, chat_id, created_at);

-- What chat_vectors refers to, so that a vector is in the chat of its message. An index,
-- not a constraint: the API would make a query of a constraint.
create unique index chat_messages_user_id_chat_id_id_key
  on app_public.chat_messages (user_id, chat_id, id);

alter table app_public.chat_messages enable row level security;

create policy own on app_public.chat_messages
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.chat_messages
  for select to gw_readonly
  using (true);

-- No update: what was said stays as it was said, and its vectors stay true.
grant select, delete on app_public.chat_messages to app_user;

grant insert (id, chat_id, role, content, metadata)
  on app_public.chat_messages to app_user;

grant select on app_public.chat_messages to gw_readonly;

create trigger _500_touch_chat after insert on app_public.chat_messages
  for each row execute function app_private.tg_chat_messages__touch_chat();

comment on table app_public.chat_messages is
  E'@behavior -update\n'
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

-- Texts and their embeddings: pieces of messages, or what else belongs to a chat.
--
-- No index on embedding. Every search is of one user, who has thousands of rows and not
-- millions, and reading those is exact. An HNSW or IVFFlat index looks among the rows of
-- all users first and drops other users' afterwards: it would return too few.
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
  -- A vector without a direction is equally far from everything.
  constraint chat_vectors_embedding_check check (public.vector_norm(embedding) > 0),
  constraint chat_vectors_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A search in one chat, and both foreign keys.
create index chat_vectors_user_id_chat_id_message_id_idx
  on app_public.chat_vectors (user_id, chat_id, message_id);

alter table app_public.chat_vectors enable row level security;

create policy own on app_public.chat_vectors
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.chat_vectors
  for select to gw_readonly
  using (true);

-- No update of content: it is what the embedding is of.
grant select, delete on app_public.chat_vectors to app_user;

grant insert (id, chat_id, message_id, content, embedding, metadata), update (metadata)
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

-- What a search returns: a row of chat_vectors without its embedding, and how near it is.
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
comment on column app_public.chat_vector_match.vector_id is 'Id of the vector.';
comment on column app_public.chat_vector_match.chat_id is
  'The chat that the text belongs to.';
comment on column app_public.chat_vector_match.message_id is
  'The message that the text comes from; null when it comes from no message.';
comment on column app_public.chat_vector_match.content is 'The text that was embedded.';
comment on column app_public.chat_vector_match.metadata is
  'Metadata of the text, a JSON object.';
comment on column app_public.chat_vector_match.similarity is
  'Cosine similarity to the query, from -1 to 1. 1 means the same direction, 0 unrelated.';
comment on column app_public.chat_vector_match.created_at is
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
  -- A vector holds 4-byte floats: neither null, infinity nor NaN, and not all of them 0.
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
  'Adds a text and its embedding of 1,536 numbers to a chat. Errors: VALIDATION_FAILED '
  '(embedding), FOREIGN_KEY_VIOLATION (chatId, messageId), CHECK_VIOLATION (content, '
  'metadata).';
--! EndIncluded functions/app_public/add_chat_vector.sql
--! Included functions/app_public/search_chat_vectors.sql
-- Exact: the rows of the user, or of the chat, by an index; then all their distances.
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
