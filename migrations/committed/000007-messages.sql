--! Previous: sha1:6e9e48acca04f7b4099c0d3f8d415426b2b50e49
--! Hash: sha1:585b862cb6362706265b914912f5f265c6f14909
--! Message: messages

--! split: 0001-x.sql
/*
 * Messages: what is said (message_templates), that it is said once (message_ledger), and
 * what became of it (message_logs).
 *
 * message_logs is partitioned by the instant at which a message is due, one partition a
 * month, so that old months leave cheaply. A unique key on such a table must contain that
 * instant, and the instant moves when the user does: so uniqueness lives in the ledger.
 *
 * Locks: none on existing tables.
 */

--! Included functions/app_hidden/local_to_instant.sql
-- AT TIME ZONE already uses the offset before a gap, but in an overlap it gives the later
-- of the two instants. The earlier one has the offset that was in force some hours before:
-- it is right when it reads as the same local time. Several distances are tried, because
-- transitions can lie close together.
create or replace function app_hidden.local_to_instant(p_local timestamp, p_zone text)
returns timestamptz
language sql stable strict parallel safe
as $$
  select least(later.instant, min(earlier.instant)
    filter (where earlier.instant at time zone p_zone = p_local))
  from (select p_local at time zone p_zone) as later (instant)
  cross join (values (interval '1 hour'), ('4 hours'), ('12 hours'), ('26 hours'))
    as probe (distance)
  cross join lateral (select later.instant - probe.distance) as before (instant)
  cross join lateral (
    select (p_local - (before.instant at time zone p_zone - before.instant at time zone 'UTC'))
      at time zone 'UTC'
  ) as earlier (instant)
  group by later.instant
$$;
--! EndIncluded functions/app_hidden/local_to_instant.sql
grant execute on function app_hidden.local_to_instant(timestamp, text)
  to app_user, gw_readonly;
comment on function app_hidden.local_to_instant(timestamp, text) is
  'The instant of a local time in an IANA zone; in a gap the offset before it, in an overlap the earlier instant (TC39 Temporal''s "compatible").';

create table app_private.message_templates (
  message_type text not null,
  locale text not null,
  body text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_templates_pkey primary key (message_type, locale),
  constraint message_templates_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY')),
  constraint message_templates_locale_check check (locale ~ '^[a-z]{2,3}(-[A-Z]{2})?$'),
  constraint message_templates_body_check check (length(body) between 1 and 4000)
);

alter table app_private.message_templates enable row level security;

create trigger _100_timestamps before insert or update on app_private.message_templates
  for each row execute function app_private.tg__timestamps();

comment on table app_private.message_templates is
  'Texts with {{first_name}}, {{last_name}} and {{full_name}}, filled in when planned.';

insert into app_private.message_templates (message_type, locale, body) values
  ('BIRTHDAY', 'en', 'Hey, {{full_name}}, it''s your birthday! Have a great day.'),
  ('ANNIVERSARY', 'en', 'Hey, {{full_name}}, happy anniversary!');

--! Included functions/app_hidden/render_template.sql
-- Split at "{{": the first piece is literal, each other piece is "name}}literal".
create or replace function app_hidden.render_template(p_template text, p_values jsonb)
returns text
language sql immutable strict parallel safe
as $$
  select coalesce(pg_catalog.string_agg(
    case
      when piece.number = 1 then piece.content
      when pg_catalog.strpos(piece.content, '}}') = 0 then '{{' || piece.content
      else coalesce(
          p_values ->> pg_catalog.btrim(pg_catalog.split_part(piece.content, '}}', 1)), '')
        || pg_catalog.substr(piece.content, pg_catalog.strpos(piece.content, '}}') + 2)
    end, '' order by piece.number), '')
  from pg_catalog.string_to_table(p_template, '{{') with ordinality as piece (content, number)
$$;
--! EndIncluded functions/app_hidden/render_template.sql
comment on function app_hidden.render_template(text, jsonb) is
  'Replaces {{name}} by the value of that key, in one pass: a value is never read as a template.';

-- Who makes a row here first sends the message; everybody else has nothing to do.
create table app_private.message_ledger (
  user_id uuid not null,
  message_type text not null,
  delivery_date date not null,
  message_id uuid not null,
  scheduled_send_time timestamptz not null,
  planned_at timestamptz not null default now(),
  constraint message_ledger_pkey primary key (user_id, message_type, delivery_date),
  constraint message_ledger_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint message_ledger_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY'))
) partition by hash (user_id);

