--! Previous: sha1:272201f3b73bf4c73aebbbc408759b8841204081
--! Hash: sha1:a88786a6725f108b65bf98bf6fd4484a03ae9d6d
--! Message: message-types
--! Baseline: topics/21-message-types.sql

/*
 * Message types: where the date of each comes from, who may turn it off, and what it says.
 *
 * A new type is a row of message_types and a template in English, in one transaction, and
 * nothing else: triggers make the view of the rules and the users' schedules follow.
 */

--! Included functions/app_private/payload_problem.sql
-- The part of JSON Schema that says what a form says: https://json-schema.org, draft 2020-12.
create or replace function app_private.payload_problem(
  p_schema jsonb, p_value jsonb, p_path text default 'payload'
) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  kind constant text := jsonb_typeof(p_value);
  wanted constant text := p_schema ->> 'type';
  said constant text := p_value #>> '{}';
  name text;
  problem text;
begin
  if wanted is not null
    and not (kind = wanted
      or wanted = 'integer' and kind = 'number' and (said::numeric % 1) = 0)
  then
    return format('%s is not of the type %s', p_path, wanted);
  end if;
  if p_schema ? 'enum' and not (p_schema -> 'enum') @> jsonb_build_array(p_value) then
    return format('%s is not one of %s', p_path, p_schema -> 'enum');
  end if;
  if kind = 'string' then
    return case
      when length(said) < (p_schema ->> 'minLength')::integer
      then format('%s has less than %s characters', p_path, p_schema ->> 'minLength')
      when length(said) > (p_schema ->> 'maxLength')::integer
      then format('%s has more than %s characters', p_path, p_schema ->> 'maxLength')
      when said !~ (p_schema ->> 'pattern')
      then format('%s does not match %s', p_path, p_schema ->> 'pattern')
      when p_schema ->> 'format' = 'date'
        and said !~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$'
      then format('%s is not a date such as 2026-12-24', p_path)
      when p_schema ->> 'format' = 'date-time'
        and said !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$'
      then format('%s is not an instant such as 2026-12-24T18:00:00Z', p_path)
      when p_schema ->> 'format' = 'uri' and said !~* '^https?://[^\s<>"]+$'
      then format('%s is not a link', p_path)
    end;
  end if;
  if kind = 'number' then
    return case
      when said::numeric < (p_schema ->> 'minimum')::numeric
      then format('%s is less than %s', p_path, p_schema ->> 'minimum')
      when said::numeric > (p_schema ->> 'maximum')::numeric
      then format('%s is more than %s', p_path, p_schema ->> 'maximum')
    end;
  end if;
  if kind <> 'object' then
    return null;
  end if;

  for name in
    select required.value
    from jsonb_array_elements_text(coalesce(p_schema -> 'required', '[]')) as required (value)
  loop
    if not p_value ? name then
      return format('%s.%s is missing', p_path, name);
    end if;
  end loop;
  for name in select * from jsonb_object_keys(p_value) as property order by property loop
    if coalesce(p_schema -> 'properties', '{}') ? name then
      problem := app_private.payload_problem(p_schema -> 'properties' -> name,
        p_value -> name, p_path || '.' || name);
      if problem is not null then
        return problem;
      end if;
    elsif p_schema -> 'additionalProperties' = 'false' then
      return format('%s.%s is not known', p_path, name);
    end if;
  end loop;
  return null;
end
$$;

comment on function app_private.payload_problem(jsonb, jsonb, text) is
  'What is wrong with a value, by a JSON schema: the keywords type, enum, properties, required, additionalProperties, minLength, maxLength, pattern, format (date, date-time, uri), minimum and maximum. Null when nothing is.';
--! EndIncluded functions/app_private/payload_problem.sql
--! Included functions/app_private/payload_schema_problem.sql
-- A keyword that payload_problem() does not know would be a rule that nobody enforces.
create or replace function app_private.payload_schema_problem(p_schema jsonb)
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  known constant text[] := array['$schema', 'title', 'description', 'type', 'enum',
    'properties', 'required', 'additionalProperties', 'minLength', 'maxLength', 'pattern',
    'format', 'minimum', 'maximum'];
  unknown text;
  property record;
  problem text;
