--! Previous: sha1:641704174aa0d27c64bc4e3f568efc7f28881a36
--! Hash: sha1:d8a0ddae89a09b9ab6b6c087e78ed4b6f2346799
--! Message: comments

--! split: 0001-x.sql
/*
 * Comments on the attributes of two types: everything in app_public has one.
 *
 * Locks: none.
 */

comment on column app_public.access_token.sub is 'The user''s id.';
comment on column app_public.access_token.sid is 'The session''s id.';
comment on column app_public.access_token.exp is
  'When the token stops working, in seconds since 1970.';

comment on column app_public.chat_vector_match.vector_id is 'The vector.';
comment on column app_public.chat_vector_match.chat_id is 'The chat that it belongs to.';
comment on column app_public.chat_vector_match.message_id is
  'The message that it was made from; null when it was made from something else.';
comment on column app_public.chat_vector_match.content is 'The text that it stands for.';
comment on column app_public.chat_vector_match.metadata is 'A JSON object kept with it.';
comment on column app_public.chat_vector_match.similarity is
  'Cosine similarity to the query, from -1 to 1; 1 means the same direction.';
comment on column app_public.chat_vector_match.created_at is 'When the vector was made.';
