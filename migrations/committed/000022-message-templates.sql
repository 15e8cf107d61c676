--! Previous: sha1:a88786a6725f108b65bf98bf6fd4484a03ae9d6d
--! Hash: sha1:072ba6e698871d67f58af46cd6f3de4a23aeee2f
--! Message: message-templates
--! Baseline: topics/22-message-templates.sql

/*
 * Templates: what messages say, in which language, and which version of it.
 *
 * A person edits message_templates by SQL, or publishes a version with "gw templates". Either
 * makes a version, and what is planned is written anew.
 */

--! Included functions/app_private/tg__audit.sql
-- For rows that people edit, and that decide what the system does. The action is the
-- argument and what happened: messages.answer_rule_changed.
create or replace function app_private.tg__audit() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform ops.audit(
    tg_argv[0] || case tg_op when 'INSERT' then '_added' when 'UPDATE' then '_changed'
      else '_deleted' end,
    jsonb_strip_nulls(jsonb_build_object(
      'before', case when tg_op <> 'INSERT' then to_jsonb(old) end,
      'after', case when tg_op <> 'DELETE' then to_jsonb(new) end)));
  return null;
end
$$;

comment on function app_private.tg__audit() is
  'Records each change of a row in the audit log, with the row before and after.';
--! EndIncluded functions/app_private/tg__audit.sql
--! Included functions/app_hidden/render_template.sql
-- Sections are resolved first, before any value is in the text, so a value is never read
-- as a template. Then the text is split at "{{": the first piece is literal, each other
-- piece is "name}}literal". A loop is faster here: a query for each text costs more than
-- the text.
create or replace function app_hidden.render_template(p_template text, p_values jsonb)
returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  template text := p_template;
  section text;
  pieces text[];
  piece text;
  name_end integer;
  rendered text;
begin
  if strpos(template, '{{#') > 0 then
    for section in
      select distinct hit[1]
      from regexp_matches(p_template, '\{\{#([a-z_]+)\}\}', 'g') as hit
    loop
      template := regexp_replace(template,
        format('\{\{#%1$s\}\}(.*?)\{\{/%1$s\}\}', section),
        case when coalesce(p_values ->> section, '') = '' then '' else '\1' end,
        'g');
    end loop;
  end if;
  pieces := string_to_array(template, '{{');
  rendered := coalesce(pieces[1], '');
  foreach piece in array pieces[2:]
  loop
    name_end := strpos(piece, '}}');
    rendered := rendered || case
      when name_end = 0 then '{{' || piece
      -- {{first_name|friend}}: what stands there when there is no name.
      else coalesce(
          nullif(btrim(p_values ->> btrim(split_part(left(piece, name_end - 1), '|', 1))), ''),
          case when piece like '\%%' then nullif(app_hidden.url_encode(btrim(p_values
            ->> btrim(split_part(substr(piece, 2, name_end - 2), '|', 1)))), '') end,
          btrim(split_part(left(piece, name_end - 1), '|', 2)))
        || substr(piece, name_end + 2)
    end;
  end loop;
  return rendered;
end
$$;

comment on function app_hidden.render_template(text, jsonb) is
  'Replaces {{name}} by the value of that key, {{name|default}} by the default when it has none, {{%name}} by the value as a part of a URL. Keeps {{#name}}…{{/name}} only when the key has a value. A value is never read as a template.';
--! EndIncluded functions/app_hidden/render_template.sql
--! Included functions/app_hidden/template_names.sql
-- Reads a template as render_template() does: each piece after "{{" is "name}}literal".
-- Sections may stand in each other; each is closed before the one around it.
create or replace function app_hidden.template_names(p_template text) returns text[]
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  names text[] := array[]::text[];
  opened text[] := array[]::text[];
  piece text;
  inside text;
begin
  foreach piece in array (string_to_array(p_template, '{{'))[2:]
  loop
    inside := split_part(piece, '}}', 1);
    if strpos(piece, '}}') = 0 then
      names := names || '{{'::text;
    elsif inside ~ '^#[a-z_]+$' then
      opened := substr(inside, 2) || opened;
      names := names || substr(inside, 2);
    elsif inside ~ '^/[a-z_]+$' and opened[1] = substr(inside, 2) then
      opened := opened[2:];
    elsif btrim(inside) ~ '^%?[a-z_]+ *([|][^{}|]*)?$' then
      names := names || ltrim(btrim(split_part(inside, '|', 1)), '%');
    else
      names := names || format('{{%s}}', inside);
    end if;
  end loop;
  names := names || array(
    select format('{{#%s}}', name) from unnest(opened) as left_open (name));
  return array(select distinct name collate "C" from unnest(names) as found (name) order by 1);
end
$$;

comment on function app_hidden.template_names(text) is
  'The names that a template uses, as values or as sections. A tag that is neither a name nor part of a complete section is returned as it is written, with its braces.';
