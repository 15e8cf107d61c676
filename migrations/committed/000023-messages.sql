--! Previous: sha1:072ba6e698871d67f58af46cd6f3de4a23aeee2f
--! Hash: sha1:b60c84fd774c8a5f3f1f5139dab7f1866daeef3f
--! Message: messages
--! Baseline: topics/23-messages.sql

/*
 * Messages, and what makes each unique.
 *
 * message_ledger has one row for each user, type and local date: whoever inserts it sends
 * the message. message_logs records what became of it.
 */

-- A message is unique because its row here is: of two planners, one inserts it and goes
-- on, the other finds it and has nothing to do. message_logs cannot do this, since a
-- unique key of a table partitioned by time must include the time.
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
  constraint message_ledger_message_type_fkey
    foreign key (message_type) references app_private.message_types
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
  'One row for each message that was planned and not taken back: user, occasion, local date.';

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
  message_subject text not null default '',
  job_id uuid,
  recipient_email text,
  recipient_name text,
  attempted_at timestamptz,
  attempts jsonb,
  uncertain_since timestamptz,
  send_until timestamptz,
  channel text,
  provider_message_id text,
  hold_id integer,
  text_type text,
  route_step integer,
  turn_at timestamptz,
  template_version integer,
  template_locale text,
  message_html text,
  read_at timestamptz,
  payload jsonb,
  local_time time,
  stage text not null generated always as (case
      when status = 'SENT' then 'sent'
      when status in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING') then 'open'
      else 'ended'
    end) stored,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_logs_pkey primary key (user_id, id, scheduled_send_time),
  constraint message_logs_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint message_logs_message_type_fkey
    foreign key (message_type) references app_private.message_types,
  constraint message_logs_status_check
    check (status in ('SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'RETRYING', 'FAILED',
      'CANCELED', 'EXPIRED', 'UNKNOWN', 'SUPPRESSED')),
  constraint message_logs_retry_count_check check (retry_count >= 0),
  constraint message_logs_sent_check
    check ((status = 'SENT') = (actual_send_time is not null)),
  constraint message_logs_api_response_body_check
    check (octet_length(api_response_body) <= 4096),
  constraint message_logs_attempts_check check (jsonb_typeof(attempts) = 'array')
) partition by range (scheduled_send_time);

-- A message is updated three times on its way. No index holds its status or any other column
-- that the first two change, and the pages of a new partition keep room: those updates stay in
-- the page, and touch no index (HOT). Every partition gets the storage parameters of this one.
create table app_partitions.message_logs_default
  partition of app_public.message_logs default with (fillfactor = 70);

-- What is planned or was sent, by type.
create index message_logs_message_type_scheduled_send_time_idx
  on app_public.message_logs (message_type, scheduled_send_time);

-- What is planned and on its way, and what a person on call looks for: everything that was due
-- and is not sent.
create index message_logs_stage_scheduled_send_time_idx_where_unsent
  on app_public.message_logs (stage, scheduled_send_time) where stage <> 'sent';

create index message_logs_user_id_scheduled_send_time_idx
  on app_public.message_logs (user_id, scheduled_send_time);

alter table app_public.message_logs enable row level security;

create policy own on app_public.message_logs
  for select to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.message_logs
  for select to gw_readonly
  using (true);

-- Users read only: planner and worker write. The vendor's answers are for operators.
grant select (user_id, id, message_type, delivery_date, message_subject, message_content,
  scheduled_send_time, actual_send_time, status, retry_count,
  read_at, created_at, updated_at)
  on app_public.message_logs to app_user;

grant select on app_public.message_logs to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.message_logs
  for each row execute function app_private.tg__timestamps();

comment on table app_public.message_logs is
  E'@defaultOrder scheduled_send_time desc\n'
  'A message to a user: what it says, when it is due, and what became of it.';
comment on column app_public.message_logs.user_id is 'Who receives it.';
comment on column app_public.message_logs.id is 'Unique among the user''s messages.';
comment on column app_public.message_logs.message_type is
  'BIRTHDAY, ANNIVERSARY, DIGEST, or a type that was added.';
comment on column app_public.message_logs.delivery_date is
  'The day it belongs to, in the user''s time zone.';
comment on column app_public.message_logs.message_content is
  'The text, composed when the message was planned; a digest''s when it is sent.';
comment on column app_public.message_logs.scheduled_send_time is
  'The instant at which it is due.';
comment on column app_public.message_logs.actual_send_time is
  'When it was accepted for delivery; null until status is SENT.';