do $partitions$
begin
  for remainder in 0..15 loop
    execute pg_catalog.format('create table app_partitions.message_ledger_h%s'
      ' partition of app_private.message_ledger for values with (modulus 16, remainder %s)',
      pg_catalog.lpad(remainder::text, 2, '0'), remainder);
  end loop;
end
$partitions$;

alter table app_private.message_ledger enable row level security;

comment on table app_private.message_ledger is
  'One row for each message that was ever planned: user, occasion, local date.';

create table app_public.message_logs (
  user_id uuid not null,
  id uuid not null,
  message_type text not null,
  delivery_date date not null,
  message_content text not null,
  scheduled_send_time timestamptz not null,
  actual_send_time timestamptz,
  status text not null default 'SCHEDULED',
  retry_count integer not null default 0,
  last_retry_at timestamptz,
  api_response_code integer,
  api_response_body text,
  error_message text,
  idempotency_key text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_logs_pkey primary key (user_id, id, scheduled_send_time),
  constraint message_logs_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint message_logs_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY')),
  constraint message_logs_status_check
    check (status in ('SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'FAILED', 'RETRYING')),
  constraint message_logs_retry_count_check check (retry_count >= 0),
  constraint message_logs_sent_check
    check ((status = 'SENT') = (actual_send_time is not null)),
  constraint message_logs_api_response_body_check
    check (octet_length(api_response_body) <= 4096)
) partition by range (scheduled_send_time);

create table app_partitions.message_logs_default
  partition of app_public.message_logs default;

-- What is planned or was sent, by type.
create index message_logs_message_type_status_scheduled_send_time_idx
  on app_public.message_logs (message_type, status, scheduled_send_time);
-- What a person on call looks for: everything due that is not SENT.
create index message_logs_scheduled_send_time_idx_where_unsent
  on app_public.message_logs (scheduled_send_time, status) where status <> 'SENT';
create index message_logs_user_id_scheduled_send_time_idx
  on app_public.message_logs (user_id, scheduled_send_time);

alter table app_public.message_logs enable row level security;
create policy own on app_public.message_logs
  for select to app_user
  using (user_id = app_hidden.current_app_user_id());
create policy everyone on app_public.message_logs
  for select to gw_readonly
  using (true);
-- Read only: planner and worker write it. What the vendor answered is not the user's matter.
grant select (user_id, id, message_type, delivery_date, message_content,
  scheduled_send_time, actual_send_time, status, retry_count, created_at, updated_at)
  on app_public.message_logs to app_user;
grant select on app_public.message_logs to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.message_logs
  for each row execute function app_private.tg__timestamps();

comment on table app_public.message_logs is
  'A message to a user: what it says, when it is due, and what became of it.';
comment on column app_public.message_logs.user_id is 'Who receives it.';
comment on column app_public.message_logs.id is 'Unique among the user''s messages.';
comment on column app_public.message_logs.message_type is 'BIRTHDAY or ANNIVERSARY.';
comment on column app_public.message_logs.delivery_date is
  'The day it belongs to, in the user''s time zone.';
comment on column app_public.message_logs.message_content is
  'The text, composed when the message was planned.';
comment on column app_public.message_logs.scheduled_send_time is
  'The instant at which it is due.';
comment on column app_public.message_logs.actual_send_time is
  'When it was accepted for delivery; null until status is SENT.';
comment on column app_public.message_logs.status is
  'SCHEDULED (planned), QUEUED (a worker has it), SENDING (the call is being made), SENT, RETRYING (refused for now), FAILED (given up).';
comment on column app_public.message_logs.retry_count is 'How often it was put back to be tried again.';
comment on column app_public.message_logs.last_retry_at is
  'When it was put back last.';
comment on column app_public.message_logs.api_response_code is
  'HTTP status of the latest answer.';
comment on column app_public.message_logs.api_response_body is
  'The latest answer, cut to 4 KB.';
comment on column app_public.message_logs.error_message is
  'Why the latest attempt failed; null after success.';
comment on column app_public.message_logs.idempotency_key is
  'user:type:date. Every attempt carries it, so that a receiver can drop repetitions.';
comment on column app_public.message_logs.created_at is 'When it was planned.';
comment on column app_public.message_logs.updated_at is 'When its status last changed.';

insert into ops.partition_policies (parent_table, step, premake)
values ('app_public.message_logs', '1 month', 12);
select ops.ensure_partitions();