--! EndIncluded functions/app_hidden/template_names.sql
--! Included functions/app_hidden/url_encode.sql
create or replace function app_hidden.url_encode(p_text text) returns text
language sql immutable strict parallel safe
as $$
  select coalesce(pg_catalog.string_agg(
    case when letter ~ '^[A-Za-z0-9_.~-]$' then letter
      else pg_catalog.regexp_replace(
        pg_catalog.upper(pg_catalog.encode(pg_catalog.convert_to(letter, 'UTF8'), 'hex')),
        '(..)', '%\1', 'g') end, '' order by place), '')
  from pg_catalog.regexp_split_to_table(p_text, '') with ordinality as given (letter, place)
$$;

comment on function app_hidden.url_encode(text) is
  'A text as one part of a URL (RFC 3986): all but letters, digits, "-", ".", "_" and "~" as %XX of UTF-8.';
--! EndIncluded functions/app_hidden/url_encode.sql
--! Included functions/app_hidden/html_values.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_hidden.html_values(p_values jsonb) returns jsonb
language sql immutable strict parallel safe
as $$
  select coalesce(pg_catalog.jsonb_object_agg(given.key, escaped.value)
    || pg_catalog.jsonb_object_agg('%' || given.key, app_hidden.url_encode(given.value)), '{}')
  from pg_catalog.jsonb_each_text(p_values) as given
  cross join lateral (
    select pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
      pg_catalog.replace(given.value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'),
      '"', '&quot;'), '''', '&#39;')
  ) as escaped (value)
  -- Names are these; a payload may have others.
  where given.key ~ '^[a-z_]+$'
$$;

comment on function app_hidden.html_values(jsonb) is
  'Values as compile_html() needs them: each as text of HTML, and as "%name" for a URL.';
--! EndIncluded functions/app_hidden/html_values.sql
--! Included functions/app_hidden/attribute_problem.sql
create or replace function app_hidden.attribute_problem(p_name text, p_value text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case
    when p_name <> all (array['href', 'src', 'alt', 'title', 'width', 'height', 'align',
      'valign', 'style', 'class', 'border', 'cellpadding', 'cellspacing', 'role', 'lang',
      'dir', 'bgcolor', 'colspan', 'rowspan', 'target'])
      then 'mail has no such attribute'
    when p_name = 'style' and p_value ~* '\{\{|url\s*\(|expression|@import|\\'
      then 'a style has neither names nor URLs'
    when p_name = 'href'
      and p_value !~* '^(https://[a-z0-9.-]+(:\d+)?([/?#].*)?|(mailto|tel):[^{}]+)$'
      then 'a link begins with https:// and a host, mailto: or tel:, as the template writes it'
    when p_name = 'src' and p_value !~* '^https://[a-z0-9.-]+(:\d+)?([/?#].*)?$'
      then 'an image begins with https:// and a host, as the template writes it'
    when p_name in ('href', 'src') and p_value ~ '\{\{[^{}]*[|][^{}]*[^A-Za-z0-9_.~ {}|-]'
      then 'a default in a link has letters and digits only'
    when p_name in ('href', 'src') and p_value ~ '[\s\\]'
      and regexp_replace(p_value, '\{\{[^{}]*\}\}', '', 'g') ~ '[\s\\]'
      then 'a link has no spaces' end
$$;

comment on function app_hidden.attribute_problem(text, text) is
  'What is wrong with an attribute of a template''s HTML; null when nothing is.';
--! EndIncluded functions/app_hidden/attribute_problem.sql
--! Included functions/app_hidden/compile_html.sql
-- What is read here is less than HTML: every "<" begins a tag, attributes are
-- name="value" without "<" and ">", and there is nothing that a browser reads in another
-- way, such as scripts, styles or comments. So it is known where each {{name}} stands.
create or replace function app_hidden.compile_html(p_html text) returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  compiled text := '';
  token text;
  attribute text[];
  refusal text;
begin
  for token in
    select hit[1] from regexp_matches(p_html, '(<[^<>]*>?|[^<]+)', 'g') as hit
  loop
    if token not like '<%' then
      compiled := compiled || token;
      continue;
    end if;
    refusal := case
      when token !~* '^<(/[a-z][a-z0-9]*\s*|[a-z][a-z0-9]*(\s+[a-z-]+="[^"<>]*")*\s*/?)>$'
        then 'tags are <name attribute="value"> and </name>, and "<" as text is &lt;'
      when lower(substring(token from '^</?([a-zA-Z0-9]+)')) <> all (array['a', 'b', 'strong',
        'i', 'em', 'u', 'p', 'br', 'hr', 'h1', 'h2', 'h3', 'h4', 'ul', 'ol', 'li', 'table',
        'thead', 'tbody', 'tr', 'td', 'th', 'img', 'span', 'div', 'blockquote', 'small',
        'sup', 'sub', 'center', 'code', 'pre'])
        then 'mail has no such element'
      when token ~ '\{\{[#/]' then 'a section stands between tags, not in one' end;
    if refusal is null then
      for attribute in
        select hit from regexp_matches(token, '\s([a-zA-Z-]+)="([^"]*)"', 'g') as hit
      loop
        refusal := app_hidden.attribute_problem(lower(attribute[1]), attribute[2]);
        exit when refusal is not null;
        if lower(attribute[1]) in ('href', 'src') then
          token := replace(token, '"' || attribute[2] || '"',
            '"' || regexp_replace(attribute[2], '\{\{\s*', '{{%', 'g') || '"');
        end if;
      end loop;
    end if;
    if refusal is not null then
      raise exception '%: %', left(token, 80), refusal
        using errcode = 'check_violation', constraint = 'message_templates_html_check';
    end if;
    compiled := compiled || token;
  end loop;
  return compiled;
end
$$;

comment on function app_hidden.compile_html(text) is
  'Checks the HTML of a template, and marks each {{name}} in a URL as {{%name}}, for render_template() with html_values(). Raises a check violation that quotes what is wrong.';
--! EndIncluded functions/app_hidden/compile_html.sql
--! Included functions/app_hidden/layout_problem.sql
create or replace function app_hidden.layout_problem(p_html text) returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case
    when array(select hit[1] from regexp_matches(p_html, '\{\{([^{}]*)\}\}', 'g') as hit
        order by 1)
      is distinct from array['content', 'footer', 'language', 'subject']
      then 'a layout has {{language}}, {{subject}}, {{content}} and {{footer}}, each once'
    when p_html !~* '<html \{\{language\}\}>' then '{{language}} stands in <html {{language}}>'
    when p_html !~* '<title>\{\{subject\}\}</title>'
      then '{{subject}} stands in <title>{{subject}}</title>'
    when p_html ~* '<(script|iframe|object|embed|form|base|link|svg|math)\y'
      or p_html ~* '\son[a-z]+\s*=' or p_html ~* '\y(javascript|vbscript|data)\s*:|http-equiv'
      then 'mail has no scripts, forms, frames, linked sheets or redirections' end
$$;

comment on function app_hidden.layout_problem(text) is
  'What is wrong with the HTML around messages; null when nothing is.';
--! EndIncluded functions/app_hidden/layout_problem.sql
--! Included functions/app_private/tg_message_templates__validate.sql
-- A trigger, because a CHECK cannot look into message_types.
create or replace function app_private.tg_message_templates__validate() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  known text[] := array['first_name', 'last_name', 'full_name'];
  unknown text[];
begin
  known := known || case
    (select repeats from app_private.message_types where type = new.message_type)
    when 'weekly' then array['week_start', 'week_end', 'habits', 'tasks_created',
      'tasks_done', 'goals_touched', 'habit_days', 'reflections', 'mood_average',
      'previous_tasks_created', 'previous_tasks_done', 'previous_goals_touched',
      'previous_habit_days', 'previous_reflections', 'previous_mood_average']
    when 'once' then array['date', 'days']
    when 'event' then array(
      select jsonb_object_keys(coalesce(message_types.payload_schema -> 'properties', '{}'))
      from app_private.message_types
      where message_types.type = new.message_type)
    else array['age', 'years']
  end;
  unknown := array(
    select unnest(app_hidden.template_names(new.subject)
      || app_hidden.template_names(new.body)
      || app_hidden.template_names(coalesce(new.html, '')))
    except
    select unnest(known));
  if unknown <> '{}' then
    raise exception 'a template of % cannot fill in: %',
      new.message_type, array_to_string(unknown, ', ')
      using errcode = 'check_violation', constraint = 'message_templates_names_check',
        table = tg_table_name, schema = tg_table_schema,
        hint = 'It knows: ' || array_to_string(known, ', ') || '.';
  end if;
  return new;
end
$$;

comment on function app_private.tg_message_templates__validate() is
  'Refuses a template that names what its type does not have.';
--! EndIncluded functions/app_private/tg_message_templates__validate.sql
--! Included functions/app_private/tg__fallback.sql
-- A message without a text in the user's language has the English one.
create or replace function app_private.tg__fallback() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  checked constant text := to_jsonb(case tg_op when 'INSERT' then new else old end)
    ->> tg_argv[0];
begin
  -- The row may be gone or changed by the end of the transaction.
  if exists (
    select from app_private.message_types
    where (message_types.type = checked
        or message_types.type = to_jsonb(new) ->> tg_argv[0])
      and not exists (
        select from app_private.message_templates
        where message_templates.message_type = message_types.type
          and message_templates.locale = 'en'
      )
  ) then
    raise exception 'the message type % needs a template in English', checked
      using errcode = 'GW011',
        hint = 'Insert it into app_private.message_templates in the same transaction.';
  end if;
  return null;
end
$$;

comment on function app_private.tg__fallback() is
  'Refuses, at the end of a transaction, a message type without a template in English.';
--! EndIncluded functions/app_private/tg__fallback.sql
--! Included functions/app_private/tg__keep.sql
create or replace function app_private.tg__keep() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the rows of %.% must stay', tg_table_schema, tg_table_name
    using errcode = 'GW011',
      hint = 'Without them no message is planned or sent. Update them instead.';
end
$$;

comment on function app_private.tg__keep() is
  'Refuses to empty a table that planning and sending cannot do without.';
--! EndIncluded functions/app_private/tg__keep.sql
--! Included functions/app_private/tg_message_templates__version.sql
-- A text that was there before has its number already: that is how one goes back to it.
create or replace function app_private.tg_message_templates__version() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Published: the version is the one that is named.
  if exists (
    select from app_private.template_versions
    where (template_versions.message_type, template_versions.locale,
        template_versions.version) = (new.message_type, new.locale, new.version)
      and (template_versions.subject, template_versions.body, template_versions.html)
        is not distinct from (new.subject, new.body, new.html)
      and (tg_op = 'INSERT' or new.version <> old.version)
  ) then
    if tg_op = 'UPDATE' then
      new.previous_version := old.version;
    end if;
    return new;
  end if;
  if tg_op = 'UPDATE'
    and (new.message_type, new.locale, new.subject, new.body, new.html)
      is not distinct from (old.message_type, old.locale, old.subject, old.body, old.html)
  then
    new.version := old.version;
    return new;
  end if;
  select template_versions.version
  into new.version
  from app_private.template_versions
  where (template_versions.message_type, template_versions.locale)
      = (new.message_type, new.locale)
    and (template_versions.subject, template_versions.body, template_versions.html)
      is not distinct from (new.subject, new.body, new.html)
  order by template_versions.version desc
  limit 1;
  if new.version is null then
    new.version := ops.draft_template(
      new.message_type, new.locale, new.subject, new.body, new.html);
  end if;
  if tg_op = 'UPDATE' and new.version <> old.version then
    new.previous_version := old.version;
  end if;
  return new;
end
$$;

comment on function app_private.tg_message_templates__version() is
  'Gives each text of a template the number of its version.';
--! EndIncluded functions/app_private/tg_message_templates__version.sql
--! Included functions/app_private/tg_message_templates__rerender.sql
create or replace function app_private.tg_message_templates__rerender() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and tg_table_name = 'message_templates' then
    delete from app_private.template_trials
    where (message_type, locale) = (old.message_type, old.locale);
  end if;
  update app_private.message_types
  set rerender_after = '00000000-0000-0000-0000-000000000000'
  where type in (
    case when tg_op <> 'INSERT' then old.message_type end,
    case when tg_op <> 'DELETE' then new.message_type end);
  return null;
end
$$;

comment on function app_private.tg_message_templates__rerender() is
  'Has the planner write a changed text into the messages that are planned. The trials of a text go with it.';
--! EndIncluded functions/app_private/tg_message_templates__rerender.sql
--! Included functions/app_private/tg_template_trials__validate.sql
-- After the statement's rows are there. Two people who try versions at the same time wait
-- for each other: both lock the text.
create or replace function app_private.tg_template_trials__validate() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  total integer;
begin
  perform from app_private.message_templates
  where (message_type, locale) = (new.message_type, new.locale)
  for no key update;
  select sum(percent)
  into total
  from app_private.template_trials
  where (message_type, locale) = (new.message_type, new.locale);
  if total > 99 then
    raise exception 'trials of % in % would be for % percent of the users', new.message_type,
      new.locale, total
      using errcode = 'GW044', hint = '99 at most: some have the text in force. Publishing a version for all ends trials.';
  end if;
  return null;
end
$$;

comment on function app_private.tg_template_trials__validate() is
  'Refuses trials that leave no user for the text in force.';
--! EndIncluded functions/app_private/tg_template_trials__validate.sql

-- The HTML around messages. A changed layout is a new row, which new versions of texts take:
-- what is sent again looks as it did.
create table app_private.message_layouts (
  id integer generated always as identity,
  name text not null,
  html text not null,
  made_at timestamptz not null default now(),
  made_by text not null default session_user,
  constraint message_layouts_pkey primary key (id),
  constraint message_layouts_name_check check (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  constraint message_layouts_html_check
    check (length(html) <= 50000 and app_hidden.layout_problem(html) is null)
);

create index message_layouts_name_idx on app_private.message_layouts (name, id);

alter table app_private.message_layouts enable row level security;

create policy everyone on app_private.message_layouts
  for select to gw_worker
  using (true);

grant select on app_private.message_layouts to gw_worker;

create trigger _200_append_only before update or delete or truncate
  on app_private.message_layouts
  for each statement execute function app_private.tg__append_only();

comment on table app_private.message_layouts is
  'HTML documents around messages. Append-only; the latest of a name is what new versions of templates take.';
comment on column app_private.message_layouts.html is
  'With {{language}} (of the html element), {{subject}}, {{content}} and {{footer}} (the link to unsubscribe, where there is one).';
comment on constraint message_layouts_html_check on app_private.message_layouts is
  'a layout has {{language}}, {{subject}}, {{content}} and {{footer}}, each once, no scripts or forms, and at most 50,000 characters';

insert into app_private.message_layouts (name, html) values ('standard',
$html$<!doctype html>
<html {{language}}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{subject}}</title>
<style>
body { margin: 0; padding: 24px 12px; background: #f4f4f5; color: #18181b; }
.sheet { max-width: 560px; margin: 0 auto; padding: 24px; background: #ffffff; }
.sheet, .foot { font: 16px/1.5 system-ui, sans-serif; }
.foot { max-width: 560px; margin: 0 auto; padding: 12px 24px; font-size: 13px; }
@media (prefers-color-scheme: dark) {
  body { background: #18181b; color: #f4f4f5; }
  .sheet { background: #27272a; }
  a { color: #93c5fd; }
}
</style>
</head>
<body>
<div class="sheet">
{{content}}
</div>
<div class="foot">
{{footer}}
</div>
</body>
</html>
$html$);

-- Every text that there was. A text that is written again gets no new number.
create table app_private.template_versions (
  message_type text not null,
  locale text not null,
  version integer not null,
  subject text not null,
  body text not null,
  html text,
  html_compiled text generated always as (app_hidden.compile_html(html)) stored,
  layout_id integer,
  made_at timestamptz not null default now(),
  made_by text not null default session_user,
  constraint template_versions_pkey primary key (message_type, locale, version),
  constraint template_versions_layout_id_fkey
    foreign key (layout_id) references app_private.message_layouts,
  constraint template_versions_version_check check (version >= 1),
  constraint template_versions_layout_check check ((html is null) = (layout_id is null))
);

create index template_versions_layout_id_idx_where_html
  on app_private.template_versions (layout_id) where layout_id is not null;

alter table app_private.template_versions enable row level security;

create trigger _200_append_only before update or delete or truncate
  on app_private.template_versions
  for each statement execute function app_private.tg__append_only();

-- A draft too: a trial puts it into force beside another.
create trigger _200_validate before insert on app_private.template_versions
  for each row execute function app_private.tg_message_templates__validate();

comment on column app_private.template_versions.html_compiled is
  'html with names in links marked: see compile_html().';
comment on column app_private.template_versions.layout_id is
  'What stands around html; null when there is none.';
comment on table app_private.template_versions is
  'Every version of every template. Append-only: a message says which version it has.';

-- The texts of messages that are in force.
create table app_private.message_templates (
  message_type text not null,
  locale text not null,
  subject text not null,
  body text not null,
  html text,
  html_compiled text generated always as (app_hidden.compile_html(html)) stored,
  version integer not null default 1,
  previous_version integer,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_templates_pkey primary key (message_type, locale),
  constraint message_templates_message_type_fkey
    foreign key (message_type) references app_private.message_types on delete cascade,
  -- BCP 47: language, script, region.
  constraint message_templates_locale_check
    check (locale ~ '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?$'),
  constraint message_templates_body_check check (length(body) between 1 and 4000),
  constraint message_templates_html_length_check check (length(html) between 1 and 20000),
  constraint message_templates_subject_check
    check (length(subject) between 1 and 200 and subject !~ '[[:cntrl:]]')
);

alter table app_private.message_templates enable row level security;

create trigger _100_timestamps before insert or update on app_private.message_templates
  for each row execute function app_private.tg__timestamps();

create trigger _200_validate before insert or update on app_private.message_templates
  for each row execute function app_private.tg_message_templates__validate();

create trigger _400_version before insert or update on app_private.message_templates
  for each row execute function app_private.tg_message_templates__version();

-- At the end of the transaction, so that a type and its template can be inserted or
-- replaced in any order.
create constraint trigger _300_fallback
  after delete or update of message_type, locale on app_private.message_templates
  deferrable initially deferred
  for each row execute function app_private.tg__fallback('message_type');

create constraint trigger _300_fallback
  after insert or update of type on app_private.message_types
  deferrable initially deferred
  for each row execute function app_private.tg__fallback('type');

create trigger _200_keep before truncate on app_private.message_templates
  for each statement execute function app_private.tg__keep();

comment on table app_private.message_templates is
  'Texts by type and locale, those in force. A changed text is a new version, and what is planned is written anew. Planning fills in {{first_name}}, {{last_name}}, {{full_name}}, {{age}} and {{years}}; {{#age}}…{{/age}} is left out when the year is not known. A weekly type has the names of digest_values() instead of age and years, and is filled in when sent. One that is sent once has date and days, an event the properties of its payload.';

comment on column app_private.message_templates.html is
  'The same as HTML, which mail shows; null: it is made of body. Values are escaped as the place wants it: text, attribute, or a part of a link.';
comment on column app_private.message_templates.locale is
  'BCP 47, such as pt-BR or zh-Hant. A user''s locale takes the longest that it begins with, else English.';
comment on column app_private.message_templates.version is 'The version of this text.';
comment on column app_private.message_templates.previous_version is
  'The version that was in force before; null when there was none.';

-- Versions that some users get instead of the text in force.
create table app_private.template_trials (
  message_type text not null,
  locale text not null,
  version integer not null,
  percent integer not null,
  constraint template_trials_pkey primary key (message_type, locale, version),
  constraint template_trials_version_fkey foreign key (message_type, locale, version)
    references app_private.template_versions,
  constraint template_trials_percent_check check (percent between 1 and 99)
);

alter table app_private.template_trials enable row level security;

create constraint trigger _200_validate
  after insert or update on app_private.template_trials
  for each row execute function app_private.tg_template_trials__validate();

create trigger _900_rerender after insert or update or delete on app_private.template_trials
  for each row execute function app_private.tg_message_templates__rerender();

create trigger _910_audit after insert or update or delete on app_private.template_trials
  for each row execute function app_private.tg__audit('messages.trial');

comment on table app_private.template_trials is
  'Trials: versions that a share of the users get, always the same ones. The text in force is for the others.';
comment on column app_private.template_trials.percent is
  'Of 100 users so many get it. All trials of a text together are for 99 at most.';

-- Versions that are to be in force from an instant on.
create table app_private.template_releases (
  id integer generated always as identity,
  message_type text not null,
  locale text not null,
  version integer not null,
  percent integer not null default 100,
  starts_at timestamptz not null,
  made_at timestamptz not null default now(),
  made_by text not null default session_user,
  done_at timestamptz,
  constraint template_releases_pkey primary key (id),
  constraint template_releases_version_fkey
    foreign key (message_type, locale, version) references app_private.template_versions,
  constraint template_releases_percent_check check (percent between 1 and 100)
);

create index template_releases_version_idx
  on app_private.template_releases (message_type, locale, version);

create index template_releases_starts_at_idx_where_open
  on app_private.template_releases (starts_at) where done_at is null;

alter table app_private.template_releases enable row level security;

comment on table app_private.template_releases is
  'Which version was or will be published when. The planner publishes those whose time has come.';
comment on column app_private.template_releases.percent is
  'Of 100 users so many get it; 100 makes it the text of all.';
comment on column app_private.template_releases.done_at is
  'When it was published; null while it waits.';

--! Included functions/app_private/choose_template.sql
-- The longest locale that the user's begins with, else English. Each user has a number from 0
-- to 99, which another set of trials deals anew, and the trials take these in their order: so
-- a user always gets the same version, and one more trial moves no user of the others.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.choose_template(
  p_message_type text, p_locale text, p_user_id uuid
) returns table (subject text, body text, html text, version integer, locale text)
language sql stable
as $$
  select coalesce(trial.subject, chosen.subject), coalesce(trial.body, chosen.body),
    -- A trial may have none.
    case when trial.version is null then chosen.html_compiled else trial.html_compiled end,
    coalesce(trial.version, chosen.version), chosen.locale
  from (
    select message_templates.*
    from app_private.message_templates
    where message_templates.message_type = p_message_type
      and (p_locale = message_templates.locale
        or p_locale like message_templates.locale || '-%'
        or message_templates.locale = 'en')
    order by p_locale like message_templates.locale || '%' desc,
      pg_catalog.length(message_templates.locale) desc
    limit 1
  ) as chosen
  left join lateral (
    select template_versions.*
    from (
      select trials.version, trials.percent,
        sum(trials.percent) over (order by trials.version) as up_to,
        min(trials.version) over () as first_version
      from app_private.template_trials as trials
      where trials.message_type = chosen.message_type
        and trials.locale = chosen.locale
    ) as shares
    inner join app_private.template_versions
      on template_versions.message_type = chosen.message_type
      and template_versions.locale = chosen.locale
      and template_versions.version = shares.version
    cross join lateral (
      select pg_catalog.abs(pg_catalog.hashtextextended(
        p_user_id::text || shares.first_version, 0) % 100)
    ) as dealt (number)
    where (select exists (select from app_private.template_trials))
      and dealt.number >= shares.up_to - shares.percent
      and dealt.number < shares.up_to
  ) as trial on true
$$;

comment on function app_private.choose_template(text, text, uuid) is
  'The text of a message type for a user''s locale: the longest locale that it begins with, else English; of a trial, the version that the user has. html is compiled: see compile_html().';
--! EndIncluded functions/app_private/choose_template.sql
--! Included functions/app_private/compose_message.sql
-- The year 1604 stands for one that is not known: then there is no age.
create or replace function app_private.compose_message(
  p_message_type text, p_delivery_date date, p_base_date date,
  p_first_name text, p_last_name text, p_locale text, p_payload jsonb default null,
  p_user_id uuid default null
) returns table (subject text, body text, html text, version integer, locale text)
language sql stable
as $$
  select app_hidden.render_template(template.subject, given.names),
    app_hidden.render_template(template.body, given.names),
    case when template.html is not null then app_hidden.render_template(
      template.html, app_hidden.html_values(given.names)) end,
    template.version, template.locale
  from app_private.choose_template(p_message_type, p_locale, p_user_id) as template
  cross join (
    select coalesce(p_payload, '{}') || pg_catalog.jsonb_build_object(
      'first_name', p_first_name,
      'last_name', p_last_name,
      'full_name', pg_catalog.btrim(p_first_name || ' ' || p_last_name),
      'age', years.passed,
      'years', years.passed,
      'date', coalesce(p_payload ->> 'date', (p_base_date - moved.offset_days)::text),
      'days', coalesce(p_payload -> 'days', pg_catalog.to_jsonb(
        pg_catalog.abs(moved.offset_days))))
    from (
      select case when pg_catalog.date_part('year', p_base_date) <> 1604
        then pg_catalog.date_part('year', p_delivery_date)
          - pg_catalog.date_part('year', p_base_date) end
    ) as years (passed)
    left join (
      select message_types.offset_days
      from app_private.message_types
      where message_types.type = p_message_type
        and message_types.repeats = 'once'
    ) as moved on true
  ) as given (names)
$$;

comment on function app_private.compose_message(text, date, date, text, text, text, jsonb, uuid) is
  'Subject and text of a message, in the locale, its language, or English. An event''s payload fills in its template.';
--! EndIncluded functions/app_private/compose_message.sql
--! Included functions/ops/draft_template.sql
create or replace function ops.draft_template(
  p_message_type text, p_locale text, p_subject text, p_body text,
  p_html text default null, p_layout text default 'standard'
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  layout constant integer := (
    select max(message_layouts.id)
    from app_private.message_layouts
    where message_layouts.name = p_layout);
  made integer;
begin
  perform app_private.check_message_type(p_message_type);
  if p_html is not null and layout is null then
    raise exception 'there is no layout %', p_layout
      using errcode = 'GW044', hint = 'app_private.message_layouts has them.';
  end if;
  -- One at a time for a template: the numbers have no gaps.
  perform pg_advisory_xact_lock(
    hashtextextended('template ' || p_message_type || ' ' || p_locale, 0));
  insert into app_private.template_versions (message_type, locale, version, subject, body,
    html, layout_id)
  select p_message_type, p_locale, coalesce(max(template_versions.version), 0) + 1,
    p_subject, p_body, p_html, case when p_html is not null then layout end
  from app_private.template_versions
  where (template_versions.message_type, template_versions.locale)
    = (p_message_type, p_locale)
  returning version into made;
  return made;
end
$$;

comment on function ops.draft_template(text, text, text, text, text, text) is
  'Makes a version of a template that is not in force yet. p_html is what mail shows, in the latest layout of that name. Returns its number.';
--! EndIncluded functions/ops/draft_template.sql
--! Included functions/app_private/put_template_into_force.sql
-- The text is checked as any text of message_templates is. A version that is in force for a
-- share of the users is a trial beside the one in force, and beside other trials.
create or replace function app_private.put_template_into_force(
  p_message_type text, p_locale text, p_version integer, p_percent integer default 100
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted app_private.template_versions;
begin
  perform app_private.check_message_type(p_message_type);
  select *
  into wanted
  from app_private.template_versions
  where (template_versions.message_type, template_versions.locale, template_versions.version)
    = (p_message_type, p_locale, p_version);
  if not found then
    raise exception 'there is no version % of % in %', p_version, p_message_type, p_locale
      using errcode = 'GW044', hint = 'See: gw templates list';
  end if;
  if p_percent is null or p_percent not between 1 and 100 then
    raise exception 'a version is for 1 to 100 percent of the users'
      using errcode = 'GW044';
  end if;
  if p_percent = 100 then
    insert into app_private.message_templates (message_type, locale, subject, body, html,
      version)
    values (p_message_type, p_locale, wanted.subject, wanted.body, wanted.html, p_version)
    on conflict (message_type, locale) do update
    set subject = excluded.subject, body = excluded.body, html = excluded.html,
      version = excluded.version;
    delete from app_private.template_trials
    where (template_trials.message_type, template_trials.locale) = (p_message_type, p_locale);
  else
    if not exists (
      select from app_private.message_templates
      where (message_templates.message_type, message_templates.locale)
        = (p_message_type, p_locale))
    then
      raise exception 'there is no text of % in % beside which to try a version',
        p_message_type, p_locale
        using errcode = 'GW044', hint = 'Publish it for all.';
    end if;
    insert into app_private.template_trials (message_type, locale, version, percent)
    values (p_message_type, p_locale, p_version, p_percent)
    on conflict (message_type, locale, version) do update set percent = excluded.percent;
  end if;
end
$$;

comment on function app_private.put_template_into_force(text, text, integer, integer) is
  'Makes a version the text of all, which ends trials, or the trial of a percentage of the users. Raises GW044 when there is no such version or text, or trials would take all users.';
--! EndIncluded functions/app_private/put_template_into_force.sql
--! Included functions/app_private/publish_due_templates.sql
create or replace function app_private.publish_due_templates(
  p_now timestamptz default now()
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  due app_private.template_releases;
  published integer := 0;
begin
  for due in
    select *
    from app_private.template_releases
    where done_at is null
      and starts_at <= p_now
    order by starts_at, id
    for update skip locked
  loop
    begin
      perform app_private.put_template_into_force(
        due.message_type, due.locale, due.version, due.percent);
      published := published + 1;
    exception when others then
      -- Such as a text that names what its type no longer has.
      perform ops.raise_alert('template-release', due.id::text, 'warning',
        format('version %s of %s in %s could not be published: %s', due.version,
          due.message_type, due.locale, sqlerrm), 'gw templates publish, with another version');
    end;
    update app_private.template_releases set done_at = p_now where id = due.id;
  end loop;
  return published;
end
$$;

comment on function app_private.publish_due_templates(timestamptz) is
  'Publishes the versions whose time has come. Returns how many.';
--! EndIncluded functions/app_private/publish_due_templates.sql

insert into app_private.message_templates (message_type, locale, subject, body) values
  ('BIRTHDAY', 'en', 'Happy birthday, {{first_name}}!',
    'Hey, {{full_name}}, it''s your birthday! Have a great day.'),
  ('ANNIVERSARY', 'en', 'Happy anniversary, {{first_name}}!',
    'Hey, {{full_name}}, happy anniversary!'),
  ('BIRTHDAY', 'de', 'Alles Gute zum Geburtstag, {{first_name}}!',
    'Hallo {{full_name}}, alles Gute zum{{#age}} {{age}}.{{/age}} Geburtstag!'),
  ('ANNIVERSARY', 'de', 'Alles Gute zum Jahrestag, {{first_name}}!',
    'Hallo {{full_name}}, alles Gute zum{{#years}} {{years}}.{{/years}} Jahrestag!'),
  ('BIRTHDAY', 'es', '¡Feliz cumpleaños, {{first_name}}!',
    '¡Hola, {{full_name}}! ¡Feliz cumpleaños{{#age}} número {{age}}{{/age}}!'),
  ('ANNIVERSARY', 'es', '¡Feliz aniversario, {{first_name}}!',
    '¡Hola, {{full_name}}! ¡Feliz aniversario{{#years}} número {{years}}{{/years}}!'),
  ('BIRTHDAY', 'fr', 'Joyeux anniversaire, {{first_name}} !',
    'Bonjour {{full_name}}, joyeux anniversaire{{#age}} pour vos {{age}} ans{{/age}} !'),
  ('ANNIVERSARY', 'fr', 'Bel anniversaire, {{first_name}} !',
    'Bonjour {{full_name}}, bel anniversaire{{#years}} : {{years}} ans déjà{{/years}} !');

-- One line for each figure. A section leaves the line out when the figure has no value.
insert into app_private.message_templates (message_type, locale, subject, body)
select 'DIGEST', words.locale, words.subject,
  words.opening || E'\n' || pg_catalog.string_agg(
    pg_catalog.format(
      case figure.name when 'habits' then E'{{#%1$s}}%2$s {{%1$s}}\n{{/%1$s}}'
      else '{{#%1$s}}%2$s {{%1$s}}{{#previous_%1$s}} (%3$s {{previous_%1$s}})'
        || E'{{/previous_%1$s}}\n{{/%1$s}}' end,
      figure.name, figure.label, words.week_before),
    '' order by figure.number)
from (
  values
    ('en', 'Your week from {{week_start}} to {{week_end}}',
      'Hi {{full_name}}, this was your week:', 'week before:',
      array['Tasks done:', 'Tasks made:', 'Goals worked on:', 'Habits (days in a row):',
        'Reflections:', 'Mood, of 5:']),
    ('de', 'Deine Woche vom {{week_start}} bis {{week_end}}',
      'Hallo {{full_name}}, das war deine Woche:', 'Vorwoche:',
      array['Aufgaben erledigt:', 'Aufgaben angelegt:', 'Ziele verfolgt:',
        'Gewohnheiten (Tage in Folge):', 'Reflexionen:', 'Stimmung, von 5:']),
    ('es', 'Tu semana del {{week_start}} al {{week_end}}',
      'Hola, {{full_name}}: así fue tu semana.', 'semana anterior:',
      array['Tareas hechas:', 'Tareas creadas:', 'Metas en marcha:',
        'Hábitos (días seguidos):', 'Reflexiones:', 'Ánimo, de 5:']),
    ('fr', 'Votre semaine du {{week_start}} au {{week_end}}',
      'Bonjour {{full_name}}, voici votre semaine :', 'semaine précédente :',
      array['Tâches faites :', 'Tâches créées :', 'Objectifs suivis :',
        'Habitudes (jours de suite) :', 'Réflexions :', 'Humeur, sur 5 :'])
) as words (locale, subject, opening, week_before, labels)
cross join lateral unnest(
  array['tasks_done', 'tasks_created', 'goals_touched', 'habits', 'reflections',
    'mood_average'], words.labels) with ordinality as figure (name, label, number)
group by words.locale, words.subject, words.opening, words.week_before;

-- After the texts that everybody has: those are no change.
create trigger _900_rerender after insert or update or delete on app_private.message_templates
  for each row execute function app_private.tg_message_templates__rerender();

create trigger _910_audit after insert or update or delete on app_private.message_templates
  for each row execute function app_private.tg__audit('messages.template');