-- No index holds it; a user has few messages, and their own index finds those.
comment on column app_public.message_logs.status is
  E'@isIndexed\n'
  'SCHEDULED (planned), QUEUED (due, or held by quiet hours), SENDING (an attempt runs), SENT, RETRYING (the attempt failed; a retry is scheduled), FAILED (refused, or no attempts left), CANCELED (not wanted any more), EXPIRED (too late), UNKNOWN (may have been delivered; a person decides).';
comment on column app_public.message_logs.retry_count is
  'How many retries it was scheduled for.';
comment on column app_public.message_logs.last_retry_at is
  'When the latest retry was scheduled.';
comment on column app_public.message_logs.api_response_code is
  'HTTP status of the latest answer.';
comment on column app_public.message_logs.api_response_body is
  'The latest answer, cut to 4 KB.';
comment on column app_public.message_logs.error_message is
  'Why the latest attempt failed, or why the message is not sent; null after success.';
comment on column app_public.message_logs.idempotency_key is
  'user:type:date. Every attempt has the same key, so a receiver can drop repetitions.';
comment on column app_public.message_logs.message_subject is
  'The subject, for channels that have one.';
comment on column app_public.message_logs.message_html is
  'What mail shows, without the layout; null: mail shows message_content.';
comment on column app_public.message_logs.read_at is
  E'@isIndexed\n'
  'When its user first read it in an inbox; null when that was not yet. See markMessagesRead.';
comment on column app_public.message_logs.job_id is
  'The only job that may send it; null when none may.';
comment on column app_public.message_logs.recipient_email is
  'The address of the latest attempt. Once it may have been reached, retries use the same; else the present one.';
comment on column app_public.message_logs.recipient_name is
  'The name in the latest attempt. While it stands here, retries say and address the same: somebody may have been reached.';
comment on column app_public.message_logs.attempted_at is 'When the latest call began.';
comment on column app_public.message_logs.attempts is
  'The attempts that did not deliver (when, code, answer, error), and the changes that people made (change).';
comment on column app_public.message_logs.uncertain_since is
  'When the first attempt with an unknown outcome began; null when there is none.';
comment on column app_public.message_logs.send_until is
  'After this instant it is not sent any more; null means the late window after scheduled_send_time.';
comment on column app_public.message_logs.channel is
  'The channel of the latest attempt, a row of delivery_channels; null while there is none.';
comment on column app_public.message_logs.provider_message_id is
  'The name that the vendor has for it, as its answer said; null when it said none.';
comment on column app_public.message_logs.hold_id is
  'The hold that keeps it from being sent, or the latest that did; null when none does.';
comment on column app_public.message_logs.text_type is
  'The type whose templates it says: belated, combined, or by its channel. Null: its own.';
comment on column app_public.message_logs.route_step is
  'The least step of message_routes that it may still go by; null: the first.';
comment on column app_public.message_logs.turn_at is
  'When its turn is at a domain that takes only so many messages; null: it did not have to wait.';
comment on column app_public.message_logs.template_version is
  'The version of the template that it was composed of.';
comment on column app_public.message_logs.template_locale is
  'The language of its text.';
comment on column app_public.message_logs.payload is
  'What the application said of an event; null for other types.';
comment on column app_public.message_logs.local_time is
  'The local time of delivery_date at which an event is due, when the application said one; it moves with the user''s time zone.';
comment on column app_public.message_logs.stage is
  'open: planned or on its way. sent. ended: failed, canceled, expired, suppressed, or unknown. The index holds it instead of the status, which changes more often.';
comment on column app_public.message_logs.created_at is 'When it was planned.';
comment on column app_public.message_logs.updated_at is 'When its status last changed.';
comment on constraint message_logs_status_check on app_public.message_logs is
  E'@enum MessageStatus\n'
  '@value SCHEDULED Planned for its time.\n'
  '@value QUEUED Given to the senders.\n'
  '@value SENDING On its way to the channel.\n'
  '@value SENT Accepted by the channel.\n'
  '@value RETRYING Refused for now, and tried again.\n'
  '@value FAILED Refused for good.\n'
  '@value CANCELED Withdrawn before it was sent.\n'
  '@value EXPIRED Its time was over before it could be sent.\n'
  '@value UNKNOWN Perhaps sent: the channel did not say.\n'
  '@value SUPPRESSED Not sent: the address takes no such messages.\n'
  'a status is one of those of a message';