begin
  if jsonb_typeof(p_schema) <> 'object' then
    return 'a schema is an object';
  end if;
  select keyword into unknown
  from jsonb_object_keys(p_schema) as keyword
  where keyword <> all (known)
  order by keyword
  limit 1;
  if unknown is not null then
    return format('the keyword %s is not known', unknown);
  end if;
  if p_schema ->> 'format' not in ('date', 'date-time', 'uri') then
    return format('the format %s is not known', p_schema ->> 'format');
  end if;
  for property in select * from jsonb_each(coalesce(p_schema -> 'properties', '{}')) loop
    if property.key !~ '^[a-z_]{1,63}$' then
      return format('no template can name the property %s', property.key);
    end if;
    problem := app_private.payload_schema_problem(property.value);
    if problem is not null then
      return problem;
    end if;
  end loop;
  -- A pattern or number that cannot be used.
  perform app_private.payload_problem(p_schema, '"x"'), app_private.payload_problem(p_schema, '1');
  return null;
exception when data_exception then
  return sqlerrm;
end
$$;

comment on function app_private.payload_schema_problem(jsonb) is
  'What is wrong with a JSON schema of a payload; null when nothing is.';
--! EndIncluded functions/app_private/payload_schema_problem.sql
--! Included functions/app_private/base_date_column.sql
-- Other tables than these have no trigger that plans anew when a date changes.
create or replace function app_private.base_date_column(
  p_base_column text, out name text, out type regtype
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', pg_class.relname, pg_attribute.attname),
    pg_attribute.atttypid::regtype
  from pg_class
  inner join pg_attribute on pg_attribute.attrelid = pg_class.oid
  where pg_class.oid = any (
      array['app_public.users'::regclass, 'app_public.subscriptions'::regclass])
    and p_base_column in (
      case when pg_class.oid = 'app_public.users'::regclass then pg_attribute.attname end,
      pg_class.relname || '.' || pg_attribute.attname)
    and pg_attribute.attnum > 0
    and not pg_attribute.attisdropped
    and pg_attribute.atttypid in ('date'::regtype, 'timestamptz'::regtype)
$$;

comment on function app_private.base_date_column(text) is
  'The column that a message type''s base_column names, as a statement writes it, and its type; null when there is none.';
--! EndIncluded functions/app_private/base_date_column.sql
--! Included functions/app_private/make_user_messages.sql
-- The view names the columns that message_types names. So it is as fast as a view written
-- by hand, and PostgreSQL refuses to drop a column while a type needs it. Only a type that
-- needs it makes the view read subscriptions.
create or replace function app_private.make_user_messages() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted text;
  source text;
begin
  select string_agg(
    format('(%L::text, %L::text, %s, %s, %s, %s, %L::boolean, %L::text, %s)',
      types.type, types.repeats,
      case base.type when 'timestamptz'::regtype
        then format('(%s at time zone coalesce(zone.name, ''UTC''))::date', base.name)
        else coalesce(base.name, 'null::date') end
        || case when types.offset_days <> 0 then format(' + %s', types.offset_days) else '' end,
      case when types.send_time is null then 'users.send_time'
        else format('%L::time', types.send_time) end,
      case when types.opt_out_column is null then 'true'
        else format('coalesce(user_settings.%I, true)', types.opt_out_column) end,
      (types.opt_out_column is not null)::text, types.keeps_quiet_hours, types.late_policy,
      types.cap_days),
    ', ' order by types.type),
    case when bool_or(base.name like 'subscriptions.%') then
      'left join app_public.subscriptions on subscriptions.user_id = users.id' else '' end
  into wanted, source
  from app_private.message_types as types
  left join lateral app_private.base_date_column(types.base_column) as base on true;

  execute format($view$
    create or replace view app_private.user_messages with (security_invoker = true) as
    select users.id as user_id, wanted.message_type, wanted.repeats, wanted.base_date,
      wanted.send_time, wanted.is_wanted, wanted.is_optional, users.deleted_at,
      zone.name as timezone, users.leap_day_policy, users.first_name, users.last_name,
      coalesce(user_settings.locale, 'en') as locale, users.email,
      case when wanted.keeps_quiet_hours then user_settings.quiet_from end as quiet_from,
      case when wanted.keeps_quiet_hours then user_settings.quiet_until end as quiet_until,
      wanted.late_policy, wanted.cap_days
    from app_public.users
    left join app_public.user_settings on user_settings.user_id = users.id
    left join app_hidden.known_timezones as zone on zone.name = users.timezone
    %s
    cross join lateral (
      values %s
    ) as wanted (message_type, repeats, base_date, send_time, is_wanted, is_optional,
      keeps_quiet_hours, late_policy, cap_days)
    $view$, source, wanted);
  comment on view app_private.user_messages is
    'One row for each user and message type, wanted or not: the date, time and zone that it depends on. The zone is null while the server does not know it. Made from message_types.';
end
$$;

comment on function app_private.make_user_messages() is
  'Creates the view user_messages again, from the rows of message_types.';
--! EndIncluded functions/app_private/make_user_messages.sql
--! Included functions/app_private/tg_message_types__validate.sql
-- A type names columns. They must exist, and have the right type.
create or replace function app_private.tg_message_types__validate() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := app_private.payload_schema_problem(new.payload_schema);
begin
  if (select name from app_private.base_date_column(new.base_column)) is null
    and new.base_column is not null
  then
    raise exception 'there is no column % with a date', new.base_column
      using errcode = 'GW042', hint = 'base_column names a date or timestamptz column of '
        'app_public.users, or of app_public.subscriptions: subscriptions.trial_ends_at.';
  end if;
  if problem is not null then
    raise exception 'the payload schema of % cannot be used: %', new.type, problem
      using errcode = 'GW042';
  end if;
  if new.opt_out_column is not null and not exists (
    select from pg_attribute
    inner join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = 'app_public.user_settings'::regclass
      and attname = new.opt_out_column
      and atttypid = 'boolean'::regtype
      and attnotnull
      -- A user without settings gets the message.
      and pg_get_expr(adbin, adrelid) = 'true'
  ) then
    raise exception 'app_public.user_settings has no column % that is true by default',
      new.opt_out_column
      using errcode = 'GW042',
        hint = 'opt_out_column names a column that is boolean not null default true.';
  end if;
  if tg_op = 'UPDATE' then
    new.replan_after := '00000000-0000-0000-0000-000000000000';
  end if;
  return new;
end
$$;

comment on function app_private.tg_message_types__validate() is
  'Refuses a type whose columns do not exist. Marks a changed type, so that the planner applies it to all users.';
--! EndIncluded functions/app_private/tg_message_types__validate.sql
--! Included functions/app_private/tg_message_types__apply.sql
create or replace function app_private.tg_message_types__apply() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform app_private.make_user_messages();
  return null;
end
$$;

comment on function app_private.tg_message_types__apply() is
  'Brings the view of the rules up to date when a message type is added, changed or deleted.';
--! EndIncluded functions/app_private/tg_message_types__apply.sql

create table app_private.message_types (
  type text not null,
  label text not null,
  repeats text not null default 'yearly',
  base_column text,
  offset_days integer not null default 0,
  send_time time,
  opt_out_column text,
  keeps_quiet_hours boolean not null default true,
  late_policy text not null default 'window',
  cap_days integer not null default 2,
  payload_schema jsonb,
  belated_as text,
  day_group text,
  priority integer not null default 0,
  combined_as text,
  rerender_after uuid,
  replan_after uuid default '00000000-0000-0000-0000-000000000000',
  constraint message_types_pkey primary key (type),
  constraint message_types_type_check check (type ~ '^[A-Z][A-Z0-9_]{0,39}$'),
  constraint message_types_label_check check (length(label) between 1 and 40),
  constraint message_types_repeats_check
    check (repeats in ('yearly', 'weekly', 'once', 'event')),
  constraint message_types_base_column_check
    check ((repeats = 'event') = (base_column is null)),
  constraint message_types_offset_days_check
    check (offset_days = 0 or repeats = 'once' and offset_days between -366 and 366),
  constraint message_types_late_policy_check check (late_policy in ('window', 'day')),
  constraint message_types_cap_days_check
    check (cap_days between 0 and case repeats when 'weekly' then 6 else 50 end),
  constraint message_types_payload_schema_check
    check (repeats = 'event' or payload_schema is null),
  constraint message_types_belated_as_fkey
    foreign key (belated_as) references app_private.message_types,
  constraint message_types_combined_as_fkey
    foreign key (combined_as) references app_private.message_types,
  constraint message_types_belated_as_check
    check (belated_as is null or belated_as <> type and late_policy = 'window'
      and repeats in ('yearly', 'once')),
  constraint message_types_day_group_check
    check (day_group is null or day_group ~ '^[a-z][a-z0-9_]{0,39}$'
      and repeats in ('yearly', 'once')),
  constraint message_types_combined_as_check
    check (combined_as is null or combined_as <> type and day_group is not null),
  constraint message_types_send_time_check check (send_time < time '24:00')
);

create index message_types_belated_as_idx on app_private.message_types (belated_as);

create index message_types_combined_as_idx on app_private.message_types (combined_as);

alter table app_private.message_types enable row level security;

create trigger _200_validate
  before insert or update of repeats, base_column, offset_days, send_time, opt_out_column,
    keeps_quiet_hours, cap_days, payload_schema
  on app_private.message_types
  for each row execute function app_private.tg_message_types__validate();

create trigger _900_apply
  after insert or delete or update of type, repeats, base_column, offset_days, send_time,
    opt_out_column, keeps_quiet_hours, late_policy, cap_days
  on app_private.message_types
  for each statement execute function app_private.tg_message_types__apply();

comment on table app_private.message_types is
  'The types of messages. A change waits for transactions that plan or send, and these wait for it.';
comment on column app_private.message_types.type is
  'The name that messages, jobs and receivers have for it.';
comment on column app_private.message_types.label is
  'What people call the occasion: birthday, weekly digest.';
comment on column app_private.message_types.repeats is
  'yearly: on the day of base_column, composed when planned. weekly: on Mondays after base_column, composed of the week''s figures when sent. once: offset_days after base_column. event: when the application calls send_message().';
comment on column app_private.message_types.base_column is
  'The column that has the date, of app_public.users or, as subscriptions.trial_ends_at, of app_public.subscriptions: a date, or a timestamptz, which is read in the user''s zone. A user with null there gets no message. Null for events.';
comment on column app_private.message_types.offset_days is
  'For once: so many days after the date; below 0, before it.';
comment on column app_private.message_types.send_time is
  'The local time at which it is sent; null means the user''s send_time.';
comment on column app_private.message_types.opt_out_column is
  'The column of app_public.user_settings that says who wants it; null means that nobody can turn it off.';
comment on column app_private.message_types.keeps_quiet_hours is
  'Whether it waits for the end of the user''s quiet hours.';
comment on column app_private.message_types.late_policy is
  'window: it may be sent within the late window. day: not after its local day either.';
comment on column app_private.message_types.cap_days is
  'A user whose date moves gets no second message of the type within so many days. It does not apply to events.';
comment on column app_private.message_types.payload_schema is
  'For events: the JSON schema of the payload, see payload_problem(); null means any object. Its properties are names of the templates.';
comment on column app_private.message_types.belated_as is
  'After its local day it says what the templates of this type say; null: the same as on the day.';
comment on column app_private.message_types.day_group is
  'Of the messages of a group a user gets one on a day, that with the highest priority; null: it is in none.';
comment on column app_private.message_types.priority is
  'Which message of a group is sent, the highest; of equal ones the first name.';
comment on column app_private.message_types.combined_as is
  'When it stands for others of its group on a day, it says what the templates of this type say; null: the same as alone.';
comment on column app_private.message_types.rerender_after is
  'A changed text was written into the messages of users up to this id; null when it has reached all.';
comment on column app_private.message_types.replan_after is
  'A change of this row was applied to users up to this id; null when it has reached all.';

insert into app_private.message_types
  (type, label, repeats, base_column, send_time, opt_out_column, cap_days, replan_after)
values
  -- Whoever corrects a date is not congratulated again.
  ('BIRTHDAY', 'birthday', 'yearly', 'birthday_date', null, 'birthday_messages', 30, null),
  ('ANNIVERSARY', 'anniversary', 'yearly', 'anniversary_date', null,
    'anniversary_messages', 30, null),
  -- A user who joins in a week gets a digest of it on the Monday after.
  ('DIGEST', 'weekly digest', 'weekly', 'created_at', '08:00', 'weekly_digest', 2, null);

--! Included functions/app_private/check_message_type.sql
create or replace function app_private.check_message_type(p_type text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_type is null
    or not exists (select from app_private.message_types where type = p_type)
  then
    raise exception 'there is no message type %', p_type
      using errcode = 'GW040', hint = (
        select 'One of: ' || string_agg(type, ', ' order by type) || '.'
        from app_private.message_types);
  end if;
end
$$;

comment on function app_private.check_message_type(text) is
  'Raises GW040 when there is no such message type; the hint lists the types.';
--! EndIncluded functions/app_private/check_message_type.sql

-- What a user turns off, in other languages than English. A type without a row here is
-- named in English.
create table app_private.message_type_labels (
  message_type text not null,
  locale text not null,
  label text not null,
  constraint message_type_labels_pkey primary key (message_type, locale),
  constraint message_type_labels_message_type_fkey
    foreign key (message_type) references app_private.message_types on delete cascade,
  constraint message_type_labels_locale_check
    check (locale ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?$'),
  constraint message_type_labels_label_check check (length(label) between 1 and 100)
);

alter table app_private.message_type_labels enable row level security;

comment on table app_private.message_type_labels is
  'What a user turns off by unsubscribing, in the language of the page: "die Wochenübersicht".';

insert into app_private.message_type_labels (message_type, locale, label) values
  ('BIRTHDAY', 'de', 'Nachrichten zu deinem Geburtstag'),
  ('ANNIVERSARY', 'de', 'Nachrichten zu deinem Jahrestag'),
  ('DIGEST', 'de', 'die Wochenübersicht'),
  ('BIRTHDAY', 'es', 'los mensajes por tu cumpleaños'),
  ('ANNIVERSARY', 'es', 'los mensajes por tu aniversario'),
  ('DIGEST', 'es', 'el resumen semanal'),
  ('BIRTHDAY', 'fr', 'les messages pour votre anniversaire'),
  ('ANNIVERSARY', 'fr', 'les messages pour votre date anniversaire'),
  ('DIGEST', 'fr', 'le bilan de la semaine');

--! Included functions/app_private/unsubscribe_label.sql
-- Definer: the API's login role may call this and read no table. It returns a label and a
-- language only.
create or replace function app_private.unsubscribe_label(
  p_user_id uuid, p_message_type text
) returns table (label text, locale text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(labels.label,
      case message_types.repeats when 'yearly' then 'messages on your ' else 'the ' end
        || message_types.label),
    coalesce(labels.locale, 'en')
  from app_private.message_types
  left join app_public.user_settings on user_settings.user_id = p_user_id
  left join lateral (
    select message_type_labels.*
    from app_private.message_type_labels
    where message_type_labels.message_type = message_types.type
      and (user_settings.locale = message_type_labels.locale
        or user_settings.locale like message_type_labels.locale || '-%')
    order by length(message_type_labels.locale) desc
    limit 1
  ) as labels on true
  where message_types.type = p_message_type
    and message_types.opt_out_column is not null
$$;

grant execute on function app_private.unsubscribe_label(uuid, text) to gw_authenticator;
comment on function app_private.unsubscribe_label(uuid, text) is
  'What a user turns off by unsubscribing from a message type, such as "messages on your birthday", and in which language that is; nothing when there is no such type, or nobody can turn it off.';
--! EndIncluded functions/app_private/unsubscribe_label.sql