--! Included functions/app_public/mark_messages_read.sql
-- Definer: users write nothing else of a message. Only the caller's messages are found.
create or replace function app_public.mark_messages_read(message_ids uuid[])
returns setof app_public.message_logs
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  caller constant uuid := app_hidden.current_app_user_id();
begin
  update app_public.message_logs
  set read_at = now()
  where user_id = caller
    and id = any (mark_messages_read.message_ids)
    and stage = 'sent'
    and read_at is null;
  return query
    select message_logs.*
    from app_public.message_logs
    where user_id = caller
      and id = any (mark_messages_read.message_ids)
    order by scheduled_send_time, id;
end
$$;

grant execute on function app_public.mark_messages_read(uuid[]) to app_user;
comment on function app_public.mark_messages_read(uuid[]) is
  'Notes that the user has read messages that were sent; when it was first read stays. '
  'Returns those of the messages that are the user''s.';
--! EndIncluded functions/app_public/mark_messages_read.sql

-- What the ledger is for planned messages, this is for events: of two calls with one key,
-- one makes the message.
create table app_private.message_keys (
  user_id uuid not null,
  message_type text not null,
  key text not null,
  message_id uuid not null,
  scheduled_send_time timestamptz not null,
  made_at timestamptz not null default now(),
  constraint message_keys_pkey primary key (user_id, message_type, key),
  constraint message_keys_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint message_keys_message_type_fkey
    foreign key (message_type) references app_private.message_types,
  constraint message_keys_key_check check (length(key) between 1 and 200)
);

create index message_keys_made_at_idx on app_private.message_keys (made_at);

create index message_keys_message_type_idx on app_private.message_keys (message_type);

alter table app_private.message_keys enable row level security;

comment on table app_private.message_keys is
  'One row for each message that the application sent, by its key.';

-- One row. How long after its time a message may still be sent. Without the row nothing
-- is planned or sent, so nobody can delete it.
create table app_private.message_settings (
  only_row boolean not null default true,
  late_window interval not null default '12 hours',
  worker_grace interval not null default '8 seconds',
  soft_bounces integer not null default 5,
  soft_bounce_window interval not null default '7 days',
  approval_above integer,
  constraint message_settings_pkey primary key (only_row),
  constraint message_settings_only_row_check check (only_row),
  constraint message_settings_late_window_check
    check (late_window between interval '1 minute' and interval '7 days'),
  constraint message_settings_worker_grace_check
    check (worker_grace between interval '1 second' and interval '10 minutes'),
  constraint message_settings_soft_bounces_check check (soft_bounces between 1 and 1000),
  constraint message_settings_soft_bounce_window_check
    check (soft_bounce_window between interval '1 hour' and interval '1 year'),
  constraint message_settings_approval_above_check check (approval_above >= 1)
);

alter table app_private.message_settings enable row level security;

create trigger _200_keep before delete or truncate on app_private.message_settings
  for each statement execute function app_private.tg__keep();

comment on table app_private.message_settings is 'One row: what holds for all messages.';
comment on column app_private.message_settings.worker_grace is
  'How long the session of a worker may be gone before others have its jobs.';
comment on column app_private.message_settings.late_window is
  'How long after its time a message may still be sent.';
comment on column app_private.message_settings.soft_bounces is
  'After so many soft bounces within soft_bounce_window an address counts as bounced.';
comment on column app_private.message_settings.soft_bounce_window is
  'How long a soft bounce counts.';
comment on column app_private.message_settings.approval_above is
  'Who cancels, redrives, releases or rewrites more messages than this needs the approval of a second person; null means that nobody does.';

--! Included functions/app_private/late_window.sql
create or replace function app_private.late_window() returns interval
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  kept constant interval := (
    select message_settings.late_window from app_private.message_settings);
begin
  if kept is null then
    raise exception 'app_private.message_settings has no row'
      using errcode = 'GW011',
        hint = 'insert into app_private.message_settings default values';
  end if;
  return kept;
end
$$;

comment on function app_private.late_window() is
  'How long after its time a message may still be sent. Raises GW011 when the row of message_settings is missing.';
--! EndIncluded functions/app_private/late_window.sql
--! Included functions/app_private/approval_above.sql
create or replace function app_private.approval_above() returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select message_settings.approval_above from app_private.message_settings
$$;

comment on function app_private.approval_above() is
  'A change of more messages than this needs a second person; null when none does.';
--! EndIncluded functions/app_private/approval_above.sql

insert into app_private.message_settings default values;
