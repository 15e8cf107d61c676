-- Made by `npm run gw -- schema --write` from the migrations. Do not edit.

CREATE SCHEMA app_hidden;

ALTER SCHEMA app_hidden OWNER TO gw_owner;

CREATE SCHEMA app_private;

ALTER SCHEMA app_private OWNER TO gw_owner;

CREATE SCHEMA app_public;

ALTER SCHEMA app_public OWNER TO gw_owner;

CREATE SCHEMA ops;

ALTER SCHEMA ops OWNER TO gw_owner;

CREATE TYPE app_public.access_token AS (
	sub uuid,
	sid uuid,
	exp bigint
);

ALTER TYPE app_public.access_token OWNER TO gw_owner;

COMMENT ON TYPE app_public.access_token IS 'A signed JWT. Send it as "Authorization: Bearer …"; it lives 15 minutes.';

COMMENT ON COLUMN app_public.access_token.sub IS 'The user''s id.';

COMMENT ON COLUMN app_public.access_token.sid IS 'The session''s id.';

COMMENT ON COLUMN app_public.access_token.exp IS 'When the token stops working, in seconds since 1970.';

CREATE TYPE app_public.chat_vector_match AS (
	vector_id uuid,
	chat_id uuid,
	message_id uuid,
	content text,
	metadata jsonb,
	similarity double precision,
	created_at timestamp with time zone
);

ALTER TYPE app_public.chat_vector_match OWNER TO gw_owner;

COMMENT ON TYPE app_public.chat_vector_match IS 'A text that was found, and its cosine similarity: 1 the same direction, 0 unrelated.';

COMMENT ON COLUMN app_public.chat_vector_match.vector_id IS 'The vector.';

COMMENT ON COLUMN app_public.chat_vector_match.chat_id IS 'The chat that it belongs to.';

COMMENT ON COLUMN app_public.chat_vector_match.message_id IS 'The message that it was made from; null when it was made from something else.';

COMMENT ON COLUMN app_public.chat_vector_match.content IS 'The text that it stands for.';

COMMENT ON COLUMN app_public.chat_vector_match.metadata IS 'A JSON object kept with it.';

COMMENT ON COLUMN app_public.chat_vector_match.similarity IS 'Cosine similarity to the query, from -1 to 1; 1 means the same direction.';

COMMENT ON COLUMN app_public.chat_vector_match.created_at IS 'When the vector was made.';

CREATE TYPE app_public.insight_week AS (
	week_start date,
	tasks_created integer,
	tasks_completed integer,
	reflections integer,
	average_mood double precision,
	habit_days integer,
	habits_kept integer,
	activity integer
);

ALTER TYPE app_public.insight_week OWNER TO gw_owner;

COMMENT ON TYPE app_public.insight_week IS 'What you did in one week of yours.';

COMMENT ON COLUMN app_public.insight_week.week_start IS '@notNull
The Monday on which the week begins, in your time zone.';

COMMENT ON COLUMN app_public.insight_week.tasks_created IS '@notNull
Tasks made.';

COMMENT ON COLUMN app_public.insight_week.tasks_completed IS '@notNull
Tasks done.';

COMMENT ON COLUMN app_public.insight_week.reflections IS '@notNull
Entries of the journal.';

COMMENT ON COLUMN app_public.insight_week.average_mood IS 'Mean of the entries'' moods, 1 to 5; null without any.';

COMMENT ON COLUMN app_public.insight_week.habit_days IS '@notNull
Days on which a habit was kept, added up over habits.';

COMMENT ON COLUMN app_public.insight_week.habits_kept IS '@notNull
Habits that were kept on at least one day.';

COMMENT ON COLUMN app_public.insight_week.activity IS '@notNull
Entries of the activity: things made, changed, done and deleted.';

CREATE TYPE app_public.session_tokens AS (
	user_id uuid,
	access_token app_public.access_token,
	refresh_token text,
	expires_at timestamp with time zone
);

ALTER TYPE app_public.session_tokens OWNER TO gw_owner;

COMMENT ON TYPE app_public.session_tokens IS 'What a client needs to act as a user.';

COMMENT ON COLUMN app_public.session_tokens.user_id IS 'Who signed in.';

COMMENT ON COLUMN app_public.session_tokens.access_token IS 'A signed JWT for the Authorization header; it lives 15 minutes.';

COMMENT ON COLUMN app_public.session_tokens.refresh_token IS 'Exchange it once for new tokens, with refreshSession, before expires_at.';

COMMENT ON COLUMN app_public.session_tokens.expires_at IS 'When the refresh token stops working, 30 days from now.';

CREATE TYPE app_public.snapshot_difference AS (
	measure text,
	before bigint,
	after bigint,
	change bigint
);

ALTER TYPE app_public.snapshot_difference OWNER TO gw_owner;

COMMENT ON TYPE app_public.snapshot_difference IS 'What became of one count.';

COMMENT ON COLUMN app_public.snapshot_difference.measure IS 'What was counted, such as tasks_done.';

COMMENT ON COLUMN app_public.snapshot_difference.before IS 'The count in the first snapshot.';

COMMENT ON COLUMN app_public.snapshot_difference.after IS 'The count in the second.';

COMMENT ON COLUMN app_public.snapshot_difference.change IS 'The second less the first.';

CREATE FUNCTION app_hidden.current_app_user_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select nullif(pg_catalog.current_setting('app.current_user_id', true), '')::uuid
$$;

ALTER FUNCTION app_hidden.current_app_user_id() OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.current_app_user_id() IS 'The user of this transaction, or null. Every policy compares user_id with it.';

CREATE FUNCTION app_hidden.current_traceparent() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select given.traceparent
  from (values (current_setting('app.traceparent', true))) as given (traceparent)
  where given.traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
$_$;

ALTER FUNCTION app_hidden.current_traceparent() OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.current_traceparent() IS 'The W3C traceparent of the current request, or null; put into the data of its jobs.';

CREATE FUNCTION app_hidden.earlier_instant(p_local timestamp without time zone, p_zone text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    AS $$
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

ALTER FUNCTION app_hidden.earlier_instant(p_local timestamp without time zone, p_zone text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.earlier_instant(p_local timestamp without time zone, p_zone text) IS 'The earlier instant of a local time that occurs twice; the slow half of local_to_instant().';

CREATE FUNCTION app_hidden.local_to_instant(p_local timestamp without time zone, p_zone text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select case
    when ((p_local at time zone p_zone) - interval '26 hours') at time zone p_zone
      = p_local - interval '26 hours'
    then p_local at time zone p_zone
    else app_hidden.earlier_instant(p_local, p_zone)
  end
$$;

ALTER FUNCTION app_hidden.local_to_instant(p_local timestamp without time zone, p_zone text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.local_to_instant(p_local timestamp without time zone, p_zone text) IS 'The instant of a local time in an IANA zone; in a gap the offset before it, in an overlap the earlier instant (TC39 Temporal''s "compatible").';

CREATE FUNCTION app_hidden.month_day(p_date date) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
  select (pg_catalog.date_part('month', p_date) * 100
    + pg_catalog.date_part('day', p_date))::integer
$$;

ALTER FUNCTION app_hidden.month_day(p_date date) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.month_day(p_date date) IS 'Month and day as one number, 229 for February 29: what a yearly date is found by.';

CREATE FUNCTION app_hidden.occurrence_in_year(p_date date, p_year integer, p_leap_day_policy text) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case
    when app_hidden.month_day(p_date) <> 229
      or pg_catalog.date_part('day', pg_catalog.make_date(p_year, 3, 1) - 1) = 29
    then pg_catalog.make_date(p_year, pg_catalog.date_part('month', p_date)::integer,
      pg_catalog.date_part('day', p_date)::integer)
    when p_leap_day_policy = 'feb28' then pg_catalog.make_date(p_year, 2, 28)
    when p_leap_day_policy = 'mar1' then pg_catalog.make_date(p_year, 3, 1)
  end
$$;

ALTER FUNCTION app_hidden.occurrence_in_year(p_date date, p_year integer, p_leap_day_policy text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.occurrence_in_year(p_date date, p_year integer, p_leap_day_policy text) IS 'The day on which a yearly date is celebrated in a year; null for February 29 where the policy is to skip it.';

CREATE FUNCTION app_hidden.quiet_until(p_at timestamp with time zone, p_zone text, p_from time without time zone, p_until time without time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    AS $$
  select case
    when app_hidden.local_to_instant(quiet.until, p_zone) > p_at
    then app_hidden.local_to_instant(quiet.until, p_zone)
    else quiet.until at time zone p_zone
  end
  from (select p_at at time zone p_zone) as here (now)
  cross join lateral (
    select case
      when here.now::time >= p_from and (here.now::time < p_until or p_until < p_from)
      then here.now::date + p_until
        + case when p_until < p_from then interval '1 day' else interval '0' end
      when here.now::time < p_until and p_until < p_from
      then here.now::date + p_until
    end
  ) as quiet (until)
$$;

ALTER FUNCTION app_hidden.quiet_until(p_at timestamp with time zone, p_zone text, p_from time without time zone, p_until time without time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.quiet_until(p_at timestamp with time zone, p_zone text, p_from time without time zone, p_until time without time zone) IS 'When the quiet hours end that hold at an instant; null when there are none then.';

CREATE FUNCTION app_hidden.render_template(p_template text, p_values jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
      else coalesce(p_values ->> btrim(left(piece, name_end - 1)), '')
        || substr(piece, name_end + 2)
    end;
  end loop;
  return rendered;
end
$_$;

ALTER FUNCTION app_hidden.render_template(p_template text, p_values jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.render_template(p_template text, p_values jsonb) IS 'Replaces {{name}} by the value of that key; {{#name}}…{{/name}} stays only where there is one. A value is never read as a template.';

CREATE FUNCTION app_hidden.sync_timezones() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with added as (
    insert into app_hidden.timezones (name)
    select pg_timezone_names.name
    from pg_catalog.pg_timezone_names
    -- Copies and pseudo-zones that some systems ship beside the real ones.
    where pg_timezone_names.name !~ '^(posix|right)/'
      and pg_timezone_names.name not in ('Factory', 'localtime', 'posixrules')
    order by pg_timezone_names.name
    on conflict do nothing
    returning 1
  )
  select count(*)::integer from added
$$;

ALTER FUNCTION app_hidden.sync_timezones() OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.sync_timezones() IS 'Adds zones that a tzdata update brought. Removes none: a user may live there.';

CREATE FUNCTION app_hidden.template_names(p_template text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
    elsif btrim(inside) ~ '^[a-z_]+$' then
      names := names || btrim(inside);
    else
      names := names || format('{{%s}}', inside);
    end if;
  end loop;
  names := names || array(
    select format('{{#%s}}', name) from unnest(opened) as left_open (name));
  return array(select distinct name collate "C" from unnest(names) as found (name) order by 1);
end
$_$;

ALTER FUNCTION app_hidden.template_names(p_template text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.template_names(p_template text) IS 'The names that a template fills in or has sections of. What is neither a name nor one end of a section with two ends stands as it is written, with its braces.';

CREATE FUNCTION app_hidden.to_embedding(numbers double precision[], argument text) RETURNS public.vector
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION app_hidden.to_embedding(numbers double precision[], argument text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_hidden.to_embedding(numbers double precision[], argument text) IS 'Makes an embedding of 1536 numbers, or refuses and names the argument.';

CREATE UNLOGGED TABLE app_private.capture_expectations (
    user_id uuid NOT NULL,
    agg_date date NOT NULL,
    tasks_created integer NOT NULL,
    tasks_completed integer NOT NULL,
    reflections_count integer NOT NULL,
    mood_sum integer NOT NULL,
    mood_count integer NOT NULL
);

ALTER TABLE app_private.capture_expectations OWNER TO gw_owner;

COMMENT ON TABLE app_private.capture_expectations IS 'The aggregates as the tables give them at the position of the last reconcile.';

CREATE FUNCTION app_private.add_to_aggregates(p_changes app_private.capture_expectations[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  with updated as (
    update app_public.user_dashboard_aggregates as aggregates
    set tasks_created = aggregates.tasks_created + changes.tasks_created,
      tasks_completed = aggregates.tasks_completed + changes.tasks_completed,
      reflections_count = aggregates.reflections_count + changes.reflections_count,
      mood_sum = aggregates.mood_sum + changes.mood_sum,
      mood_count = aggregates.mood_count + changes.mood_count,
      last_updated = now()
    from unnest(p_changes) as changes
    where aggregates.user_id = changes.user_id
      and aggregates.agg_date = changes.agg_date
    returning aggregates.user_id, aggregates.agg_date
  ),
  missing as materialized (
    select changes.*
    from unnest(p_changes) as changes
    left join updated on updated.user_id = changes.user_id
      and updated.agg_date = changes.agg_date
    where updated.user_id is null
  ),
  existing as materialized (
    select users.id
    from app_public.users
    where users.id in (select missing.user_id from missing)
    order by users.id
    for key share
  )
  insert into app_public.user_dashboard_aggregates
    (user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count)
  select missing.user_id, missing.agg_date, missing.tasks_created, missing.tasks_completed,
    missing.reflections_count, missing.mood_sum, missing.mood_count
  from missing
  inner join existing on existing.id = missing.user_id;

  delete from app_public.user_dashboard_aggregates as aggregates
  using unnest(p_changes) as changes
  where aggregates.user_id = changes.user_id
    and aggregates.agg_date = changes.agg_date
    and (aggregates.tasks_created, aggregates.tasks_completed, aggregates.reflections_count,
      aggregates.mood_sum, aggregates.mood_count) = (0, 0, 0, 0, 0);
end
$$;

ALTER FUNCTION app_private.add_to_aggregates(p_changes app_private.capture_expectations[]) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.add_to_aggregates(p_changes app_private.capture_expectations[]) IS 'Adds differences to the aggregates of users who exist.';

CREATE FUNCTION app_private.analyze_hot_tables() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  analyze app_public.tasks, app_public.user_activity, app_public.reflections;
end
$$;

ALTER FUNCTION app_private.analyze_hot_tables() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.analyze_hot_tables() IS 'Refreshes the planner''s statistics of the tables that change most.';

CREATE FUNCTION app_private.apply_changes(p_slot text, p_from pg_lsn, p_to pg_lsn, p_commit_lsn pg_lsn, p_committed_at timestamp with time zone, p_changes jsonb) RETURNS pg_lsn
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  capture ops.change_capture;
  changes app_private.capture_expectations[];
begin
  select *
  into capture
  from ops.change_capture
  where slot_name = p_slot
  for update;
  if capture.state is not distinct from 'snapshotting'
    or capture.applied_lsn is distinct from p_from
  then
    raise exception 'the aggregates are at % and not at %', capture.applied_lsn, p_from
      using errcode = 'GW060', hint = 'Another consumer has been here: start again from there.';
  end if;
  if p_commit_lsn >= capture.hold_lsn then
    return capture.hold_lsn;
  end if;

  with differences as materialized (
    select truncated.*
    from jsonb_array_elements_text(p_changes -> 'truncated') as objects (object)
    cross join lateral app_private.capture_truncation(objects.object) as truncated
    union all
    select shifted.*, 0, 0, 0
    from app_private.capture_users(p_changes -> 'users', p_changes -> 'users_gone') as shifted
    union all
    select tasks.*, 0, 0, 0
    from app_private.capture_tasks(p_changes -> 'tasks', p_changes -> 'tasks_gone') as tasks
    union all
    select user_id, agg_date, 0, 0, reflections_count, mood_sum, mood_count
    from app_private.capture_reflections(
      p_changes -> 'reflections', p_changes -> 'reflections_gone')
  ),
  sums as (
    select user_id, agg_date, sum(tasks_created) as tasks_created,
      sum(tasks_completed) as tasks_completed, sum(reflections_count) as reflections_count,
      sum(mood_sum) as mood_sum, sum(mood_count) as mood_count
    from differences
    group by user_id, agg_date
  )
  select array_agg(row(user_id, agg_date, tasks_created, tasks_completed, reflections_count,
    mood_sum, mood_count)::app_private.capture_expectations order by user_id, agg_date)
  into changes
  from sums
  where (tasks_created, tasks_completed, reflections_count, mood_sum, mood_count)
    <> (0, 0, 0, 0, 0);

  if changes is not null then
    perform app_private.add_to_aggregates(changes);
  end if;

  if p_to is not null then
    update ops.change_capture
    set applied_lsn = p_to,
      applied_at = clock_timestamp(),
      committed_at = coalesce(p_committed_at, capture.committed_at),
      state = 'running',
      error = null
    where slot_name = p_slot;
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.apply_changes(p_slot text, p_from pg_lsn, p_to pg_lsn, p_commit_lsn pg_lsn, p_committed_at timestamp with time zone, p_changes jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.apply_changes(p_slot text, p_from pg_lsn, p_to pg_lsn, p_commit_lsn pg_lsn, p_committed_at timestamp with time zone, p_changes jsonb) IS 'Applies changes of whole transactions and stores how far they reach, or does nothing and returns the position at which to wait.';

CREATE FUNCTION app_private.apply_subscription_event(p_event jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $_$
declare
  -- In the order in which they happen: that of two events of one second.
  kinds constant text[] := array['customer.subscription.created',
    'customer.subscription.updated', 'customer.subscription.deleted'];
  statuses constant text[] := array['active', 'canceled', 'past_due', 'trialing',
    'incomplete', 'incomplete_expired', 'unpaid', 'paused'];
  kind integer := array_position(kinds, p_event ->> 'type');
  object jsonb := p_event #> '{data,object}';
  item jsonb := object #> '{items,data,0}';
  is_deleted boolean;
  given_id text := p_event ->> 'id';
  given_subscription text := object ->> 'id';
  given_customer text;
  given_user uuid;
  given_tier text;
  given_status text;
  given_at timestamptz;
  given_start timestamptz;
  given_end timestamptz;
  is_given_period boolean;
  current_row app_public.subscriptions;
  refusal text;
begin
  if jsonb_typeof(p_event) is distinct from 'object'
    or given_id is null
    or p_event ->> 'type' is null
  then
    raise exception 'this is not an event of Stripe' using errcode = 'GW022';
  end if;
  -- Other events are not kept: they may hold personal data, and nothing needs them.
  if kind is null then
    return 'ignored';
  end if;
  -- The customer is an id, or the whole customer where the endpoint expands it.
  given_customer := case jsonb_typeof(object -> 'customer')
    when 'object' then object #>> '{customer,id}'
    else object ->> 'customer'
  end;
  is_deleted := kind = 3;
  if given_id !~ '^evt_[A-Za-z0-9_]{1,250}$'
    or jsonb_typeof(p_event -> 'created') is distinct from 'number'
    or given_subscription ~ '^sub_[A-Za-z0-9]{1,250}$' is not true
    or given_customer ~ '^cus_[A-Za-z0-9]{1,250}$' is not true
  then
    raise exception 'this is not an event about a subscription' using errcode = 'GW022';
  end if;
  given_user := case
    when object #>> '{metadata,user_id}' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
      then (object #>> '{metadata,user_id}')::uuid
  end;
  given_at := to_timestamp((p_event ->> 'created')::double precision);
  -- In Stripe's API since 2025-03-31 a period belongs to an item, before to the whole.
  given_start := to_timestamp(coalesce(item ->> 'current_period_start',
    object ->> 'current_period_start')::double precision);
  given_end := to_timestamp(coalesce(item ->> 'current_period_end',
    object ->> 'current_period_end')::double precision);
  given_status := case when is_deleted then 'canceled' else object ->> 'status' end;
  -- The price first: a change of plan changes the price, not the metadata.
  given_tier := case when is_deleted then 'free' else (
    select tier_limits.tier
    from unnest(array[
      item #>> '{price,metadata,tier}',
      split_part(item #>> '{price,lookup_key}', '_', 1),
      object #>> '{metadata,tier}'
    ]) with ordinality as candidate (tier, place)
    inner join app_private.tier_limits on tier_limits.tier = candidate.tier
    order by candidate.place
    limit 1
  ) end;

  -- A second delivery waits here for the first. One that was not applied is tried again.
  insert into app_private.stripe_events
    (event_id, type, stripe_subscription_id, occurred_at, payload, reason)
  values (given_id, kinds[kind], given_subscription, given_at, p_event, 'not tried yet')
  on conflict (event_id) do update
  set reason = 'not tried yet'
  where not stripe_events.applied
    and stripe_events.reason like 'unknown %';
  if not found then
    return 'duplicate';
  end if;

  -- Locked, so that two events of one customer are compared one after the other; also the
  -- first two, which both find the user before there is a customer.
  select subscriptions.* into current_row
  from app_public.subscriptions
  where subscriptions.stripe_customer_id = given_customer
    or subscriptions.user_id = given_user
  order by subscriptions.stripe_customer_id = given_customer desc nulls last
  limit 1
  for no key update;

  refusal := case
    when current_row.user_id is null
      or current_row.stripe_customer_id <> given_customer
      then 'unknown customer ' || given_customer
    when exists (
      select
      from app_private.stripe_events as other
      where other.applied
        and (
          other.stripe_subscription_id = given_subscription
            and (other.occurred_at, array_position(kinds, other.type)) > (given_at, kind)
          or other.stripe_subscription_id = current_row.stripe_subscription_id
            and other.occurred_at > given_at
        )
    ) then 'stale'
    -- What becomes of a former subscription, or of one that was never paid, does not
    -- touch the one that is in use.
    when current_row.stripe_subscription_id <> given_subscription
      and current_row.status not in ('canceled', 'incomplete_expired')
      and (is_deleted or given_status not in ('active', 'trialing'))
      then 'another subscription is in use: ' || current_row.stripe_subscription_id
    when given_tier is null then 'unknown tier'
    when given_status = any (statuses) is not true
      then 'unknown status ' || coalesce(given_status, '(none)')
  end;
  if refusal is not null then
    update app_private.stripe_events
    set reason = refusal
    where stripe_events.event_id = given_id;
    return case refusal when 'stale' then 'stale' else 'ignored' end;
  end if;

  -- A period counts when it is paid for: else an unpaid checkout would set usage to 0.
  -- One with an earlier start was sent before consume_usage() began the current one.
  is_given_period := given_status in ('active', 'trialing', 'past_due')
    and given_start >= current_row.current_period_start
    and given_start < given_end;
  update app_public.subscriptions
  set tier = given_tier,
    status = given_status,
    stripe_customer_id = given_customer,
    stripe_subscription_id = given_subscription,
    usage_count = case
      -- With the same start it is the one that consume_usage() began already.
      when is_given_period and given_start > current_row.current_period_start then 0
      else subscriptions.usage_count
    end,
    current_period_start = case
      when is_given_period then given_start
      else subscriptions.current_period_start
    end,
    current_period_end = case
      when is_given_period then given_end
      -- The rest of a paid year is not a period of the free tier.
      when is_deleted then least(subscriptions.current_period_end,
        greatest(given_at, subscriptions.current_period_start) + interval '1 month')
      else subscriptions.current_period_end
    end
  where subscriptions.user_id = current_row.user_id;
  update app_private.stripe_events
  set applied = true, reason = null
  where stripe_events.event_id = given_id;
  return 'applied';
end
$_$;

ALTER FUNCTION app_private.apply_subscription_event(p_event jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.apply_subscription_event(p_event jsonb) IS 'Applies an event of Stripe once. Returns applied, duplicate, stale or ignored. Events that waited for their customer: select app_private.apply_subscription_event(payload) from app_private.stripe_events where not applied order by occurred_at.';

CREATE FUNCTION app_private.backfill_digests(p_user_ids uuid[], p_weeks integer, p_recompute boolean DEFAULT false) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  written integer;
begin
  if p_weeks is null or p_weeks not between 1 and 52 then
    raise exception 'weeks must be 1 to 52'
      using errcode = 'invalid_parameter_value';
  end if;

  with wanted as (
    select users.id as user_id, week.start
    from app_public.users
    cross join lateral (
      select date_trunc('week', now() at time zone users.timezone)::date - 7 * number
      from generate_series(1, p_weeks) as number
    ) as week (start)
    where users.id = any (p_user_ids)
      and users.deleted_at is null
      and week.start + 6 >= (users.created_at at time zone users.timezone)::date
      and (p_recompute or not exists (
        select from app_public.digests
        where digests.user_id = users.id
          and digests.week_start = week.start
      ))
  ),
  made as (
    insert into app_public.digests (user_id, week_start, content)
    select contents.user_id, contents.week_start, contents.content
    from (
      select array_agg(user_id) as users, array_agg(start) as weeks from wanted
    ) as given
    cross join lateral app_private.digest_contents(given.users, given.weeks) as contents
    order by contents.user_id, contents.week_start
    on conflict (user_id, week_start) do update
    set content = excluded.content
    where p_recompute
      and digests.content <> excluded.content
    returning 1
  )
  select count(*) into written from made;
  return written;
end
$$;

ALTER FUNCTION app_private.backfill_digests(p_user_ids uuid[], p_weeks integer, p_recompute boolean) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.backfill_digests(p_user_ids uuid[], p_weeks integer, p_recompute boolean) IS 'Makes the digests of these users'' latest complete weeks, 1 to 52, without messages. Those that are there stay, unless they are to be recomputed. Returns how many were written.';

CREATE FUNCTION app_private.begin_capture_snapshot(p_slot text, p_plugin text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  delete from ops.change_capture where slot_name <> p_slot;
  insert into ops.change_capture (slot_name, plugin, state)
  values (p_slot, p_plugin, 'snapshotting')
  on conflict (slot_name) do update
  set plugin = excluded.plugin,
    state = excluded.state,
    applied_lsn = null,
    hold_lsn = null,
    error = null;
  truncate app_private.captured_users, app_private.captured_tasks,
    app_private.captured_reflections;
end
$$;

ALTER FUNCTION app_private.begin_capture_snapshot(p_slot text, p_plugin text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.begin_capture_snapshot(p_slot text, p_plugin text) IS 'Forgets what was captured, to count everything anew for this slot.';

CREATE FUNCTION app_private.cached_insights(p_user_id uuid, p_weeks integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  lock_class constant integer := hashtext('app_private.insights');
  lock_key constant integer := app_private.insights_lock(p_user_id);
  time_zone text;
  today date;
  wanted_key text;
  result jsonb;
  may_keep boolean;
  started timestamptz;
begin
  select users.timezone, (now() at time zone users.timezone)::date
  into time_zone, today
  from app_public.users
  where users.id = p_user_id;
  if time_zone is null then
    return '[]'::jsonb;
  end if;
  wanted_key := concat_ws(':', 'insights', p_user_id, p_weeks, time_zone, today);

  result := app_private.query_cache_get(wanted_key);
  if result is not null then
    return result;
  end if;

  -- Nothing can be kept by a read-only transaction, nor one whose view of the data is
  -- older than the lock would be.
  may_keep := not current_setting('transaction_read_only')::boolean
    and current_setting('transaction_isolation') = 'read committed';
  if may_keep then
    may_keep := pg_try_advisory_xact_lock(lock_class, lock_key);
    -- Held by whom? If it can be shared, by those who change rows: then what is computed
    -- now is right for now and not kept. If not, somebody computes: wait for that.
    if not may_keep and not pg_try_advisory_xact_lock_shared(lock_class, lock_key) then
      perform pg_advisory_xact_lock_shared(lock_class, lock_key);
    end if;
    -- Each statement of this function sees what was committed before it.
    select query_cache.cached_data into result
    from app_private.query_cache
    where query_cache.cache_key_hash = app_private.sha256_hex(wanted_key)
      and query_cache.user_id = p_user_id
      and query_cache.expires_at > clock_timestamp();
    if result is not null then
      return result;
    end if;
  end if;

  started := clock_timestamp();
  result := app_private.compute_insights(p_user_id, p_weeks, time_zone, today);
  if may_keep then
    perform app_private.query_cache_put(wanted_key, result, interval '1 hour',
      (extract(epoch from clock_timestamp() - started) * 1000)::integer,
      array['insights', 'insights:' || p_user_id], 'insights');
  end if;
  return result;
end
$$;

ALTER FUNCTION app_private.cached_insights(p_user_id uuid, p_weeks integer) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.cached_insights(p_user_id uuid, p_weeks integer) IS 'The weeks of a user up to today: from the cache, or computed and kept for an hour.';

CREATE FUNCTION app_private.capture_differences() RETURNS TABLE(user_id uuid, agg_date date, measure text, expected integer, found integer)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select user_id, agg_date, measures.name, measures.expected, measures.found
  from app_private.capture_expectations as expected
  full join app_public.user_dashboard_aggregates as found using (user_id, agg_date)
  cross join lateral (values
    ('tasks_created', expected.tasks_created, found.tasks_created),
    ('tasks_completed', expected.tasks_completed, found.tasks_completed),
    ('reflections_count', expected.reflections_count, found.reflections_count),
    ('mood_sum', expected.mood_sum, found.mood_sum),
    ('mood_count', expected.mood_count, found.mood_count)
  ) as measures (name, expected, found)
  where coalesce(measures.expected, 0) <> coalesce(measures.found, 0)
    and exists (select from app_public.users where users.id = user_id)
  order by 1, 2, 3
$$;

ALTER FUNCTION app_private.capture_differences() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.capture_differences() IS 'Where the aggregates are not what expect_aggregates() has counted.';

CREATE FUNCTION app_private.capture_heartbeat(p_slot text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  signal_id bigint;
begin
  insert into app_private.capture_signals (kind, object)
  values ('heartbeat', p_slot)
  returning id into signal_id;
  delete from app_private.capture_signals where id = signal_id;
  return coalesce((
    select resnapshot_requested from ops.change_capture where slot_name = p_slot
  ), false);
end
$$;

ALTER FUNCTION app_private.capture_heartbeat(p_slot text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.capture_heartbeat(p_slot text) IS 'Sends a heartbeat through the log. Returns whether everything is to be counted anew.';

CREATE FUNCTION app_private.capture_reflections(p_reflections jsonb, p_gone jsonb) RETURNS TABLE(user_id uuid, agg_date date, reflections_count integer, mood_sum integer, mood_count integer)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with incoming as materialized (
    select reflections.*
    from jsonb_to_recordset(p_reflections) as reflections (
      user_id uuid, id uuid, reflection_date date, mood_score smallint)
  ),
  before as materialized (
    select captured_reflections.*
    from incoming
    inner join app_private.captured_reflections
      on captured_reflections.user_id = incoming.user_id
      and captured_reflections.id = incoming.id
  ),
  written as (
    insert into app_private.captured_reflections as captured
      (user_id, id, reflection_date, mood_score)
    select user_id, id, reflection_date, mood_score
    from incoming
    on conflict (user_id, id) do update
    set reflection_date = excluded.reflection_date,
      mood_score = excluded.mood_score
    where (captured.reflection_date, captured.mood_score)
      is distinct from (excluded.reflection_date, excluded.mood_score)
  ),
  removed as (
    delete from app_private.captured_reflections
    using jsonb_to_recordset(p_gone) as gone (user_id uuid, id uuid)
    where captured_reflections.user_id = gone.user_id
      and captured_reflections.id = gone.id
    returning captured_reflections.*
  ),
  counted (factor, user_id, agg_date, mood_score) as (
    select 1, user_id, reflection_date, mood_score from incoming
    union all
    select -1, user_id, reflection_date, mood_score from before
    union all
    select -1, user_id, reflection_date, mood_score from removed
  )
  select user_id, agg_date, factor, factor * coalesce(mood_score, 0),
    case when mood_score is null then 0 else factor end
  from counted
$$;

ALTER FUNCTION app_private.capture_reflections(p_reflections jsonb, p_gone jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.capture_reflections(p_reflections jsonb, p_gone jsonb) IS 'Takes reflections'' changes in, and returns what becomes of the aggregates.';

CREATE FUNCTION app_private.capture_tasks(p_tasks jsonb, p_gone jsonb) RETURNS TABLE(user_id uuid, agg_date date, tasks_created integer, tasks_completed integer)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with incoming as materialized (
    select tasks.user_id, tasks.id, tasks.created_at, tasks.completed_at,
      (tasks.created_at at time zone zone.name)::date as created_on,
      (tasks.completed_at at time zone zone.name)::date as completed_on
    from jsonb_to_recordset(p_tasks) as tasks (
      user_id uuid, id uuid, created_at timestamptz, completed_at timestamptz)
    left join app_private.captured_users on captured_users.user_id = tasks.user_id
    -- Within a transaction a task may stand before its user, whose zone then follows.
    cross join lateral (values (coalesce(captured_users.timezone, 'UTC'))) as zone (name)
  ),
  before as materialized (
    select captured_tasks.user_id, captured_tasks.created_on, captured_tasks.completed_on
    from incoming
    inner join app_private.captured_tasks on captured_tasks.user_id = incoming.user_id
      and captured_tasks.id = incoming.id
  ),
  written as (
    insert into app_private.captured_tasks as captured
      (user_id, id, created_at, completed_at, created_on, completed_on)
    select user_id, id, created_at, completed_at, created_on, completed_on
    from incoming
    on conflict (user_id, id) do update
    set created_at = excluded.created_at,
      completed_at = excluded.completed_at,
      created_on = excluded.created_on,
      completed_on = excluded.completed_on
    -- Most updates are of a title: nothing to write.
    where (captured.created_at, captured.completed_at, captured.created_on,
        captured.completed_on)
      is distinct from (excluded.created_at, excluded.completed_at, excluded.created_on,
        excluded.completed_on)
  ),
  removed as (
    delete from app_private.captured_tasks
    using jsonb_to_recordset(p_gone) as gone (user_id uuid, id uuid)
    where captured_tasks.user_id = gone.user_id
      and captured_tasks.id = gone.id
    returning captured_tasks.user_id, captured_tasks.created_on, captured_tasks.completed_on
  )
  select user_id, created_on, 1, 0 from incoming
  union all
  select user_id, completed_on, 0, 1 from incoming where completed_on is not null
  union all
  select user_id, created_on, -1, 0 from before
  union all
  select user_id, completed_on, 0, -1 from before where completed_on is not null
  union all
  select user_id, created_on, -1, 0 from removed
  union all
  select user_id, completed_on, 0, -1 from removed where completed_on is not null
$$;

ALTER FUNCTION app_private.capture_tasks(p_tasks jsonb, p_gone jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.capture_tasks(p_tasks jsonb, p_gone jsonb) IS 'Takes tasks'' changes in, and returns what becomes of the aggregates.';

CREATE FUNCTION app_private.capture_truncation(p_object text) RETURNS TABLE(user_id uuid, agg_date date, tasks_created integer, tasks_completed integer, reflections_count integer, mood_sum integer, mood_count integer)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  bounds text := 'true';
begin
  if p_object = 'app_public.users' then
    delete from app_private.captured_users;
  elsif p_object = 'app_public.reflections' then
    return query
    with removed as (
      delete from app_private.captured_reflections returning captured_reflections.*
    )
    select removed.user_id, removed.reflection_date, 0, 0, -1,
      -coalesce(removed.mood_score, 0)::integer, -num_nonnulls(removed.mood_score)
    from removed;
  else
    if p_object <> 'app_public.tasks' then
      select pg_get_partition_constraintdef(tree.relid)
      into bounds
      from pg_partition_tree('app_public.tasks') as tree
      where tree.relid = to_regclass(p_object)
        and tree.level > 0;
      if bounds is null then
        raise exception '% was truncated and is no partition of tasks any more', p_object
          using errcode = 'GW061', hint = 'Count everything anew: gw cdc resnapshot';
      end if;
    end if;
    return query execute format(
      'with removed as (delete from app_private.captured_tasks where %s returning *)'
      ' select user_id, created_on, -1, 0, 0, 0, 0 from removed'
      ' union all'
      ' select user_id, completed_on, 0, -1, 0, 0, 0 from removed'
      ' where completed_on is not null', bounds);
  end if;
end
$$;

ALTER FUNCTION app_private.capture_truncation(p_object text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.capture_truncation(p_object text) IS 'Forgets the rows of a truncated table or partition, and returns what becomes of the aggregates.';

CREATE FUNCTION app_private.capture_users(p_users jsonb, p_gone jsonb) RETURNS TABLE(user_id uuid, agg_date date, tasks_created integer, tasks_completed integer)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  moved_users jsonb;
begin
  with incoming as (
    select users.id, users.timezone
    from jsonb_to_recordset(p_users) as users (id uuid, timezone text)
    left join app_private.captured_users on captured_users.user_id = users.id
    where captured_users.timezone is distinct from users.timezone
  ),
  written as (
    insert into app_private.captured_users (user_id, timezone)
    select id, timezone
    from incoming
    on conflict (user_id) do update
    set timezone = excluded.timezone
  )
  select jsonb_agg(jsonb_build_object('id', id, 'timezone', timezone))
  into moved_users
  from incoming;

  if moved_users is not null then
    return query
    with shifted as materialized (
      select captured_tasks.user_id, captured_tasks.id,
        captured_tasks.created_on as created_before,
        captured_tasks.completed_on as completed_before,
        (captured_tasks.created_at at time zone moved.timezone)::date as created_now,
        (captured_tasks.completed_at at time zone moved.timezone)::date as completed_now
      from jsonb_to_recordset(moved_users) as moved (id uuid, timezone text)
      inner join app_private.captured_tasks on captured_tasks.user_id = moved.id
    ),
    written as (
      update app_private.captured_tasks
      set created_on = shifted.created_now,
        completed_on = shifted.completed_now
      from shifted
      where captured_tasks.user_id = shifted.user_id
        and captured_tasks.id = shifted.id
        and (shifted.created_now, shifted.completed_now)
          is distinct from (shifted.created_before, shifted.completed_before)
    )
    select shifted.user_id, days.agg_date, days.tasks_created, days.tasks_completed
    from shifted
    cross join lateral (values
      (shifted.created_before, -1, 0), (shifted.created_now, 1, 0),
      (shifted.completed_before, 0, -1), (shifted.completed_now, 0, 1)
    ) as days (agg_date, tasks_created, tasks_completed)
    where days.agg_date is not null;
  end if;

  -- The deletions of their tasks and reflections come by themselves, by cascade.
  if p_gone is not null then
    delete from app_private.captured_users
    where captured_users.user_id in (
      select gone.id from jsonb_to_recordset(p_gone) as gone (id uuid));
  end if;
end
$$;

ALTER FUNCTION app_private.capture_users(p_users jsonb, p_gone jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.capture_users(p_users jsonb, p_gone jsonb) IS 'Takes users'' changes in, and returns what becomes of the aggregates.';

CREATE FUNCTION app_private.check_simulated_changes(p_changes jsonb) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  name text;
  value text;
  rule text;
begin
  for name, value in select * from jsonb_each_text(p_changes) loop
    rule := case
      when name = 'timezone' then 'a time zone that this database knows'
      when name in ('birthday_date', 'anniversary_date') then 'a date, or empty'
      when name = 'send_time' then 'a time of day such as 09:00'
      when name = 'leap_day_policy' then 'feb28, mar1 or skip'
      when name in ('birthday_messages', 'anniversary_messages', 'weekly_digest')
      then 'true or false'
    end;
    if rule is null then
      raise exception 'a change of % cannot be simulated', name
        using errcode = 'GW040', hint = 'Only one of timezone, birthday_date, '
          'anniversary_date, send_time, leap_day_policy, birthday_messages, '
          'anniversary_messages, weekly_digest.';
    end if;
    begin
      if (case
        when name in ('birthday_date', 'anniversary_date')
        then value is null or value::date between date '1604-01-01' and date '2200-01-01'
        when value is null then false
        when name = 'timezone'
        then exists (select from app_hidden.timezones where timezones.name = value)
        when name = 'send_time' then value::time < time '24:00'
        when name = 'leap_day_policy' then value in ('feb28', 'mar1', 'skip')
        else value::boolean is not null
      end) then
        continue;
      end if;
    exception when data_exception then
      null;
    end;
    raise exception '% cannot be %', name, coalesce('"' || value || '"', 'empty')
      using errcode = 'GW040', hint = 'It is ' || rule || '.';
  end loop;
end
$$;

ALTER FUNCTION app_private.check_simulated_changes(p_changes jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.check_simulated_changes(p_changes jsonb) IS 'Refuses changes of a user that ops.simulate_messages() cannot make.';

CREATE FUNCTION app_private.claim_messages(p_jobs jsonb, p_channel text) RETURNS TABLE(job_id uuid, message_id uuid, user_id uuid, scheduled_send_time text, message_type text, delivery_date date, email text, full_name text, message_subject text, message_content text, idempotency_key text, attempt integer, was_attempted boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
declare
  empty_digests uuid[];
  returned integer;
begin
  -- A job that does not say its message's type may be a digest's.
  begin
    empty_digests := coalesce((
      select app_private.compose_digests(array_agg(job.user_id), array_agg(job.message_id),
        array_agg(job.scheduled_send_time))
      from jsonb_to_recordset(p_jobs) as job (
        user_id uuid, message_id uuid, scheduled_send_time timestamptz, message_type text)
      where coalesce(job.message_type, 'DIGEST') = 'DIGEST'
      having count(*) > 0
    ), array[]::uuid[]);
  exception when others then
    empty_digests := app_private.compose_digests_singly(p_jobs, p_channel);
  end;

  return query
  with given as materialized (
    select *
    from jsonb_to_recordset(p_jobs) as given (
      job_id uuid, user_id uuid, message_id uuid, scheduled_send_time timestamptz)
  ),
  found as (
    select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.status, message_logs.job_id, message_logs.retry_count,
      message_logs.attempted_at, message_logs.message_type, message_logs.delivery_date,
      -- A worker died in the call: what became of it is not known.
      case when message_logs.status = 'SENDING'
        then least(message_logs.uncertain_since, message_logs.attempted_at)
        else message_logs.uncertain_since end as uncertain_since,
      coalesce(message_logs.send_until,
        message_logs.scheduled_send_time + settings.late_window) as send_until
    from given
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
      and message_logs.job_id = given.job_id
    inner join app_private.message_settings as settings on settings.only_row
    where message_logs.status in ('QUEUED', 'SENDING', 'RETRYING')
  ),
  -- The same rules as those of the planner, asked again at the last moment.
  decided as materialized (
    select found.*, quiet.until as quiet_until, rules.user_id is not null as is_wanted,
      rules.email, btrim(rules.first_name || ' ' || rules.last_name) as full_name,
      case
        when rules.user_id is null then 'CANCELLED'
        when rules.message_type <> 'DIGEST'
          and found.delivery_date is distinct from app_hidden.occurrence_in_year(
            rules.base_date, extract(year from found.delivery_date)::integer,
            rules.leap_day_policy) then 'CANCELLED'
        when found.id = any (empty_digests) then 'CANCELLED'
        when found.uncertain_since < now() - channel.key_lifetime then 'UNKNOWN'
        when found.retry_count >= channel.max_attempts then 'UNKNOWN'
        when now() > found.send_until then
          case when found.uncertain_since is null then 'EXPIRED' else 'UNKNOWN' end
        when quiet.until is not null then 'QUEUED'
        else 'SENDING'
      end as next_status
    from found
    inner join app_private.delivery_channels as channel on channel.name = p_channel
    left join app_private.message_rules as rules
      on rules.user_id = found.user_id
      and rules.message_type = found.message_type
    cross join lateral (
      select app_hidden.quiet_until(
        now(), rules.timezone, rules.quiet_from, rules.quiet_until)
    ) as quiet (until)
    -- Whoever else changes many of these rows takes them in this order too.
    order by found.user_id, found.id
  ),
  written as (
    update app_public.message_logs
    set status = decided.next_status,
      uncertain_since = decided.uncertain_since,
      attempted_at = case when decided.next_status = 'SENDING'
        then clock_timestamp() else message_logs.attempted_at end,
      -- A worker that died leaves an attempt that nobody else writes down.
      retry_count = message_logs.retry_count + (decided.status = 'SENDING')::integer,
      attempts = case when decided.status = 'SENDING'
        then coalesce(message_logs.attempts, '[]') || jsonb_build_array(jsonb_build_object(
          'started_at', decided.attempted_at, 'error', 'the worker died in the call'))
        else message_logs.attempts end,
      recipient_email = case when decided.next_status = 'SENDING' then coalesce(
        message_logs.recipient_email, decided.email) else message_logs.recipient_email end,
      recipient_name = case when decided.next_status = 'SENDING' then coalesce(
        message_logs.recipient_name, decided.full_name) else message_logs.recipient_name end,
      error_message = case decided.next_status
        when 'SENDING' then message_logs.error_message
        when 'QUEUED' then 'held until '
          || to_char(decided.quiet_until, 'YYYY-MM-DD HH24:MI "UTC"')
          || ': these are the user''s quiet hours'
        when 'UNKNOWN' then concat_ws('; ', message_logs.error_message,
          'an attempt of ' || to_char(decided.uncertain_since, 'YYYY-MM-DD HH24:MI "UTC"')
          || ' may have been delivered, and it is too late to repeat it')
        when 'EXPIRED' then 'not sent until '
          || to_char(decided.send_until, 'YYYY-MM-DD HH24:MI "UTC"')
          || ', the end of its late window'
        else case
          when decided.id = any (empty_digests) then 'nothing happened in that week'
          when decided.is_wanted then 'the date was changed'
          when (
            select users.deleted_at from app_public.users where users.id = decided.user_id
          ) is not null then 'the account was closed'
          else 'the user does not want this message any more'
        end
      end
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      -- Asked again of what somebody has just changed.
      and message_logs.status = decided.status
      and message_logs.job_id = decided.job_id
    returning message_logs.*
  ),
  finished as (
    delete from pgboss.job
    using given
    where job.name = 'message-send'
      and job.id = given.job_id
      and not exists (
        select from decided
        where decided.job_id = given.job_id
          and decided.next_status in ('SENDING', 'QUEUED')
      )
  ),
  held as (
    update pgboss.job
    set state = 'retry', start_after = decided.quiet_until, heartbeat_on = null
    from decided
    where job.name = 'message-send'
      and job.id = decided.job_id
      and decided.next_status = 'QUEUED'
  ),
  -- A cancelled occasion can come back, see replan_messages(). A week that is over and
  -- empty does not.
  released as (
    delete from app_private.message_ledger
    using written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status = 'CANCELLED'
      and written.id <> all (empty_digests)
  )
  select written.job_id, written.id, written.user_id,
    to_json(written.scheduled_send_time) #>> '{}', written.message_type,
    written.delivery_date, written.recipient_email, written.recipient_name,
    written.message_subject, written.message_content, written.idempotency_key,
    written.retry_count,
    written.uncertain_since is not null or written.attempts is not null
  from written
  where written.status = 'SENDING';

  get diagnostics returned = row_count;
  if returned < jsonb_array_length(p_jobs) and exists (
    select
    from jsonb_to_recordset(p_jobs)
      as given (user_id uuid, message_id uuid, scheduled_send_time timestamptz)
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
    where message_logs.status = 'UNKNOWN'
  ) then
    -- The health check of that name says more, and when it is over.
    perform ops.raise_alert('health-unknown-deliveries', 'message-send', 'warning',
      'messages may or may not have been delivered',
      'gw messages list --status UNKNOWN; then gw messages resolve or redrive');
  end if;
end
$$;

ALTER FUNCTION app_private.claim_messages(p_jobs jsonb, p_channel text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.claim_messages(p_jobs jsonb, p_channel text) IS 'Marks a batch SENDING and returns what to send now; composes the digests among them. Takes an array of {job_id, user_id, message_id, scheduled_send_time, message_type}. Jobs of messages that are not to be sent are removed.';

CREATE FUNCTION app_private.cleanup_expired_cache() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with deleted as (
    delete from app_private.query_cache
    where query_cache.expires_at <= now()
    returning 1
  )
  select count(*)::integer from deleted
$$;

ALTER FUNCTION app_private.cleanup_expired_cache() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.cleanup_expired_cache() IS 'Deletes results that have expired. Returns how many.';

CREATE FUNCTION app_private.compose_digests(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[]) RETURNS uuid[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  empty_messages uuid[];
begin
  with found as materialized (
    select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.delivery_date - 7 as week_start, rules.first_name, rules.last_name,
      rules.locale
    from unnest(p_user_ids, p_message_ids, p_times)
      as given (user_id, message_id, scheduled_send_time)
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
    inner join app_private.message_rules as rules
      on rules.user_id = message_logs.user_id
      and rules.message_type = message_logs.message_type
    where message_logs.message_type = 'DIGEST'
      and message_logs.status in ('QUEUED', 'RETRYING')
      and message_logs.attempted_at is null
    order by message_logs.user_id, message_logs.id
    for update of message_logs
  ),
  contents as materialized (
    select contents.*
    from (select array_agg(user_id) as users, array_agg(week_start) as weeks from found)
      as wanted
    cross join lateral app_private.digest_contents(wanted.users, wanted.weeks) as contents
  ),
  kept as (
    insert into app_public.digests (user_id, week_start, content)
    select user_id, week_start, content
    from contents
    order by user_id, week_start
    on conflict (user_id, week_start) do update
    set content = excluded.content
    where digests.content <> excluded.content
  ),
  written as (
    update app_public.message_logs
    set message_subject = app_hidden.render_template(template.subject, given.names),
      message_content = app_hidden.render_template(template.body, given.names)
    from found
    inner join contents
      on contents.user_id = found.user_id
      and contents.week_start = found.week_start
    cross join lateral (
      select message_templates.subject, message_templates.body
      from app_private.message_templates
      where message_templates.message_type = 'DIGEST'
        and message_templates.locale
          in (found.locale, split_part(found.locale, '-', 1), 'en')
      order by message_templates.locale = found.locale desc,
        message_templates.locale = 'en'
      limit 1
    ) as template
    cross join lateral (
      select app_private.digest_values(
        contents.content, found.first_name, found.last_name)
    ) as given (names)
    where message_logs.user_id = found.user_id
      and message_logs.id = found.id
      and message_logs.scheduled_send_time = found.scheduled_send_time
      and not contents.is_empty
  )
  select array_agg(found.id)
  into empty_messages
  from found
  inner join contents
    on contents.user_id = found.user_id
    and contents.week_start = found.week_start
  where contents.is_empty;
  return coalesce(empty_messages, '{}');
end
$$;

ALTER FUNCTION app_private.compose_digests(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[]) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.compose_digests(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[]) IS 'Counts the weeks of those of these messages that are digests and were not attempted, keeps them and writes the texts. Returns the ids of messages whose week is empty.';

CREATE FUNCTION app_private.compose_digests_singly(p_jobs jsonb, p_channel text) RETURNS uuid[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  job record;
  reason text;
  tries integer;
  empty_messages uuid[] := array[]::uuid[];
begin
  for job in
    select given.*
    from jsonb_to_recordset(p_jobs) as given (job_id uuid, user_id uuid, message_id uuid,
      scheduled_send_time timestamptz, message_type text)
    where coalesce(given.message_type, 'DIGEST') = 'DIGEST'
    order by given.user_id, given.message_id
  loop
    begin
      empty_messages := empty_messages || app_private.compose_digests(
        array[job.user_id], array[job.message_id], array[job.scheduled_send_time]);
    exception when others then
      if sqlstate ~ '^(25|40|53|55|57|58)' then
        raise;
      end if;
      reason := format('it cannot be composed (%s): %s', sqlstate, left(sqlerrm, 300));
      update app_public.message_logs
      set status = 'SENDING', attempted_at = clock_timestamp()
      where message_logs.user_id = job.user_id
        and message_logs.id = job.message_id
        and message_logs.scheduled_send_time = job.scheduled_send_time
        and message_logs.job_id = job.job_id
        and message_logs.status in ('QUEUED', 'RETRYING')
      returning message_logs.retry_count into tries;
      perform app_private.record_send_results(jsonb_build_array(
        to_jsonb(job) || jsonb_build_object(
          'attempt', tries, 'status', 'FAILED', 'error', reason)), p_channel);
    end;
  end loop;
  return empty_messages;
end
$$;

ALTER FUNCTION app_private.compose_digests_singly(p_jobs jsonb, p_channel text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.compose_digests_singly(p_jobs jsonb, p_channel text) IS 'As compose_digests(), one after the other; what cannot be composed is FAILED.';

CREATE FUNCTION app_private.compose_message(p_message_type text, p_delivery_date date, p_base_date date, p_first_name text, p_last_name text, p_locale text) RETURNS TABLE(subject text, body text)
    LANGUAGE sql STABLE
    AS $$
  select app_hidden.render_template(template.subject, given.names),
    app_hidden.render_template(template.body, given.names)
  from (
    select message_templates.subject, message_templates.body
    from app_private.message_templates
    where message_templates.message_type = p_message_type
      and message_templates.locale in (p_locale, pg_catalog.split_part(p_locale, '-', 1), 'en')
    -- The whole locale, else its language, else English.
    order by message_templates.locale = p_locale desc, message_templates.locale = 'en'
    limit 1
  ) as template
  cross join (
    select pg_catalog.jsonb_build_object(
      'first_name', p_first_name,
      'last_name', p_last_name,
      'full_name', pg_catalog.btrim(p_first_name || ' ' || p_last_name),
      'age', years.passed,
      'years', years.passed)
    from (
      select case when pg_catalog.date_part('year', p_base_date) <> 1604
        then pg_catalog.date_part('year', p_delivery_date)
          - pg_catalog.date_part('year', p_base_date) end
    ) as years (passed)
  ) as given (names)
$$;

ALTER FUNCTION app_private.compose_message(p_message_type text, p_delivery_date date, p_base_date date, p_first_name text, p_last_name text, p_locale text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.compose_message(p_message_type text, p_delivery_date date, p_base_date date, p_first_name text, p_last_name text, p_locale text) IS 'Subject and text of a message, in the locale, its language, or English.';

CREATE FUNCTION app_private.compute_insights(p_user_id uuid, p_weeks integer, p_time_zone text, p_today date) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with range as materialized (
    select first.day as first_day, first.day::timestamp at time zone p_time_zone as since
    from (
      select date_trunc('week', p_today::timestamp)::date - 7 * (p_weeks - 1) as day
    ) as first
  ),
  created as (
    select date_trunc('week', tasks.created_at at time zone p_time_zone)::date
        as week_start,
      count(*) as amount
    from app_public.tasks
    where tasks.user_id = p_user_id
      and tasks.created_at >= (select since from range)
    group by 1
  ),
  completed as (
    select date_trunc('week', tasks.completed_at at time zone p_time_zone)::date
        as week_start,
      count(*) as amount
    from app_public.tasks
    where tasks.user_id = p_user_id
      and tasks.completed_at >= (select since from range)
    group by 1
  ),
  reflected as (
    select date_trunc('week', reflections.reflection_date::timestamp)::date as week_start,
      count(*) as amount,
      avg(reflections.mood_score)::double precision as average_mood
    from app_public.reflections
    where reflections.user_id = p_user_id
      and reflections.reflection_date >= (select first_day from range)
    group by 1
  ),
  kept as (
    select date_trunc('week', habit_logs.log_date::timestamp)::date as week_start,
      count(*) as amount,
      count(distinct habit_logs.habit_id) as habits
    from app_public.habit_logs
    where habit_logs.user_id = p_user_id
      and habit_logs.log_date >= (select first_day from range)
    group by 1
  ),
  active as (
    select date_trunc('week', user_activity.occurred_at at time zone p_time_zone)::date
        as week_start,
      count(*) as amount
    from app_public.user_activity
    where user_activity.user_id = p_user_id
      -- The partition key is the day in UTC, and a zone is at most 14 hours away from it.
      and user_activity.activity_date >= (select first_day from range) - 1
      and user_activity.occurred_at >= (select since from range)
    group by 1
  )
  select jsonb_agg(
    jsonb_build_object(
      'week_start', weeks.week_start,
      'tasks_created', coalesce(created.amount, 0),
      'tasks_completed', coalesce(completed.amount, 0),
      'reflections', coalesce(reflected.amount, 0),
      'average_mood', reflected.average_mood,
      'habit_days', coalesce(kept.amount, 0),
      'habits_kept', coalesce(kept.habits, 0),
      'activity', coalesce(active.amount, 0))
    order by weeks.week_start)
  from (
    select range.first_day + 7 * number as week_start
    from range
    cross join generate_series(0, p_weeks - 1) as number
  ) as weeks
  left join created on created.week_start = weeks.week_start
  left join completed on completed.week_start = weeks.week_start
  left join reflected on reflected.week_start = weeks.week_start
  left join kept on kept.week_start = weeks.week_start
  left join active on active.week_start = weeks.week_start
$$;

ALTER FUNCTION app_private.compute_insights(p_user_id uuid, p_weeks integer, p_time_zone text, p_today date) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.compute_insights(p_user_id uuid, p_weeks integer, p_time_zone text, p_today date) IS 'The weeks of a user up to a day, as a JSON array; reads the tables.';

CREATE FUNCTION app_private.delete_expired_sessions() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with deleted as (
    delete from app_private.sessions
    where expires_at < now() - interval '7 days'
    returning 1
  )
  select count(*)::integer from deleted
$$;

ALTER FUNCTION app_private.delete_expired_sessions() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.delete_expired_sessions() IS 'Deletes sessions that ended more than a week ago. Returns how many.';

CREATE FUNCTION app_private.delete_old_stripe_events() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with deleted as (
    delete from app_private.stripe_events
    where stripe_events.received_at < now() - interval '1 year'
    returning 1
  )
  select count(*)::integer from deleted
$$;

ALTER FUNCTION app_private.delete_old_stripe_events() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.delete_old_stripe_events() IS 'Deletes events of more than a year ago. Stripe repeats one for 3 days, by hand for 30.';

CREATE FUNCTION app_private.describe_instant(p_local timestamp without time zone, p_zone text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  instant timestamptz := app_hidden.local_to_instant(p_local, p_zone);
  -- In an overlap, AT TIME ZONE means the second.
  later timestamptz := p_local at time zone p_zone;
  read_there timestamp := instant at time zone p_zone;
  hours constant text := case when extract(second from p_local) = 0
    then 'HH24:MI' else 'HH24:MI:SS' end;
  local_time constant text := to_char(p_local, hours);
  local_date constant text := to_char(p_local, 'YYYY-MM-DD');
  zone_name text;
  zone_offset text;
  name_before text;
  offset_before text;
  name_later text;
begin
  perform set_config('timezone', p_zone, true);
  zone_name := to_char(instant, 'TZ');
  zone_offset := to_char(instant, 'TZH:TZM');
  name_later := to_char(later, 'TZ');
  -- A gap may be a whole day long.
  name_before := to_char(instant - interval '25 hours', 'TZ');
  offset_before := to_char(instant - interval '25 hours', 'TZH:TZM');
  perform set_config('timezone', 'UTC', true);

  if read_there <> p_local then
    return format(
      '%s does not exist in %s on %s; the offset before, %s (%s), is used: %s %s, %s UTC',
      local_time, p_zone, local_date, name_before, offset_before,
      to_char(read_there, case when read_there::date = p_local::date
        then hours else 'YYYY-MM-DD ' || hours end),
      zone_name, to_char(instant, 'YYYY-MM-DD HH24:MI:SS'));
  end if;
  if later <> instant then
    return format(
      '%s occurs twice in %s on %s; the first is used, %s (%s) rather than %s: %s UTC',
      local_time, p_zone, local_date, zone_name, zone_offset, name_later,
      to_char(instant, 'YYYY-MM-DD HH24:MI:SS'));
  end if;
  return format('%s in %s on %s, an ordinary time there, %s (%s): %s UTC',
    local_time, p_zone, local_date, zone_name, zone_offset,
    to_char(instant, 'YYYY-MM-DD HH24:MI:SS'));
end
$$;

ALTER FUNCTION app_private.describe_instant(p_local timestamp without time zone, p_zone text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.describe_instant(p_local timestamp without time zone, p_zone text) IS 'How a local time becomes an instant: ordinary, in a gap, or in an overlap.';

CREATE FUNCTION app_private.describe_occasion(p_message_type text, p_base_date date, p_leap_day_policy text, p_date date, OUT is_occasion boolean, OUT detail text) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  what constant text := case p_message_type
    when 'BIRTHDAY' then 'birthday' else 'anniversary' end;
  year constant integer := extract(year from p_date)::integer;
  is_leap_day constant boolean := to_char(p_base_date, 'MM-DD') = '02-29';
  occasion date;
  leap_year integer := year;
begin
  is_occasion := false;
  if p_message_type = 'DIGEST' then
    is_occasion := extract(isodow from p_date) = 1;
    detail := case when is_occasion then 'digests are of Mondays, and this is one'
      else format('digests are of Mondays, this is a %s; that of its week is of %s',
        to_char(p_date, 'FMDay'), date_trunc('week', p_date)::date) end;
    return;
  end if;
  if p_base_date is null then
    detail := format('the user has set no %s', what);
    return;
  end if;
  if p_date <= p_base_date then
    detail := format('the date itself is %s: there is no %s before the next year',
      p_base_date, what);
    return;
  end if;

  occasion := app_hidden.occurrence_in_year(p_base_date, year, p_leap_day_policy);
  if is_leap_day and occasion is null then
    loop
      leap_year := leap_year + 1;
      exit when to_char(make_date(leap_year, 3, 1) - 1, 'DD') = '29';
    end loop;
    detail := format(
      'February 29 is skipped in %s: policy skip; the next %s is on %s-02-29',
      year, what, leap_year);
    return;
  end if;
  is_occasion := occasion = p_date;
  detail := concat_ws('; ',
    case
      when is_leap_day and to_char(occasion, 'MM-DD') = '02-29'
      then format('February 29 exists in %s: policy %s is not needed',
        year, p_leap_day_policy)
      when is_leap_day
      then format('February 29 is celebrated on %s in %s: policy %s',
        to_char(occasion, 'FMMonth FMDD'), year, p_leap_day_policy)
    end,
    case when is_occasion then format('this is the user''s %s of %s', what, year)
      else format('this is not the user''s %s: that of %s is on %s',
        what, year, occasion) end);
end
$$;

ALTER FUNCTION app_private.describe_occasion(p_message_type text, p_base_date date, p_leap_day_policy text, p_date date, OUT is_occasion boolean, OUT detail text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.describe_occasion(p_message_type text, p_base_date date, p_leap_day_policy text, p_date date, OUT is_occasion boolean, OUT detail text) IS 'Whether a day is an occasion, and why.';

CREATE FUNCTION app_private.digest_contents(p_user_ids uuid[], p_week_starts date[]) RETURNS TABLE(user_id uuid, week_start date, content jsonb, is_empty boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  -- A day more at either end: a local week is not one of UTC.
  first_day date := (select min(week) - 8 from unnest(p_week_starts) as week);
  last_day date := (select max(week) + 7 from unnest(p_week_starts) as week);
begin
  return query
  with wanted as materialized (
    select distinct users.id as user_id, wanted.week, users.timezone,
      (users.created_at at time zone users.timezone)::date as joined_on
    from unnest(p_user_ids, p_week_starts) as wanted (user_id, week)
    inner join app_public.users on users.id = wanted.user_id
  ),
  -- The week before is counted too, to be compared with.
  spans as materialized (
    select wanted.user_id, wanted.timezone,
      min(wanted.week) - 7 as first_date,
      max(wanted.week) + 6 as last_date,
      (min(wanted.week) - 8)::timestamp at time zone 'UTC' as since,
      (max(wanted.week) + 8)::timestamp at time zone 'UTC' as until
    from wanted
    group by wanted.user_id, wanted.timezone
  ),
  happened as materialized (
    select spans.user_id, event.kind, event.id, event.mood_score,
      date_trunc('week', event.day::timestamp)::date as week
    from spans
    cross join lateral (
      select 'task made' as kind, tasks.id, null::smallint as mood_score,
        (tasks.created_at at time zone spans.timezone)::date as day
      from app_public.tasks
      where tasks.user_id = spans.user_id
        and tasks.created_at between spans.since and spans.until
      union all
      select 'task done', tasks.id, null,
        (tasks.completed_at at time zone spans.timezone)::date
      from app_public.tasks
      where tasks.user_id = spans.user_id
        and tasks.status = 'done'
        -- Nothing is done after its last change: this is what the index knows.
        and tasks.updated_at >= spans.since
        and tasks.completed_at between spans.since and spans.until
      union all
      select 'goal', goals.id, null, (goals.created_at at time zone spans.timezone)::date
      from app_public.goals
      where goals.user_id = spans.user_id
        and goals.created_at between spans.since and spans.until
      union all
      select 'goal', goals.id, null,
        (user_activity.occurred_at at time zone spans.timezone)::date
      from app_public.user_activity
      inner join app_public.goals
        on goals.user_id = user_activity.user_id
        and goals.id = user_activity.entity_id
      where user_activity.user_id = spans.user_id
        and user_activity.entity_type = 'goal'
        and user_activity.action = 'updated'
        and user_activity.occurred_at between spans.since and spans.until
        -- Tells in which partitions there is nothing to look for.
        and user_activity.activity_date between first_day - 7 and last_day + 1
      union all
      select 'habit day', habit_logs.habit_id, null, habit_logs.log_date
      from app_public.habit_logs
      where habit_logs.user_id = spans.user_id
        and habit_logs.log_date between spans.first_date and spans.last_date
      union all
      select 'reflection', reflections.id, reflections.mood_score,
        reflections.reflection_date
      from app_public.reflections
      where reflections.user_id = spans.user_id
        and reflections.reflection_date between spans.first_date and spans.last_date
      offset 0
    ) as event
  ),
  events as (
    select user_id, kind, id, mood_score, week
    from happened
    union all
    select happened.user_id, 'goal', link.goal_id, null, happened.week
    from happened
    cross join lateral (
      select goals_tasks.goal_id
      from app_public.goals_tasks
      where goals_tasks.user_id = happened.user_id
        and goals_tasks.task_id = happened.id
      offset 0
    ) as link
    where happened.kind in ('task made', 'task done')
    union all
    select happened.user_id, 'goal', link.goal_id, null, happened.week
    from happened
    cross join lateral (
      select reflection_goals.goal_id
      from app_public.reflection_goals
      where reflection_goals.user_id = happened.user_id
        and reflection_goals.reflection_id = happened.id
      offset 0
    ) as link
    where happened.kind = 'reflection'
    -- So that a week without events, and the one before it, have a row.
    union all
    select user_id, 'wanted', null, null, week
    from wanted
    union all
    select user_id, 'before', null, null, week - 7
    from wanted
  ),
  counted as (
    select user_id, week,
      bool_or(kind = 'wanted') as is_wanted,
      count(*) filter (where kind not in ('wanted', 'before')) = 0 as is_empty,
      jsonb_build_object(
        'week_start', week,
        'tasks_created', count(*) filter (where kind = 'task made'),
        'tasks_done', count(*) filter (where kind = 'task done'),
        'goals_touched', count(distinct id) filter (where kind = 'goal'),
        'habit_days', count(*) filter (where kind = 'habit day'),
        'reflections', count(*) filter (where kind = 'reflection'),
        'mood_sum', coalesce(sum(mood_score), 0),
        'mood_count', count(mood_score),
        'mood_average', trim_scale(round(avg(mood_score), 2))) as figures
    from events
    group by user_id, week
  ),
  compared as (
    select counted.user_id, counted.week, counted.is_wanted, counted.is_empty,
      counted.figures,
      lag(counted.figures) over (partition by counted.user_id order by counted.week)
        as previous
    from counted
  )
  select compared.user_id, compared.week,
    compared.figures || jsonb_build_object(
      'timezone', wanted.timezone,
      'habits', kept.habits,
      -- Who joined in this week has no week before it.
      'previous', case when wanted.joined_on < compared.week then compared.previous end,
      'change', case when wanted.joined_on < compared.week then (
        select jsonb_object_agg(figure.name,
          trim_scale((compared.figures ->> figure.name)::numeric
            - (compared.previous ->> figure.name)::numeric))
        from unnest(array['tasks_created', 'tasks_done', 'goals_touched', 'habit_days',
          'reflections', 'mood_average']) as figure (name)
      ) end),
    compared.is_empty
  from compared
  inner join wanted on wanted.user_id = compared.user_id and wanted.week = compared.week
  cross join lateral (
    select coalesce(jsonb_agg(
      jsonb_build_object('id', habit.id, 'name', habit.name, 'done', habit.done,
        'streak', habit.streak)
      order by habit.done desc, habit.name, habit.id), '[]') as habits
    from (
      select habits.id, habits.name, log.done, coalesce(run.streak, 0) as streak
      from app_public.habits
      cross join lateral (
        select count(*) as done, max(habit_logs.log_date) as last_date
        from app_public.habit_logs
        where habit_logs.user_id = habits.user_id
          and habit_logs.habit_id = habits.id
          and habit_logs.log_date between compared.week and compared.week + 6
        offset 0
      ) as log
      -- From Sunday back to the latest day before which there is none.
      left join lateral (
        select compared.week + 7 - habit_logs.log_date as streak
        from app_public.habit_logs
        where habit_logs.user_id = habits.user_id
          and habit_logs.habit_id = habits.id
          and habit_logs.log_date <= compared.week + 6
          and not exists (
            select from app_public.habit_logs as day_before
            where day_before.user_id = habit_logs.user_id
              and day_before.habit_id = habit_logs.habit_id
              and day_before.log_date = habit_logs.log_date - 1
          )
        order by habit_logs.log_date desc
        limit 1
      ) as run on log.last_date = compared.week + 6
      where habits.user_id = compared.user_id
        and (log.done > 0
          or (habits.created_at at time zone wanted.timezone)::date < compared.week + 7
          and coalesce(habits.archived_at at time zone wanted.timezone, 'infinity')
            >= compared.week)
      order by log.done desc, habits.name, habits.id
      limit 100
    ) as habit
  ) as kept
  where compared.is_wanted;
end
$$;

ALTER FUNCTION app_private.digest_contents(p_user_ids uuid[], p_week_starts date[]) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.digest_contents(p_user_ids uuid[], p_week_starts date[]) IS 'Counts these users'' weeks, by their own days, and the weeks before them. The first array''s user has the second''s week.';

CREATE FUNCTION app_private.digest_values(p_content jsonb, p_first_name text, p_last_name text) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
  select pg_catalog.jsonb_build_object(
      'first_name', p_first_name,
      'last_name', p_last_name,
      'full_name', pg_catalog.btrim(p_first_name || ' ' || p_last_name),
      'week_start', p_content ->> 'week_start',
      'week_end', (p_content ->> 'week_start')::date + 6,
      'mood_average', p_content ->> 'mood_average',
      'previous_mood_average', p_content -> 'previous' ->> 'mood_average',
      'habits', (
        select pg_catalog.string_agg(
          pg_catalog.format('%s %s/7 (%s)', habit.value ->> 'name', habit.value ->> 'done',
            habit.value ->> 'streak'),
          ', ' order by habit.number)
        from pg_catalog.jsonb_array_elements(p_content -> 'habits')
          with ordinality as habit (value, number)
        where habit.value ->> 'done' <> '0'
          and habit.number <= 10
      ))
    || (
      select coalesce(pg_catalog.jsonb_object_agg(figure.name, p_content -> figure.name)
        || pg_catalog.jsonb_object_agg(
          'previous_' || figure.name, p_content -> 'previous' -> figure.name), '{}')
      from pg_catalog.unnest(array['tasks_created', 'tasks_done', 'goals_touched',
        'habit_days', 'reflections']) as figure (name)
      where coalesce(nullif(p_content ->> figure.name, '0'),
        nullif(p_content -> 'previous' ->> figure.name, '0')) is not null
    )
$$;

ALTER FUNCTION app_private.digest_values(p_content jsonb, p_first_name text, p_last_name text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.digest_values(p_content jsonb, p_first_name text, p_last_name text) IS 'What a template of type DIGEST can name: first_name, last_name, full_name, week_start, week_end, habits, and tasks_done, tasks_created, goals_touched, habit_days, reflections, mood_average, each also as previous_….';

CREATE FUNCTION app_private.enqueue_messages(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[], p_not_before timestamp with time zone) RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  with queued as (
    update app_public.message_logs
    set status = case message_logs.status
        when 'SENDING' then 'SENDING' when 'RETRYING' then 'RETRYING' else 'QUEUED' end,
      job_id = gen_random_uuid()
    from unnest(p_user_ids, p_message_ids, p_times)
      as wanted (user_id, id, scheduled_send_time)
    where message_logs.user_id = wanted.user_id
      and message_logs.id = wanted.id
      and message_logs.scheduled_send_time = wanted.scheduled_send_time
    returning message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.message_type, message_logs.job_id
  ),
  jobs as (
    insert into pgboss.job (id, name, data, start_after, created_on, keep_until,
      retry_limit, retry_delay, retry_backoff, retry_delay_max, expire_seconds,
      deletion_seconds, heartbeat_seconds, policy, dead_letter)
    select queued.job_id, queue.name,
      jsonb_strip_nulls(jsonb_build_object(
        'user_id', queued.user_id,
        'message_id', queued.id,
        'message_type', queued.message_type,
        'scheduled_send_time', queued.scheduled_send_time,
        'traceparent', app_hidden.current_traceparent())),
      greatest(queued.scheduled_send_time, p_not_before),
      -- pg-boss serves the oldest job first: let that be what is due first.
      least(queued.scheduled_send_time, now()),
      greatest(queued.scheduled_send_time, now())
        + queue.retention_seconds * interval '1 second',
      queue.retry_limit, queue.retry_delay, queue.retry_backoff, queue.retry_delay_max,
      queue.expire_seconds, queue.deletion_seconds, queue.heartbeat_seconds, queue.policy,
      queue.dead_letter
    from queued
    inner join pgboss.queue on queue.name = 'message-send'
    returning 1
  )
  select count(*)::integer from jobs
$$;

ALTER FUNCTION app_private.enqueue_messages(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[], p_not_before timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.enqueue_messages(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[], p_not_before timestamp with time zone) IS 'Gives messages jobs that run when they are due, and not before the instant given.';

CREATE FUNCTION app_private.expect_aggregates() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  written bigint;
begin
  delete from app_private.capture_expectations;
  insert into app_private.capture_expectations
    (user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count)
  select user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
    mood_count
  from app_private.expected_aggregates;
  get diagnostics written = row_count;
  return written;
end
$$;

ALTER FUNCTION app_private.expect_aggregates() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.expect_aggregates() IS 'Counts the tables as the transaction''s snapshot sees them, for capture_differences().';

CREATE TABLE app_public.message_logs (
    user_id uuid NOT NULL,
    id uuid NOT NULL,
    message_type text NOT NULL,
    delivery_date date NOT NULL,
    message_content text NOT NULL,
    scheduled_send_time timestamp with time zone NOT NULL,
    actual_send_time timestamp with time zone,
    status text DEFAULT 'SCHEDULED'::text NOT NULL,
    retry_count integer DEFAULT 0 NOT NULL,
    last_retry_at timestamp with time zone,
    api_response_code integer,
    api_response_body text,
    error_message text,
    idempotency_key text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    message_subject text DEFAULT ''::text NOT NULL,
    job_id uuid,
    recipient_email text,
    recipient_name text,
    attempted_at timestamp with time zone,
    attempts jsonb,
    uncertain_since timestamp with time zone,
    send_until timestamp with time zone,
    CONSTRAINT message_logs_api_response_body_check CHECK ((octet_length(api_response_body) <= 4096)),
    CONSTRAINT message_logs_attempts_check CHECK ((jsonb_typeof(attempts) = 'array'::text)),
    CONSTRAINT message_logs_message_type_check CHECK ((message_type = ANY (ARRAY['BIRTHDAY'::text, 'ANNIVERSARY'::text, 'DIGEST'::text]))),
    CONSTRAINT message_logs_retry_count_check CHECK ((retry_count >= 0)),
    CONSTRAINT message_logs_sent_check CHECK (((status = 'SENT'::text) = (actual_send_time IS NOT NULL))),
    CONSTRAINT message_logs_status_check CHECK ((status = ANY (ARRAY['SCHEDULED'::text, 'QUEUED'::text, 'SENDING'::text, 'SENT'::text, 'RETRYING'::text, 'FAILED'::text, 'CANCELLED'::text, 'EXPIRED'::text, 'UNKNOWN'::text])))
)
PARTITION BY RANGE (scheduled_send_time);

ALTER TABLE app_public.message_logs OWNER TO gw_owner;

COMMENT ON TABLE app_public.message_logs IS 'A message to a user: what it says, when it is due, and what became of it.';

COMMENT ON COLUMN app_public.message_logs.user_id IS 'Who receives it.';

COMMENT ON COLUMN app_public.message_logs.id IS 'Unique among the user''s messages.';

COMMENT ON COLUMN app_public.message_logs.message_type IS 'BIRTHDAY, ANNIVERSARY or DIGEST.';

COMMENT ON COLUMN app_public.message_logs.delivery_date IS 'The day it belongs to, in the user''s time zone.';

COMMENT ON COLUMN app_public.message_logs.message_content IS 'The text, composed when the message was planned; a digest''s when it is sent.';

COMMENT ON COLUMN app_public.message_logs.scheduled_send_time IS 'The instant at which it is due.';

COMMENT ON COLUMN app_public.message_logs.actual_send_time IS 'When it was accepted for delivery; null until status is SENT.';

COMMENT ON COLUMN app_public.message_logs.status IS 'SCHEDULED (planned), QUEUED (due, or held by quiet hours), SENDING (the call is being made), SENT, RETRYING (refused for now), FAILED (refused, or given up), CANCELLED (not wanted any more), EXPIRED (too late), UNKNOWN (may have been delivered; a person decides).';

COMMENT ON COLUMN app_public.message_logs.retry_count IS 'How often it was put back to be tried again.';

COMMENT ON COLUMN app_public.message_logs.last_retry_at IS 'When it was put back last.';

COMMENT ON COLUMN app_public.message_logs.api_response_code IS 'HTTP status of the latest answer.';

COMMENT ON COLUMN app_public.message_logs.api_response_body IS 'The latest answer, cut to 4 KB.';

COMMENT ON COLUMN app_public.message_logs.error_message IS 'Why the latest attempt failed, or why it is not sent; null after success.';

COMMENT ON COLUMN app_public.message_logs.idempotency_key IS 'user:type:date. Every attempt carries it, so that a receiver can drop repetitions.';

COMMENT ON COLUMN app_public.message_logs.created_at IS 'When it was planned.';

COMMENT ON COLUMN app_public.message_logs.updated_at IS 'When its status last changed.';

COMMENT ON COLUMN app_public.message_logs.message_subject IS 'What it is called where a channel has subjects.';

COMMENT ON COLUMN app_public.message_logs.job_id IS 'The job that may send it; null when none may.';

COMMENT ON COLUMN app_public.message_logs.recipient_email IS 'The address of the first attempt; every attempt has the same, until it is sent again by hand.';

COMMENT ON COLUMN app_public.message_logs.recipient_name IS 'The name of the first attempt; every attempt has the same, until it is sent again by hand.';

COMMENT ON COLUMN app_public.message_logs.attempted_at IS 'When the latest call began.';

COMMENT ON COLUMN app_public.message_logs.attempts IS 'The attempts that did not deliver (when, code, answer, error), and what people did to it (change).';

COMMENT ON COLUMN app_public.message_logs.uncertain_since IS 'When the first attempt began of which nobody knows whether it was delivered.';

COMMENT ON COLUMN app_public.message_logs.send_until IS 'When it is too late; null means the late window after scheduled_send_time.';

CREATE FUNCTION app_private.explain_attempts(p_message app_public.message_logs) RETURNS TABLE(at timestamp with time zone, topic text, detail text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select (attempt.entry ->> 'started_at')::timestamptz, 'attempt',
    concat_ws('; ',
      count(attempt.entry ->> 'started_at') over (order by attempt.number) || ': '
        || coalesce('answer ' || (attempt.entry ->> 'code'), 'no answer')
        || coalesce(' after ' || round(extract(epoch from
          (attempt.entry ->> 'ended_at')::timestamptz
          - (attempt.entry ->> 'started_at')::timestamptz), 1) || ' s', ''),
      app_private.without_addresses(attempt.entry ->> 'error', 200),
      'it said "' || app_private.without_addresses(
        nullif(attempt.entry ->> 'body', ''), 200) || '"',
      'to be tried again at ' || to_char((attempt.entry ->> 'retry_at')::timestamptz,
        'YYYY-MM-DD HH24:MI:SS "UTC"'))
  from jsonb_array_elements(p_message.attempts)
    with ordinality as attempt (entry, number)
  where attempt.entry ? 'started_at'
  union all
  select (attempt.entry ->> 'changed_at')::timestamptz, 'by hand',
    concat_ws(': ',
      (attempt.entry ->> 'change') || ', was ' || (attempt.entry ->> 'status'),
      app_private.without_addresses(attempt.entry ->> 'error', 200))
  from jsonb_array_elements(p_message.attempts) as attempt (entry)
  where attempt.entry ? 'change'
  union all
  select p_message.attempted_at, 'attempt',
    case p_message.status
      when 'SENDING' then 'the latest: it is being made, or its worker died'
      else concat_ws('; ',
        'the latest: delivered'
          || coalesce(', answer ' || p_message.api_response_code, ''),
        'it said "' || app_private.without_addresses(
          nullif(p_message.api_response_body, ''), 200) || '"')
    end
  where p_message.attempted_at is not null
    and p_message.status in ('SENDING', 'SENT')
    -- A person may have said that an attempt of the array delivered.
    and not exists (
      select from jsonb_array_elements(p_message.attempts) as attempt (entry)
      where (attempt.entry ->> 'started_at')::timestamptz = p_message.attempted_at
    )
  order by 1
$$;

ALTER FUNCTION app_private.explain_attempts(p_message app_public.message_logs) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.explain_attempts(p_message app_public.message_logs) IS 'Each attempt to send a message, and what people did to it, in the order of time.';

CREATE FUNCTION app_private.explain_planned(p_message app_public.message_logs, p_instant timestamp with time zone) RETURNS TABLE(at timestamp with time zone, topic text, detail text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  stamp constant text := 'YYYY-MM-DD HH24:MI:SS "UTC"';
  status constant text := p_message.status;
  is_waiting constant boolean := status in ('SCHEDULED', 'QUEUED', 'RETRYING');
  is_taken boolean;
  send_until timestamptz;
  job pgboss.job;
begin
  select exists (
    select from app_private.message_ledger
    where message_ledger.user_id = p_message.user_id
      and message_ledger.message_type = p_message.message_type
      and message_ledger.delivery_date = p_message.delivery_date
      and message_ledger.message_id = p_message.id
  ) into is_taken;
  select coalesce(p_message.send_until,
    p_message.scheduled_send_time + message_settings.late_window)
  into send_until
  from app_private.message_settings;

  at := p_message.created_at;
  topic := 'plan';
  detail := format('planned as message %s, due at %s', p_message.id,
    to_char(p_message.scheduled_send_time, stamp));
  if p_instant is not null and p_instant <> p_message.scheduled_send_time then
    detail := detail || case
      when is_waiting and p_message.scheduled_send_time
        <> greatest(p_instant, least(now(), p_message.scheduled_send_time))
      then format('; the rules now say %s: gw messages replan --user %s',
        to_char(p_instant, stamp), p_message.user_id)
      when p_instant < p_message.scheduled_send_time
      then '; a change moved its time into the past, and made it due at once'
      else format('; the rules of then, those of now say %s', to_char(p_instant, stamp))
    end;
  end if;
  return next;

  if is_waiting or status = 'SENDING' then
    topic := 'job';
    select * into job from pgboss.job
    where name = 'message-send' and id = p_message.job_id;
    at := job.start_after;
    detail := case
      when job.id is not null then format('job %s is %s%s', job.id, job.state,
        case when job.retry_count > 0
          then format('; taken back %s times from workers that died', job.retry_count)
          else '' end)
      when status = 'SCHEDULED' then 'none yet: it gets one 90 seconds before it is due'
      else 'it is gone; pg_cron''s job requeue-lost-messages makes a new one soon'
    end;
    return next;
  end if;

  return query select * from app_private.explain_attempts(p_message);

  select * into job from pgboss.job
  where name = 'message-send-dead' and data ->> 'message_id' = p_message.id::text
  order by created_on desc
  limit 1;
  if found then
    at := job.created_on;
    topic := 'dead letter';
    detail := format('kept in queue message-send-dead until %s',
      to_char(job.keep_until, stamp));
    return next;
  end if;

  topic := 'state';
  at := case status
    when 'SCHEDULED' then p_message.scheduled_send_time
    when 'SENT' then p_message.actual_send_time
    when 'SENDING' then p_message.attempted_at
    when 'UNKNOWN' then p_message.uncertain_since
    else p_message.updated_at end;
  detail := status || ': ' || case status
    when 'SCHEDULED' then 'waits for its time'
    when 'QUEUED' then coalesce(p_message.error_message, 'due, and waits for a worker')
    when 'SENDING' then 'a worker makes the call; should it die, another gets its job'
    when 'RETRYING' then 'tried again until it is delivered, refused, or too late'
    when 'SENT' then 'the receiver has accepted it'
    when 'FAILED' then coalesce(p_message.error_message, 'refused, or given up')
      || '. To send it again: gw messages redrive --message ' || p_message.id
    when 'EXPIRED' then coalesce(p_message.error_message, 'it was too late')
      || '. To send it all the same: gw messages redrive --message ' || p_message.id
    when 'CANCELLED' then coalesce(p_message.error_message, 'not wanted any more')
      || case when is_taken then '. It is not planned again, but can be sent: '
        || 'gw messages redrive --message ' || p_message.id
        else '. It is planned again when the rules have it again in time' end
    when 'UNKNOWN' then coalesce(p_message.error_message, 'it may have been delivered')
      || '. A person asks the receiver, then: gw messages resolve --message '
      || p_message.id || ' --as sent|failed'
  end;
  detail := app_private.without_addresses(detail, 600);
  return next;
  if is_waiting then
    at := send_until;
    topic := 'expires';
    detail := case when p_message.uncertain_since is null
      then 'too late from then on: it becomes EXPIRED'
      else 'too late from then on: it becomes UNKNOWN: an attempt may have delivered it'
    end;
    return next;
  end if;
end
$$;

ALTER FUNCTION app_private.explain_planned(p_message app_public.message_logs, p_instant timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.explain_planned(p_message app_public.message_logs, p_instant timestamp with time zone) IS 'What became of a message, and what comes next.';

CREATE FUNCTION app_private.explain_unplanned(p_user_id uuid, p_message_type text, p_date date, p_instant timestamp with time zone, OUT at timestamp with time zone, OUT detail text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  schedule app_private.message_schedule;
  neighbour date;
  late_window interval;
  joined_at timestamptz;
begin
  select message_schedule.*
  into schedule
  from app_private.message_schedule
  where message_schedule.user_id = p_user_id
    and message_schedule.message_type = p_message_type;
  if schedule.delivery_date = p_date then
    at := schedule.scheduled_send_time - interval '24 hours';
    detail := 'not planned yet: ' || case when at > now()
      then 'a message is planned 24 hours before its time'
      else 'the planner''s next tick does it; if it does not, pg_cron''s job '
        'plan-due-messages does not run' end;
    if schedule.scheduled_send_time <> (case when schedule.scheduled_send_time > now()
      then greatest(p_instant, now()) else p_instant end)
    then
      detail := detail || format('. The schedule says %s, the rules now say %s: '
        'gw messages replan --user %s',
        to_char(schedule.scheduled_send_time, 'YYYY-MM-DD HH24:MI:SS "UTC"'),
        to_char(p_instant, 'YYYY-MM-DD HH24:MI:SS "UTC"'), p_user_id);
    end if;
    return;
  end if;

  select message_ledger.delivery_date
  into neighbour
  from app_private.message_ledger
  where message_ledger.user_id = p_user_id
    and message_ledger.message_type = p_message_type
    and message_ledger.delivery_date between p_date - 2 and p_date + 2
  limit 1;
  if neighbour is not null then
    detail := format('not planned: the message of %s counts for this occasion',
      neighbour);
    return;
  end if;

  select message_settings.late_window into late_window from app_private.message_settings;
  if p_instant <= now() - late_window then
    at := p_instant;
    select users.created_at
    into joined_at
    from app_public.users
    where users.id = p_user_id;
    detail := case when joined_at > p_instant
      then 'not planned: the account was made after it'
      else 'not planned: it had passed when the user''s date, zone or wish became what '
        'it is now' end;
    return;
  end if;
  detail := case
    when schedule.delivery_date < p_date
    then format('not planned yet: the schedule comes to it after the occasion of %s',
      schedule.delivery_date)
    else format('not planned: the schedule lacks it; gw messages replan --user %s',
      p_user_id)
  end;
end
$$;

ALTER FUNCTION app_private.explain_unplanned(p_user_id uuid, p_message_type text, p_date date, p_instant timestamp with time zone, OUT at timestamp with time zone, OUT detail text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.explain_unplanned(p_user_id uuid, p_message_type text, p_date date, p_instant timestamp with time zone, OUT at timestamp with time zone, OUT detail text) IS 'Why there is no message for an occasion of the user''s rules.';

CREATE FUNCTION app_private.fill_capture_snapshot() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  written bigint;
  total bigint := 0;
begin
  insert into app_private.captured_users (user_id, timezone)
  select id, timezone from app_public.users;
  get diagnostics written = row_count;
  total := total + written;

  insert into app_private.captured_tasks
    (user_id, id, created_at, completed_at, created_on, completed_on)
  select tasks.user_id, tasks.id, tasks.created_at, tasks.completed_at,
    (tasks.created_at at time zone users.timezone)::date,
    (tasks.completed_at at time zone users.timezone)::date
  from app_public.tasks
  inner join app_public.users on users.id = tasks.user_id;
  get diagnostics written = row_count;
  total := total + written;

  insert into app_private.captured_reflections (user_id, id, reflection_date, mood_score)
  select user_id, id, reflection_date, mood_score from app_public.reflections;
  get diagnostics written = row_count;
  return total + written;
end
$$;

ALTER FUNCTION app_private.fill_capture_snapshot() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.fill_capture_snapshot() IS 'Captures all rows, as the transaction''s snapshot sees them. Returns their number.';

CREATE FUNCTION app_private.find_messages(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid) RETURNS SETOF app_public.message_logs
    LANGUAGE sql STABLE
    AS $$
  select message_logs.*
  from app_public.message_logs
  where (p_statuses is null or message_logs.status = any (p_statuses))
    and (p_message_type is null or message_logs.message_type = p_message_type)
    -- No zone is further from UTC.
    and (p_date is null or message_logs.delivery_date = p_date
      and message_logs.scheduled_send_time >= (p_date - 3)::timestamp at time zone 'UTC'
      and message_logs.scheduled_send_time < (p_date + 4)::timestamp at time zone 'UTC')
    and (p_user_id is null or message_logs.user_id = p_user_id)
    and (p_since is null or message_logs.scheduled_send_time >= p_since)
    and (p_message_id is null or message_logs.id = p_message_id)
$$;

ALTER FUNCTION app_private.find_messages(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.find_messages(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid) IS 'Messages by filters; null does not filter.';

CREATE FUNCTION app_private.find_occasions(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid) RETURNS TABLE(at timestamp with time zone, timezone text, message_type text, delivery_date date, messages bigint, held bigint, planned bigint, sent bigint, stopped bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  with rules as materialized (
    select message_rules.user_id, message_rules.message_type, message_rules.base_date,
      message_rules.leap_day_policy, message_rules.timezone, message_rules.send_time,
      user_settings.quiet_from, user_settings.quiet_until
    from app_private.message_rules
    left join app_public.user_settings on user_settings.user_id = message_rules.user_id
    where p_user_id is null or message_rules.user_id = p_user_id
  ),
  -- No zone is further from UTC, and no quiet hours last longer than a day.
  days as (
    select p_from::date - 3 as first, p_to::date + 2 as last
  ),
  occasions as (
    select rules.message_type, candidate.delivery_date, rules.timezone, rules.send_time,
      rules.quiet_from, rules.quiet_until, sum(rules.users) as users
    from (
      select message_type, base_date, leap_day_policy, timezone, send_time, quiet_from,
        quiet_until, count(*) as users
      from rules
      group by message_type, base_date, leap_day_policy, timezone, send_time, quiet_from,
        quiet_until
    ) as rules
    cross join days
    cross join lateral (
      select app_hidden.occurrence_in_year(rules.base_date, year, rules.leap_day_policy)
      from generate_series(extract(year from days.first)::integer,
        extract(year from days.last)::integer) as year
      where rules.message_type <> 'DIGEST'
      union all
      select monday::date
      from generate_series(date_trunc('week', days.first), days.last, interval '1 week')
        as monday
      where rules.message_type = 'DIGEST'
    ) as candidate (delivery_date)
    where candidate.delivery_date between days.first and days.last
      and (rules.base_date is null or candidate.delivery_date > rules.base_date)
    group by rules.message_type, candidate.delivery_date, rules.timezone, rules.send_time,
      rules.quiet_from, rules.quiet_until
  ),
  timed as materialized (
    select occasions.*, moment.due, quiet.until as held_until
    from occasions
    cross join lateral (
      select app_hidden.local_to_instant(
        occasions.delivery_date + occasions.send_time, occasions.timezone)
      offset 0
    ) as moment (due)
    cross join lateral (
      select app_hidden.quiet_until(
        moment.due, occasions.timezone, occasions.quiet_from, occasions.quiet_until)
      offset 0
    ) as quiet (until)
  ),
  logged as (
    select rules.message_type, message_logs.delivery_date, rules.timezone,
      rules.send_time, rules.quiet_from, rules.quiet_until,
      count(*) filter (where message_logs.status
        in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING')) as planned,
      count(*) filter (where message_logs.status = 'SENT') as sent,
      count(*) filter (where message_logs.status
        in ('FAILED', 'CANCELLED', 'EXPIRED', 'UNKNOWN')) as stopped
    from app_public.message_logs
    -- A message that the rules took back is not in the ledger any more.
    inner join app_private.message_ledger
      on message_ledger.user_id = message_logs.user_id
      and message_ledger.message_type = message_logs.message_type
      and message_ledger.delivery_date = message_logs.delivery_date
      and message_ledger.message_id = message_logs.id
    inner join rules
      on rules.user_id = message_logs.user_id
      and rules.message_type = message_logs.message_type
    where message_logs.scheduled_send_time > p_from - interval '4 days'
      and message_logs.scheduled_send_time < p_to + interval '4 days'
      and (p_user_id is null or message_logs.user_id = p_user_id)
      and (rules.message_type = 'DIGEST'
        or message_logs.delivery_date = app_hidden.occurrence_in_year(rules.base_date,
          extract(year from message_logs.delivery_date)::integer, rules.leap_day_policy))
    group by rules.message_type, message_logs.delivery_date, rules.timezone,
      rules.send_time, rules.quiet_from, rules.quiet_until
  )
  select goes_out.at, timed.timezone, timed.message_type, timed.delivery_date,
    sum(timed.users)::bigint,
    coalesce(sum(timed.users) filter (where timed.held_until is not null), 0)::bigint,
    coalesce(sum(logged.planned), 0)::bigint, coalesce(sum(logged.sent), 0)::bigint,
    coalesce(sum(logged.stopped), 0)::bigint
  from timed
  cross join lateral (
    select date_trunc(case when p_user_id is null then 'hour' else 'microseconds' end,
      coalesce(timed.held_until, timed.due))
  ) as goes_out (at)
  left join logged
    on logged.message_type = timed.message_type
    and logged.delivery_date = timed.delivery_date
    and logged.timezone = timed.timezone
    and logged.send_time = timed.send_time
    and logged.quiet_from is not distinct from timed.quiet_from
    and logged.quiet_until is not distinct from timed.quiet_until
  where coalesce(timed.held_until, timed.due) >= p_from
    and coalesce(timed.held_until, timed.due) < p_to
  group by goes_out.at, timed.timezone, timed.message_type, timed.delivery_date
  order by goes_out.at, timed.timezone, timed.message_type, timed.delivery_date
$$;

ALTER FUNCTION app_private.find_occasions(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.find_occasions(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid) IS 'What goes out in a range of time by the rules: how many, how many of them held by quiet hours, and how many are planned, sent or stopped already.';

CREATE FUNCTION app_private.finish_capture_snapshot(p_slot text, p_plugin text, p_lsn pg_lsn) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  written bigint;
  total bigint;
begin
  -- Freshly filled, and joined below.
  analyze app_private.captured_users, app_private.captured_tasks,
    app_private.captured_reflections;

  delete from app_public.user_dashboard_aggregates
  where not exists (
    select from app_private.captured_aggregates
    where captured_aggregates.user_id = user_dashboard_aggregates.user_id
      and captured_aggregates.agg_date = user_dashboard_aggregates.agg_date
  );
  get diagnostics total = row_count;

  insert into app_public.user_dashboard_aggregates as aggregates
    (user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count)
  select captured.user_id, captured.agg_date, captured.tasks_created,
    captured.tasks_completed, captured.reflections_count, captured.mood_sum,
    captured.mood_count
  from app_private.captured_aggregates as captured
  inner join (
    select id from app_public.users order by id for key share
  ) as users on users.id = captured.user_id
  on conflict (user_id, agg_date) do update
  set tasks_created = excluded.tasks_created,
    tasks_completed = excluded.tasks_completed,
    reflections_count = excluded.reflections_count,
    mood_sum = excluded.mood_sum,
    mood_count = excluded.mood_count,
    last_updated = now()
  where (aggregates.tasks_created, aggregates.tasks_completed, aggregates.reflections_count,
      aggregates.mood_sum, aggregates.mood_count)
    is distinct from (excluded.tasks_created, excluded.tasks_completed,
      excluded.reflections_count, excluded.mood_sum, excluded.mood_count);
  get diagnostics written = row_count;

  update ops.change_capture
  set plugin = p_plugin,
    state = 'running',
    applied_lsn = p_lsn,
    applied_at = clock_timestamp(),
    committed_at = clock_timestamp(),
    snapshot_lsn = p_lsn,
    snapshot_at = clock_timestamp(),
    resnapshot_requested = false,
    error = null
  where slot_name = p_slot;
  return total + written;
end
$$;

ALTER FUNCTION app_private.finish_capture_snapshot(p_slot text, p_plugin text, p_lsn pg_lsn) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.finish_capture_snapshot(p_slot text, p_plugin text, p_lsn pg_lsn) IS 'Makes the aggregates what was captured. Returns how many rows that changed.';

CREATE FUNCTION app_private.hash_password(p_password text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if p_password is null or length(p_password) < 8 or octet_length(p_password) > 72 then
    raise exception 'a password has at least 8 characters and at most 72 bytes'
      using errcode = 'GW002', column = 'password';
  end if;
  return public.crypt(p_password, public.gen_salt('bf', 10));
end
$$;

ALTER FUNCTION app_private.hash_password(p_password text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.hash_password(p_password text) IS 'bcrypt of a password of 8 characters to 72 bytes (bcrypt ignores what follows). GW002 otherwise.';

CREATE FUNCTION app_private.hold_capture(p_slot text, p_lsn pg_lsn) RETURNS pg_lsn
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  update ops.change_capture
  set hold_lsn = p_lsn
  where slot_name = p_slot
  returning applied_lsn
$$;

ALTER FUNCTION app_private.hold_capture(p_slot text, p_lsn pg_lsn) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.hold_capture(p_slot text, p_lsn pg_lsn) IS 'Has the consumer wait at a position; 0/0 at once; null lets it go on.';

CREATE FUNCTION app_private.insights_lock(p_user_id uuid) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
  select pg_catalog.uuid_hash(p_user_id) operator(pg_catalog.&) 1023
$$;

ALTER FUNCTION app_private.insights_lock(p_user_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.insights_lock(p_user_id uuid) IS 'The advisory lock of a user''s insights, 0 to 1023.';

CREATE FUNCTION app_private.invalidate_query_cache(tags text[]) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with deleted as (
    delete from app_private.query_cache
    where query_cache.tags && invalidate_query_cache.tags
    returning 1
  )
  select count(*)::integer from deleted
$$;

ALTER FUNCTION app_private.invalidate_query_cache(tags text[]) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.invalidate_query_cache(tags text[]) IS 'Deletes every result, of every user, that has one of the tags. Returns how many.';

CREATE FUNCTION app_private.latest_period_start(p_period_end timestamp with time zone, p_now timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select max(p_period_end + make_interval(months => months))
  from generate_series(0, 1 + (
    extract(year from age(p_now, p_period_end)) * 12
    + extract(month from age(p_now, p_period_end)))::integer) as months
  where p_period_end + make_interval(months => months) <= p_now
$$;

ALTER FUNCTION app_private.latest_period_start(p_period_end timestamp with time zone, p_now timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.latest_period_start(p_period_end timestamp with time zone, p_now timestamp with time zone) IS 'The start of the monthly period that an instant lies in, when one period ended before it.';

CREATE FUNCTION app_private.live_writers() RETURNS text[]
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(array_agg(distinct pg_locks.virtualtransaction), '{}')
  from pg_locks
  where pg_locks.locktype = 'relation'
    and pg_locks.database = (
      select pg_database.oid from pg_database where datname = current_database())
    and pg_locks.relation in ('app_public.tasks'::regclass,
      'app_public.user_dashboard_aggregates'::regclass, 'app_public.message_logs'::regclass)
    and pg_locks.mode = 'RowExclusiveLock'
$$;

ALTER FUNCTION app_private.live_writers() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.live_writers() IS 'Transactions in flight that wrote a watched table, perhaps before somebody watched.';

CREATE FUNCTION app_private.monthly_limit(p_tier text, p_status text) RETURNS integer
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select tier_limits.monthly_limit
  from app_private.tier_limits
  -- past_due keeps its limit: Stripe is still trying the card.
  where tier_limits.tier = case
    when p_status in ('active', 'trialing', 'past_due') then p_tier
    else 'free'
  end
$$;

ALTER FUNCTION app_private.monthly_limit(p_tier text, p_status text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.monthly_limit(p_tier text, p_status text) IS 'How much a subscription of this tier and status may use in a period.';

CREATE FUNCTION app_private.next_occasions(p_user_ids uuid[], p_now timestamp with time zone) RETURNS TABLE(user_id uuid, message_type text, delivery_date date, scheduled_send_time timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select rules.user_id, rules.message_type, next.delivery_date, next.instant
  from app_private.message_rules as rules
  left join app_private.message_schedule
    on message_schedule.user_id = rules.user_id
    and message_schedule.message_type = rules.message_type
  cross join (
    select late_window, (p_now - late_window)::date - 2 as first_day,
      (p_now + interval '3 days')::date as last_planned_day
    from app_private.message_settings
    where only_row
  ) as settings
  cross join lateral (
    select candidate.delivery_date,
      case
        when message_schedule.delivery_date = candidate.delivery_date
          and message_schedule.scheduled_send_time > p_now
        then greatest(moment.instant, p_now)
        else moment.instant
      end as instant
    from (
      select app_hidden.occurrence_in_year(
        rules.base_date, year, rules.leap_day_policy) as delivery_date
      from generate_series(
        extract(year from least(message_schedule.delivery_date, settings.first_day))::integer,
        -- February 29 can be eight years away for those who skip it.
        -- Whoever is told on January 1 is planned in the year before.
        extract(year from settings.last_planned_day)::integer + case rules.leap_day_policy
          when 'skip' then 9 else 1 end) as year
      where rules.message_type <> 'DIGEST'
      union all
      -- On Sunday the next one is tomorrow, and when that is planned, a week later. One
      -- that was missed weeks ago is for the planner to say.
      select monday::date
      from generate_series(
        least(date_trunc('week', p_now at time zone 'UTC') - interval '7 days',
          message_schedule.delivery_date),
        date_trunc('week', p_now at time zone 'UTC') + interval '14 days',
        interval '7 days') as monday
      where rules.message_type = 'DIGEST'
    ) as candidate
    cross join lateral (
      select app_hidden.local_to_instant(
        candidate.delivery_date + rules.send_time, rules.timezone)
      offset 0
    ) as moment (instant)
    where candidate.delivery_date >= least(message_schedule.delivery_date, settings.first_day)
      and candidate.delivery_date > rules.base_date
      and (moment.instant > p_now - settings.late_window
        or message_schedule.delivery_date = candidate.delivery_date)
      -- Whoever moves February 29 from one day to the next has been greeted already.
      and (candidate.delivery_date > settings.last_planned_day
        or not exists (
          select from app_private.message_ledger
          where message_ledger.user_id = rules.user_id
            and message_ledger.message_type = rules.message_type
            and message_ledger.delivery_date
              between candidate.delivery_date - 2 and candidate.delivery_date + 2
        ))
    order by candidate.delivery_date
    limit 1
  ) as next
  where rules.user_id = any (p_user_ids)
$$;

ALTER FUNCTION app_private.next_occasions(p_user_ids uuid[], p_now timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.next_occasions(p_user_ids uuid[], p_now timestamp with time zone) IS 'For each of the users and message types the next occasion that is not in the ledger.';

CREATE FUNCTION app_private.note_channel_health(p_channel text, p_reached integer, p_unreachable integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  channel app_private.delivery_channels;
  all_failures integer;
  next_pause interval;
begin
  if p_reached = 0 and p_unreachable = 0 then
    return;
  end if;
  select * into channel from app_private.delivery_channels where name = p_channel;
  if p_unreachable = 0 and channel.circuit = 'closed' and channel.failures = 0 then
    return;
  end if;
  select * into channel from app_private.delivery_channels where name = p_channel for update;

  if p_reached > 0 then
    if channel.circuit <> 'closed' or channel.failures > 0 then
      update app_private.delivery_channels
      set circuit = 'closed', failures = 0, pause = default, probe_after = null,
        opened_at = null
      where name = p_channel;
    end if;
    if channel.circuit <> 'closed' then
      perform ops.resolve_alert('message-channel', p_channel);
    end if;
    return;
  end if;

  all_failures := channel.failures + p_unreachable;
  if channel.circuit = 'closed' and all_failures < channel.failures_to_open then
    update app_private.delivery_channels
    set failures = all_failures
    where name = p_channel;
    return;
  end if;
  -- Calls that were on their way when it opened say nothing new.
  if channel.circuit = 'open' then
    return;
  end if;
  next_pause := case channel.circuit when 'half-open' then least(channel.pause * 2, '5 minutes')
    else channel.pause end;
  update app_private.delivery_channels
  set circuit = 'open', failures = all_failures,
    pause = next_pause,
    opened_at = coalesce(channel.opened_at, clock_timestamp()),
    probe_after = clock_timestamp() + next_pause
  where name = p_channel;
  perform ops.raise_alert('message-channel', p_channel, 'critical',
    'the receiver does not answer; messages wait',
    'Sending goes on by itself when a probe, every 5 minutes at most, is answered.');
end
$$;

ALTER FUNCTION app_private.note_channel_health(p_channel text, p_reached integer, p_unreachable integer) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.note_channel_health(p_channel text, p_reached integer, p_unreachable integer) IS 'Opens or closes a channel''s circuit after some calls, of which so many were answered.';

CREATE FUNCTION app_private.notify_live(p_topic text, p_event text, p_user_ids uuid[], p_keys text[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with per_user as (
    select json_build_array(changed.user_id,
      case when count(*) <= 20 then json_agg(changed.key) end) as entry
    from unnest(p_user_ids, p_keys) as changed (user_id, key)
    group by changed.user_id
  ),
  parts as (
    select per_user.entry,
      sum(length(per_user.entry::text) + 2) over (rows unbounded preceding) / 6000 as part
    from per_user
  )
  select pg_notify('gw_live', json_build_object('topic', p_topic, 'event', p_event,
    'users', json_agg(parts.entry))::text)
  from parts
  group by trunc(parts.part)
$$;

ALTER FUNCTION app_private.notify_live(p_topic text, p_event text, p_user_ids uuid[], p_keys text[]) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.notify_live(p_topic text, p_event text, p_user_ids uuid[], p_keys text[]) IS 'Tells API processes that rows of these users changed: user and key, pair by pair.';

CREATE FUNCTION app_private.plan_due_messages(p_now timestamp with time zone DEFAULT now(), p_limit integer DEFAULT 100000) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  planned integer;
  planned_users uuid[];
begin
  if not exists (select from pgboss.queue where name = 'message-send') then
    raise exception 'the queue message-send does not exist'
      using errcode = 'GW011', hint = 'A migration makes it with pgboss.create_queue().';
  end if;
  if (select count(*) from app_private.message_templates where locale = 'en'
    and message_type in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST')) < 3
  then
    raise exception 'a message type has no template in English'
      using errcode = 'GW011', hint = 'Insert it into app_private.message_templates.';
  end if;

  -- Whoever changes a user waits for these rows, and then sees what was planned; what is
  -- being changed at this moment is left for the next tick. The first due go first.
  with due as materialized (
    select message_schedule.*
    from app_private.message_schedule
    where message_schedule.scheduled_send_time <= p_now + interval '24 hours'
    order by message_schedule.scheduled_send_time
    limit p_limit
    for update skip locked
  ),
  -- The order is what keeps two planners from waiting for each other.
  claimed as (
    insert into app_private.message_ledger
      (user_id, message_type, delivery_date, message_id, scheduled_send_time)
    select due.user_id, due.message_type, due.delivery_date, gen_random_uuid(),
      due.scheduled_send_time
    from due
    inner join app_private.message_rules
      on message_rules.user_id = due.user_id
      and message_rules.message_type = due.message_type
    order by due.user_id, due.message_type
    on conflict do nothing
    returning *
  ),
  logged as (
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      message_subject, message_content, scheduled_send_time, idempotency_key, status,
      error_message)
    select claimed.user_id, claimed.message_id, claimed.message_type,
      claimed.delivery_date, coalesce(text.subject, ''), coalesce(text.body, ''),
      claimed.scheduled_send_time,
      concat_ws(':', claimed.user_id, claimed.message_type, claimed.delivery_date),
      case when is_late then 'EXPIRED' else 'SCHEDULED' end,
      case when is_late then 'planned ' || to_char(p_now, 'YYYY-MM-DD HH24:MI "UTC"')
        || ', after the late window of ' || settings.late_window || ' had passed' end
    from claimed
    inner join app_private.message_rules as rules
      on rules.user_id = claimed.user_id
      and rules.message_type = claimed.message_type
    inner join app_private.message_settings as settings on settings.only_row
    cross join lateral (
      select claimed.scheduled_send_time <= p_now - settings.late_window
    ) as lateness (is_late)
    -- What a digest says is known when its week is over: it is composed when it is sent.
    left join lateral app_private.compose_message(rules.message_type, claimed.delivery_date,
      rules.base_date, rules.first_name, rules.last_name, rules.locale) as text
      on rules.message_type <> 'DIGEST'
    returning 1
  )
  select (select count(*) from logged), array_agg(distinct due.user_id)
  into planned, planned_users
  from due;

  if planned_users is not null then
    perform app_private.schedule_messages(planned_users, p_now);
  end if;
  perform app_private.queue_due_messages(p_now);
  return planned;
end
$$;

ALTER FUNCTION app_private.plan_due_messages(p_now timestamp with time zone, p_limit integer) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.plan_due_messages(p_now timestamp with time zone, p_limit integer) IS 'Plans what is due in the next 24 hours, the earliest first, up to a limit; then queues what is due. Returns how many were planned.';

CREATE FUNCTION app_private.prune_message_ledger() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with pruned as (
    delete from app_private.message_ledger
    where delivery_date < (now() - interval '60 days')::date
    returning 1
  )
  select count(*)::integer from pruned
$$;

ALTER FUNCTION app_private.prune_message_ledger() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.prune_message_ledger() IS 'Deletes ledger rows of occasions more than 60 days ago. Returns how many.';

CREATE FUNCTION app_private.query_cache_get(p_cache_key text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  caller uuid := app_hidden.current_app_user_id();
  found_id uuid;
  found_data jsonb;
begin
  -- An unlogged table cannot be read on a standby.
  if pg_is_in_recovery() then
    return null;
  end if;

  select query_cache.id, query_cache.cached_data into found_id, found_data
  from app_private.query_cache
  where query_cache.cache_key_hash = app_private.sha256_hex(p_cache_key)
    and query_cache.cache_key = p_cache_key
    and (query_cache.user_id = caller or caller is null and query_cache.user_id is null)
    and query_cache.expires_at > clock_timestamp();

  -- Counting must neither wait for another reader of the same row nor end a transaction
  -- that is read-only.
  if current_setting('transaction_read_only')::boolean then
    return found_data;
  end if;
  if found_id is null then
    perform nextval('app_private.query_cache_misses');
    return null;
  end if;
  perform nextval('app_private.query_cache_hits');
  update app_private.query_cache
  set access_count = query_cache.access_count + 1,
    hit_count = query_cache.hit_count + 1,
    last_accessed = clock_timestamp()
  where query_cache.id = (
    select free.id
    from app_private.query_cache as free
    where free.id = found_id
    for no key update skip locked
  );
  return found_data;
end
$$;

ALTER FUNCTION app_private.query_cache_get(p_cache_key text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.query_cache_get(p_cache_key text) IS 'The current user''s cached result for a key, or null when there is none or it expired.';

CREATE FUNCTION app_private.query_cache_put(p_cache_key text, p_cached_data jsonb, p_time_to_live interval, p_generation_time_ms integer, p_tags text[] DEFAULT '{}'::text[], p_query_hash text DEFAULT NULL::text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into app_private.query_cache (user_id, cache_key, cached_data, created_at,
    last_accessed, expires_at, generation_time_ms, tags, query_hash)
  select app_hidden.current_app_user_id(), p_cache_key, p_cached_data, clock.instant,
    clock.instant, clock.instant + p_time_to_live, p_generation_time_ms, p_tags,
    p_query_hash
  from (select clock_timestamp()) as clock (instant)
  on conflict on constraint query_cache_cache_key_hash_user_id_key do update
  set cached_data = excluded.cached_data,
    created_at = excluded.created_at,
    last_accessed = excluded.last_accessed,
    expires_at = excluded.expires_at,
    generation_time_ms = excluded.generation_time_ms,
    tags = excluded.tags,
    query_hash = excluded.query_hash,
    access_count = query_cache.access_count + 1
$$;

ALTER FUNCTION app_private.query_cache_put(p_cache_key text, p_cached_data jsonb, p_time_to_live interval, p_generation_time_ms integer, p_tags text[], p_query_hash text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.query_cache_put(p_cache_key text, p_cached_data jsonb, p_time_to_live interval, p_generation_time_ms integer, p_tags text[], p_query_hash text) IS 'Keeps a result for the current user and a key, in place of an earlier one.';

CREATE FUNCTION app_private.queue_due_messages(p_now timestamp with time zone DEFAULT now()) RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with due as (
    select user_id, id, scheduled_send_time
    from app_public.message_logs
    where status = 'SCHEDULED'
      -- Also tells the planner in which partitions there is nothing to look for.
      and scheduled_send_time > p_now - interval '1 year'
      -- Until the next tick comes, and some more.
      and scheduled_send_time <= p_now + interval '90 seconds'
    order by user_id, id
    for update skip locked
  )
  select coalesce(app_private.enqueue_messages(array_agg(due.user_id), array_agg(due.id),
    array_agg(due.scheduled_send_time), '-infinity'), 0)
  from due
  having count(*) > 0
$$;

ALTER FUNCTION app_private.queue_due_messages(p_now timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.queue_due_messages(p_now timestamp with time zone) IS 'Queues what is planned and due by the next tick. Returns how many.';

CREATE FUNCTION app_private.recently_revoked_sessions() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select id from app_private.sessions where revoked_at > now() - interval '20 minutes'
$$;

ALTER FUNCTION app_private.recently_revoked_sessions() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.recently_revoked_sessions() IS 'Sessions revoked while an access token of theirs may still be alive.';

CREATE FUNCTION app_private.record_send_results(p_results jsonb, p_channel text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  recorded integer;
  reached integer;
  unreachable integer;
  given_up integer;
begin
  with result as materialized (
    select *
    from jsonb_to_recordset(p_results) as result (
      job_id uuid, user_id uuid, message_id uuid, scheduled_send_time timestamptz,
      attempt integer, status text, code integer, body text, error text,
      retry_after_seconds double precision, is_uncertain boolean)
  ),
  decided as materialized (
    select result.*, tries.counted,
      case when result.status = 'RETRYING'
        and result.attempt + tries.counted >= channel.max_attempts
        then 'FAILED' else result.status end as next_status,
      -- Exponential, with full jitter: those that failed together do not come back together.
      clock_timestamp() + greatest(
        random() * least(channel.retry_cap,
          channel.retry_base * 2 ^ least(result.attempt, 20)),
        -- Of a receiver that asks for more than a day, a day is believed.
        least(coalesce(result.retry_after_seconds, 0), 86400) * interval '1 second')
        as retry_at
    from result
    inner join app_private.delivery_channels as channel on channel.name = p_channel
    -- A probe of a receiver that is down uses up no attempt of the message that made it.
    cross join lateral (
      select (channel.circuit = 'closed' or coalesce(result.code, 500) < 500)::integer
    ) as tries (counted)
    -- Whoever else changes many of these rows takes them in this order too.
    order by result.user_id, result.message_id
  ),
  written as (
    update app_public.message_logs
    set status = decided.next_status,
      actual_send_time = case when decided.status = 'SENT' then clock_timestamp() end,
      retry_count = message_logs.retry_count
        + case decided.next_status when 'RETRYING' then decided.counted else 0 end,
      last_retry_at = case when decided.next_status = 'RETRYING'
        then clock_timestamp() else message_logs.last_retry_at end,
      api_response_code = decided.code,
      api_response_body = decided.body,
      error_message = decided.error,
      attempts = case when decided.status = 'SENT' then message_logs.attempts
        else coalesce(message_logs.attempts, '[]') || jsonb_build_array(
          jsonb_strip_nulls(jsonb_build_object(
            'started_at', message_logs.attempted_at,
            'ended_at', clock_timestamp(),
            'code', decided.code,
            'body', left(decided.body, 500),
            'error', decided.error,
            'retry_at', case when decided.next_status = 'RETRYING'
              then decided.retry_at end)))
        end,
      uncertain_since = case
        when decided.status = 'SENT' then null
        when decided.is_uncertain
        then least(message_logs.uncertain_since, message_logs.attempted_at)
        else message_logs.uncertain_since
      end
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.message_id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      and message_logs.status <> 'SENT'
      and (decided.status = 'SENT'
        or (message_logs.status = 'SENDING' and message_logs.retry_count = decided.attempt))
    returning message_logs.user_id, message_logs.id, message_logs.status,
      message_logs.job_id, message_logs.retry_count, message_logs.error_message,
      decided.retry_at
  ),
  finished as (
    delete from pgboss.job
    using written
    where job.name = 'message-send'
      and job.id = written.job_id
      and written.status <> 'RETRYING'
    returning job.*, written.status as outcome, written.retry_count as tries,
      written.error_message as reason
  ),
  postponed as (
    update pgboss.job
    set state = 'retry', start_after = written.retry_at, heartbeat_on = null,
      output = jsonb_build_object('error', written.error_message)
    from written
    where job.name = 'message-send'
      and job.id = written.job_id
      and written.status = 'RETRYING'
  ),
  -- As pg-boss itself does it.
  dead as (
    insert into pgboss.job (name, data, retry_limit, retry_backoff, retry_delay, keep_until,
      deletion_seconds, expire_seconds, heartbeat_seconds, source_name, source_id,
      source_created_on, source_retry_count, source_output, source_root_id)
    select queue.name, finished.data, queue.retry_limit, queue.retry_backoff,
      queue.retry_delay, now() + queue.retention_seconds * interval '1 second',
      queue.deletion_seconds, queue.expire_seconds, queue.heartbeat_seconds, finished.name,
      finished.id, finished.created_on, finished.tries,
      jsonb_build_object('error', finished.reason), finished.id
    from finished
    inner join pgboss.queue on queue.name = finished.dead_letter
    where finished.outcome = 'FAILED'
  )
  select count(*), count(*) filter (where status = 'FAILED')
  into recorded, given_up
  from written;

  -- Too many requests, or a refusal: somebody is there. What failed without an answer, such
  -- as a message to no address, was never sent and says nothing.
  select count(*) filter (where result.status = 'SENT' or result.code < 500
      or result.status = 'FAILED' and result.code is not null),
    count(*) filter (where result.status = 'RETRYING'
      and (result.code is null or result.code >= 500))
  into reached, unreachable
  from jsonb_to_recordset(p_results) as result (status text, code integer);
  perform app_private.note_channel_health(p_channel, reached, unreachable);

  if given_up > 0 then
    -- The health check of that name says more, and when it is over.
    perform ops.raise_alert('health-dead-letters', 'message-send-dead', 'warning',
      'messages were given up',
      'gw messages list --status FAILED; then gw messages redrive');
  end if;
  return recorded;
end
$$;

ALTER FUNCTION app_private.record_send_results(p_results jsonb, p_channel text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.record_send_results(p_results jsonb, p_channel text) IS 'Records what became of a batch of attempts, and finishes or postpones their jobs: an array of {job_id, user_id, message_id, scheduled_send_time, attempt, status, code, body, error, retry_after_seconds, is_uncertain}. Returns how many counted.';

CREATE FUNCTION app_private.redrive_refusals(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_even_unknown boolean) RETURNS TABLE(user_id uuid, message_id uuid, scheduled_send_time timestamp with time zone, message_type text, delivery_date date, status text, refusal text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select found.user_id, found.id, found.scheduled_send_time, found.message_type,
    found.delivery_date, found.status,
    case
      when users.deleted_at is not null then 'the account was closed'
      when rules.user_id is null then 'the user does not want this message any more'
      when rules.message_type <> 'DIGEST'
        and found.delivery_date is distinct from app_hidden.occurrence_in_year(
          rules.base_date, extract(year from found.delivery_date)::integer,
          rules.leap_day_policy)
        then 'the date was changed'
      when other.message_id is not null
        then 'another message has this occasion: ' || other.message_id
      when row_number() over (
        partition by found.user_id, found.message_type, found.delivery_date
        order by ledger.message_id is not null desc, found.created_at desc, found.id) > 1
        then 'a later message has this occasion'
      -- Which channel it goes out by is not known here.
      when not p_even_unknown and (found.status = 'UNKNOWN'
        or found.uncertain_since < now() - (select min(key_lifetime)
          from app_private.delivery_channels))
        then 'it may have been delivered already: --even-unknown sends it again'
    end
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found
  inner join app_public.users on users.id = found.user_id
  left join app_private.message_rules as rules
    on rules.user_id = found.user_id
    and rules.message_type = found.message_type
  left join app_private.message_ledger as ledger
    on ledger.user_id = found.user_id
    and ledger.message_type = found.message_type
    and ledger.delivery_date = found.delivery_date
    and ledger.message_id = found.id
  -- Whoever moves February 29 from one day to the next has been greeted already.
  left join lateral (
    select message_ledger.message_id
    from app_private.message_ledger
    where message_ledger.user_id = found.user_id
      and message_ledger.message_type = found.message_type
      and message_ledger.delivery_date
        between found.delivery_date - 2 and found.delivery_date + 2
      and message_ledger.message_id <> found.id
    order by message_ledger.delivery_date
    limit 1
  ) as other on ledger.message_id is null
  where found.status in ('FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELLED')
$$;

ALTER FUNCTION app_private.redrive_refusals(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_even_unknown boolean) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.redrive_refusals(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_even_unknown boolean) IS 'Messages that did not go out, and why one may not be sent again; null when it may.';

CREATE FUNCTION app_private.refresh_performance_views() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  summary record;
begin
  -- A refresh that takes longer than 15 minutes is not joined by the next.
  if pg_is_in_recovery()
    or not pg_try_advisory_xact_lock(
      hashtextextended('app_private.refresh_performance_views', 0))
  then
    return;
  end if;

  for summary in
    select pg_class.oid::regclass as name, pg_class.relispopulated
    from pg_catalog.pg_class
    where pg_class.oid in ('app_private.user_activity_summary'::regclass,
      'app_private.query_performance_summary'::regclass)
    order by pg_class.relname
  loop
    -- What was restored without its rows cannot be refreshed concurrently the first time.
    execute format('refresh materialized view %s %s',
      case when summary.relispopulated then 'concurrently' else '' end, summary.name);
  end loop;
end
$$;

ALTER FUNCTION app_private.refresh_performance_views() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.refresh_performance_views() IS 'Refreshes both summaries without keeping readers waiting.';

CREATE FUNCTION app_private.refresh_weekly_summary() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  refresh materialized view concurrently app_private.mv_user_weekly_summary;
end
$$;

ALTER FUNCTION app_private.refresh_weekly_summary() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.refresh_weekly_summary() IS 'Brings mv_user_weekly_summary up to date without stopping readers.';

CREATE FUNCTION app_private.replan_messages(p_user_ids uuid[], p_now timestamp with time zone DEFAULT now()) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  changed integer;
begin
  -- One change of a user at a time, and none while the planner has the user's rows.
  perform from app_public.users
  where id = any (p_user_ids)
  order by id
  for no key update;
  perform from app_private.message_schedule
  where user_id = any (p_user_ids)
  order by user_id, message_type
  for update;

  with unsent as materialized (
    select *
    from app_public.message_logs
    where user_id = any (p_user_ids)
      and status in ('SCHEDULED', 'QUEUED', 'RETRYING')
      and scheduled_send_time > p_now - interval '1 year'
    order by user_id, id
    for update
  ),
  decided as (
    select unsent.*,
      case
        when rules.user_id is not null
          and (unsent.message_type = 'DIGEST'
            or (rules.base_date < unsent.delivery_date
              and unsent.delivery_date = app_hidden.occurrence_in_year(rules.base_date,
                extract(year from unsent.delivery_date)::integer, rules.leap_day_policy)))
        then null
        when users.deleted_at is not null then 'the account was closed'
        when rules.user_id is null then 'the user does not want this message any more'
        else 'the date was changed'
      end as reason,
      -- What was still to come is not missed because it moved into the past.
      greatest(
        app_hidden.local_to_instant(
          unsent.delivery_date + rules.send_time, rules.timezone),
        least(p_now, unsent.scheduled_send_time)) as instant,
      text.subject, text.body
    from unsent
    inner join app_public.users on users.id = unsent.user_id
    left join app_private.message_rules as rules
      on rules.user_id = unsent.user_id
      and rules.message_type = unsent.message_type
    -- Every attempt under one key says the same.
    left join lateral app_private.compose_message(unsent.message_type, unsent.delivery_date,
      rules.base_date, rules.first_name, rules.last_name, rules.locale) as text
      on unsent.attempted_at is null and unsent.message_type <> 'DIGEST'
  ),
  written as (
    update app_public.message_logs
    set status = case
        when decided.reason is not null then 'CANCELLED'
        when decided.instant <> decided.scheduled_send_time then 'SCHEDULED'
        else message_logs.status
      end,
      error_message = coalesce(decided.reason, message_logs.error_message),
      scheduled_send_time = case when decided.reason is null
        then decided.instant else message_logs.scheduled_send_time end,
      -- The job of before finds nothing to do.
      job_id = case when decided.reason is null
        and decided.instant = decided.scheduled_send_time then message_logs.job_id end,
      message_subject = coalesce(decided.subject, message_logs.message_subject),
      message_content = coalesce(decided.body, message_logs.message_content)
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      and (decided.reason is not null
        or decided.instant <> decided.scheduled_send_time
        or coalesce(decided.body, decided.message_content) <> decided.message_content
        or coalesce(decided.subject, decided.message_subject) <> decided.message_subject)
    returning message_logs.user_id, message_logs.message_type, message_logs.delivery_date,
      message_logs.status, message_logs.scheduled_send_time
  ),
  released as (
    delete from app_private.message_ledger
    using written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status = 'CANCELLED'
  ),
  moved as (
    update app_private.message_ledger
    set scheduled_send_time = written.scheduled_send_time
    from written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status <> 'CANCELLED'
      and message_ledger.scheduled_send_time <> written.scheduled_send_time
  )
  select count(*) into changed from written;

  return changed + app_private.schedule_messages(p_user_ids, p_now);
end
$$;

ALTER FUNCTION app_private.replan_messages(p_user_ids uuid[], p_now timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.replan_messages(p_user_ids uuid[], p_now timestamp with time zone) IS 'Moves, rewrites or cancels what has not gone out, as the users'' rules now are. Returns how many rows changed.';

CREATE FUNCTION app_private.request_resnapshot(p_slot text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with requested as (
    update ops.change_capture
    set resnapshot_requested = true
    where slot_name = p_slot
    returning 1
  )
  select exists (select from requested)
$$;

ALTER FUNCTION app_private.request_resnapshot(p_slot text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.request_resnapshot(p_slot text) IS 'Has the consumer count everything anew. Returns false when there is no such slot.';

CREATE FUNCTION app_private.requeue_lost_messages() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with lost as (
    select user_id, id, scheduled_send_time
    from app_public.message_logs
    where status in ('QUEUED', 'SENDING', 'RETRYING')
      and scheduled_send_time > now() - interval '1 year'
      and updated_at < now() - interval '15 minutes'
      and not exists (
        select from pgboss.job
        where job.name = 'message-send'
          and job.id = message_logs.job_id
          and job.state in ('created', 'retry', 'active')
      )
    order by user_id, id
    for update skip locked
  )
  select coalesce(app_private.enqueue_messages(array_agg(lost.user_id), array_agg(lost.id),
    array_agg(lost.scheduled_send_time), now()), 0)
  from lost
$$;

ALTER FUNCTION app_private.requeue_lost_messages() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.requeue_lost_messages() IS 'Gives a new job to each message that waits for one that is gone. Returns how many.';

CREATE FUNCTION app_private.revoke_sessions(p_user_id uuid, p_session_id uuid, p_reason text) RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with revoked as (
    update app_private.sessions
    set revoked_at = now(), revoked_reason = p_reason
    where user_id = p_user_id
      and (p_session_id is null or id = p_session_id)
      and revoked_at is null
    returning id
  ),
  -- An API process forgets nothing that was sent: on reconnecting it reads
  -- recently_revoked_sessions().
  told as (
    select pg_notify('gw_session_revoked', revoked.id::text) from revoked
  )
  select count(*)::integer from told
$$;

ALTER FUNCTION app_private.revoke_sessions(p_user_id uuid, p_session_id uuid, p_reason text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.revoke_sessions(p_user_id uuid, p_session_id uuid, p_reason text) IS 'Ends one session of a user, or all when the session is null; tells every API process.';

CREATE FUNCTION app_private.schedule_messages(p_user_ids uuid[], p_now timestamp with time zone DEFAULT now()) RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with next as materialized (
    select * from app_private.next_occasions(p_user_ids, p_now)
  ),
  removed as (
    delete from app_private.message_schedule
    where message_schedule.user_id = any (p_user_ids)
      and not exists (
        select from next
        where next.user_id = message_schedule.user_id
          and next.message_type = message_schedule.message_type
      )
    returning 1
  ),
  written as (
    insert into app_private.message_schedule
      (user_id, message_type, delivery_date, scheduled_send_time)
    select user_id, message_type, delivery_date, scheduled_send_time
    from next
    order by user_id, message_type
    on conflict (user_id, message_type) do update
    set delivery_date = excluded.delivery_date,
      scheduled_send_time = excluded.scheduled_send_time
    where (message_schedule.delivery_date, message_schedule.scheduled_send_time)
      is distinct from (excluded.delivery_date, excluded.scheduled_send_time)
    returning 1
  )
  select (select count(*) from removed)::integer + (select count(*) from written)::integer
$$;

ALTER FUNCTION app_private.schedule_messages(p_user_ids uuid[], p_now timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.schedule_messages(p_user_ids uuid[], p_now timestamp with time zone) IS 'Brings the schedule of these users up to date. Returns how many rows changed.';

CREATE FUNCTION app_private.set_app_user(p_user_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  execute pg_catalog.format(
    'set local app.current_user_id = %L', coalesce(p_user_id::text, ''));
end
$$;

ALTER FUNCTION app_private.set_app_user(p_user_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.set_app_user(p_user_id uuid) IS 'Makes a user the current one until the transaction ends. Never exposed to the API.';

CREATE FUNCTION app_private.set_capture_state(p_slot text, p_state text, p_error text DEFAULT NULL::text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  update ops.change_capture
  set state = p_state,
    error = p_error
  where slot_name = p_slot
    -- A snapshot that was broken off is still one.
    and (applied_lsn is not null or p_state = 'failed')
    and (state, error) is distinct from (p_state, p_error)
$$;

ALTER FUNCTION app_private.set_capture_state(p_slot text, p_state text, p_error text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.set_capture_state(p_slot text, p_state text, p_error text) IS 'Says that the consumer of a slot runs, has stopped, or has failed and why.';

CREATE FUNCTION app_private.sha256_hex(p_text text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select encode(sha256(convert_to(p_text, 'UTF8')), 'hex')
$$;

ALTER FUNCTION app_private.sha256_hex(p_text text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.sha256_hex(p_text text) IS 'SHA-256 of a text in UTF-8, as 64 hexadecimal digits.';

CREATE FUNCTION app_private.start_session(p_user_id uuid) RETURNS app_public.session_tokens
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  token text := encode(public.gen_random_bytes(32), 'hex');
  session app_private.sessions;
begin
  insert into app_private.sessions (user_id, refresh_token_hash, expires_at)
  values (p_user_id, sha256(convert_to(token, 'UTF8')), now() + interval '30 days')
  returning * into session;

  return row(
    p_user_id,
    row(p_user_id, session.id,
      extract(epoch from now() + interval '15 minutes')::bigint)::app_public.access_token,
    token,
    session.expires_at
  )::app_public.session_tokens;
end
$$;

ALTER FUNCTION app_private.start_session(p_user_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.start_session(p_user_id uuid) IS 'Makes a session and its first tokens.';

CREATE FUNCTION app_private.take_send_permits(p_channel text, p_wanted integer) RETURNS TABLE(permits integer, wait_ms integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  channel app_private.delivery_channels;
  instant timestamptz;
  available double precision;
begin
  select * into channel from app_private.delivery_channels where name = p_channel;
  if not found then
    raise exception 'there is no channel %', p_channel
      using errcode = 'GW013', hint = 'app_private.delivery_channels lists them.';
  end if;
  if channel.circuit = 'closed' and channel.messages_per_second is null then
    return query select p_wanted, 0;
    return;
  end if;

  select * into channel from app_private.delivery_channels where name = p_channel for update;
  -- The lock may have taken time.
  instant := clock_timestamp();
  if channel.circuit <> 'closed' then
    if channel.probe_after > instant then
      return query select 0, least(ceil(extract(epoch from channel.probe_after - instant) * 1000),
        60000)::integer;
      return;
    end if;
    -- Without a message there is no probe, and what becomes due meanwhile need not wait.
    if not exists (
      select from pgboss.job
      where job.name = 'message-send'
        and job.state < 'active'
        and job.start_after <= instant
    ) then
      return query select 0, 1000;
      return;
    end if;
    -- One message tries whether the receiver is back. Its worker may die: then the next
    -- one tries a minute later.
    update app_private.delivery_channels
    set circuit = 'half-open', probe_after = instant + interval '1 minute'
    where name = p_channel;
    return query select 1, 0;
    return;
  end if;

  -- A bucket that holds one second's permits and fills evenly.
  available := case when channel.messages_per_second is null then p_wanted
    else least(greatest(channel.messages_per_second, 1), channel.permits
      + channel.messages_per_second * extract(epoch from instant - channel.permits_at)) end;
  if available < 1 then
    return query select 0, ceil((1 - available) / channel.messages_per_second * 1000)::integer;
    return;
  end if;
  update app_private.delivery_channels
  set permits = available - least(p_wanted, floor(available)), permits_at = instant
  where name = p_channel;
  return query select least(p_wanted, floor(available))::integer, 0;
end
$$;

ALTER FUNCTION app_private.take_send_permits(p_channel text, p_wanted integer) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.take_send_permits(p_channel text, p_wanted integer) IS 'How many messages may be sent now, up to those wanted, and if none how many milliseconds to wait.';

CREATE FUNCTION app_private.tg__activity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op = 'INSERT' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'created', tg_argv[0], new_rows.id
    from new_rows;
  elsif tg_op = 'DELETE' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select old_rows.user_id, 'deleted', tg_argv[0], old_rows.id
    from old_rows
    inner join app_public.users on users.id = old_rows.user_id;
  else
    -- As JSON, because only tasks have a status that can be done.
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select changed.user_id,
      case when changed.new_row ->> 'status' = 'done'
          and changed.old_row ->> 'status' <> 'done'
        then 'completed' else 'updated' end,
      tg_argv[0], changed.id
    from (
      select new_rows.user_id, new_rows.id, to_jsonb(new_rows) as new_row,
        to_jsonb(old_rows) as old_row
      from new_rows
      inner join old_rows on old_rows.user_id = new_rows.user_id
        and old_rows.id = new_rows.id
    ) as changed
    where (changed.new_row - 'updated_at') is distinct from (changed.old_row - 'updated_at');
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.tg__activity() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg__activity() IS 'Writes user_activity for a statement on a table with an id. Argument: the entity''s type.';

CREATE FUNCTION app_private.tg__append_only() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception '%.% is append-only', tg_table_schema, tg_table_name
    using errcode = 'GW030',
      hint = 'What was recorded stays. Add a row that corrects it.';
end
$$;

ALTER FUNCTION app_private.tg__append_only() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg__append_only() IS 'Refuses update, delete and truncate, the owner''s too.';

CREATE FUNCTION app_private.tg__invalidate_insights() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  lock_class constant integer := hashtext('app_private.insights');
  changed uuid[];
begin
  -- user_id never changes, so either side of an update has all users.
  if tg_op = 'DELETE' then
    changed := array(select distinct old_rows.user_id from old_rows);
  else
    changed := array(select distinct new_rows.user_id from new_rows);
  end if;
  if cardinality(changed) = 0 then
    return null;
  end if;

  -- Shared: changes do not wait for each other, only for a computation to end.
  if cardinality(changed) = 1 then
    perform pg_advisory_xact_lock_shared(
      lock_class, app_private.insights_lock(changed[1]));
    -- By the index of users: that of tags would find everybody's.
    delete from app_private.query_cache
    where query_cache.user_id = changed[1]
      and 'insights' = any (query_cache.tags);
    return null;
  end if;

  perform pg_advisory_xact_lock_shared(lock_class, locks.key)
  from (
    select distinct app_private.insights_lock(user_id) as key
    from unnest(changed) as user_id
    order by 1
  ) as locks;
  delete from app_private.query_cache
  where query_cache.user_id = any (changed)
    and 'insights' = any (query_cache.tags);
  return null;
end
$$;

ALTER FUNCTION app_private.tg__invalidate_insights() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg__invalidate_insights() IS 'Drops the cached insights of the users whose rows a statement has changed.';

CREATE FUNCTION app_private.tg__release_tasks() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_argv[0] = 'list_id' then
    update app_public.tasks
    set list_id = null, position_in_list = null
    where user_id = old.user_id and list_id = old.id;
  else
    update app_public.tasks
    set project_id = null
    where user_id = old.user_id and project_id = old.id;
  end if;
  return old;
end
$$;

ALTER FUNCTION app_private.tg__release_tasks() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg__release_tasks() IS 'Tasks outlive their list and project.';

CREATE FUNCTION app_private.tg__timestamps() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op = 'INSERT' then
    -- A loader may bring both along; app_user has no right to write them.
    new.created_at := coalesce(new.created_at, now());
    new.updated_at := greatest(new.created_at, coalesce(new.updated_at, now()));
    return new;
  end if;
  new.created_at := old.created_at;
  -- Strictly later than before, so that a client can tell two versions apart.
  new.updated_at := case
    when old.updated_at >= now() then old.updated_at + interval '1 microsecond'
    else now()
  end;
  return new;
end
$$;

ALTER FUNCTION app_private.tg__timestamps() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg__timestamps() IS 'Fills created_at and updated_at of a new row that brings none; later keeps created_at and sets updated_at, whatever the statement says.';

CREATE FUNCTION app_private.tg_alerts__notify() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  told record;
begin
  -- What is wrong with the way by which notices go would go by that way, and fail, and be
  -- wrong again. It shows in ops.alerts and `gw check`.
  if new.object in ('alert-notify', 'alert-notify-dead') then
    return null;
  end if;

  select
    (array_agg(alert_notices.state order by alert_notices.id desc))[1] as latest,
    count(*) filter (where alert_notices.created_at > now() - interval '1 hour') as recent
  into told
  from ops.alert_notices
  where alert_notices.check_name = new.check_name
    and alert_notices.object = new.object;

  if told.latest = 'flapping' then
    return null;
  end if;
  perform ops.notify_alert(new, case
    -- Opened and closed three times.
    when told.recent >= 6 then 'flapping'
    when tg_op = 'INSERT' then 'opened'
    when new.resolved_at is not null then 'resolved'
    else 'changed'
  end);
  return null;
end
$$;

ALTER FUNCTION app_private.tg_alerts__notify() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_alerts__notify() IS 'Announces that an alert opened, changed its level or was resolved, unless it does so all the time.';

CREATE FUNCTION app_private.tg_chat_messages__touch_chat() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update app_public.chats
  set title = chats.title
  where chats.user_id = new.user_id
    and chats.id = new.chat_id
    and chats.updated_at < now();
  return null;
end
$$;

ALTER FUNCTION app_private.tg_chat_messages__touch_chat() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_chat_messages__touch_chat() IS 'A message makes its chat the latest one.';

CREATE FUNCTION app_private.tg_habit_logs__activity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op = 'INSERT' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'created', 'habit_log', new_rows.habit_id
    from new_rows;
  elsif tg_op = 'DELETE' then
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select old_rows.user_id, 'deleted', 'habit_log', old_rows.habit_id
    from old_rows
    inner join app_public.users on users.id = old_rows.user_id;
  else
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'updated', 'habit_log', new_rows.habit_id
    from new_rows
    inner join old_rows on old_rows.user_id = new_rows.user_id
      and old_rows.habit_id = new_rows.habit_id
      and old_rows.log_date = new_rows.log_date
    where old_rows.note <> new_rows.note;
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_habit_logs__activity() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_habit_logs__activity() IS 'Writes user_activity for a statement on habit_logs.';

CREATE FUNCTION app_private.tg_message_logs__notify() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
declare
  users uuid[];
  ids uuid[];
  states text[];
  instants timestamptz[];
  keys text[];
begin
  if not exists (select from app_private.live_users) then
    return null;
  end if;
  select array_agg(new_rows.user_id), array_agg(new_rows.id), array_agg(new_rows.status),
    array_agg(new_rows.scheduled_send_time)
  into users, ids, states, instants
  from new_rows
  where (select live_users.expires_at from app_private.live_users
      where live_users.user_id = new_rows.user_id) > now();
  if users is null then
    return null;
  end if;
  select array_agg(changed.user_id), array_agg(changed.id || ' '
    || to_char(changed.instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
  into users, keys
  from (
    select watched.user_id, watched.id, watched.status, watched.instant
    from unnest(users, ids, states, instants) as watched (user_id, id, status, instant)
    except
    select old_rows.user_id, old_rows.id, old_rows.status, old_rows.scheduled_send_time
    from old_rows
  ) as changed;
  if users is not null then
    perform app_private.notify_live('message', tg_op, users, keys);
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_message_logs__notify() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_message_logs__notify() IS 'Tells of messages whose status changed.';

CREATE FUNCTION app_private.tg_partition_events__audit() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform ops.audit('partition.' || new.event, jsonb_build_object(
    'parent_table', new.parent_table,
    'partition_name', new.partition_name,
    'bytes', new.bytes));
  return null;
end
$$;

ALTER FUNCTION app_private.tg_partition_events__audit() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_partition_events__audit() IS 'Enters partitions that left into the audit log.';

CREATE FUNCTION app_private.tg_tasks__completion() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  new.completed_at := case
    when new.status <> 'done' then null
    when tg_op = 'UPDATE' and old.status = 'done' then old.completed_at
    -- A loader may bring the moment along; app_user has no right to write the column.
    else coalesce(new.completed_at, now())
  end;
  return new;
end
$$;

ALTER FUNCTION app_private.tg_tasks__completion() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_tasks__completion() IS 'completed_at follows status.';

CREATE FUNCTION app_private.tg_tasks__notify() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
declare
  users uuid[];
  keys text[];
begin
  if not exists (select from app_private.live_users) then
    return null;
  end if;
  if tg_op = 'DELETE' then
    select array_agg(old_rows.user_id), array_agg(old_rows.id::text) into users, keys
    from old_rows
    where (select live_users.expires_at from app_private.live_users
        where live_users.user_id = old_rows.user_id) > now();
  else
    select array_agg(new_rows.user_id), array_agg(new_rows.id::text) into users, keys
    from new_rows
    where (select live_users.expires_at from app_private.live_users
        where live_users.user_id = new_rows.user_id) > now();
  end if;
  if users is not null then
    perform app_private.notify_live('task', tg_op, users, keys);
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_tasks__notify() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_tasks__notify() IS 'Tells of tasks that were made, changed or deleted.';

CREATE FUNCTION app_private.tg_tasks__truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  signal_id bigint;
begin
  insert into app_private.capture_signals (kind, object)
  values ('truncated', format('%I.%I', tg_table_schema, tg_table_name))
  returning id into signal_id;
  delete from app_private.capture_signals where id = signal_id;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_tasks__truncated() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_tasks__truncated() IS 'Tells change capture that a partition was truncated, which pgoutput does not.';

CREATE FUNCTION app_private.tg_user_dashboard_aggregates__notify() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
declare
  users uuid[];
  keys text[];
begin
  if not exists (select from app_private.live_users) then
    return null;
  end if;
  if tg_op = 'DELETE' then
    select array_agg(old_rows.user_id), array_agg(old_rows.agg_date::text) into users, keys
    from old_rows
    where (select live_users.expires_at from app_private.live_users
        where live_users.user_id = old_rows.user_id) > now();
  else
    select array_agg(new_rows.user_id), array_agg(new_rows.agg_date::text) into users, keys
    from new_rows
    where (select live_users.expires_at from app_private.live_users
        where live_users.user_id = new_rows.user_id) > now();
  end if;
  if users is not null then
    perform app_private.notify_live('dashboard', tg_op, users, keys);
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_user_dashboard_aggregates__notify() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_user_dashboard_aggregates__notify() IS 'Tells of days whose counts changed.';

CREATE FUNCTION app_private.tg_user_settings__replan() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  changed uuid[];
begin
  if tg_op = 'INSERT' then
    -- A user without settings counts as one with these.
    select array_agg(user_id)
    into changed
    from new_rows
    where (birthday_messages, anniversary_messages, weekly_digest, locale)
      is distinct from (true, true, true, 'en');
  else
    select array_agg(new_rows.user_id)
    into changed
    from new_rows
    inner join old_rows on old_rows.user_id = new_rows.user_id
    where (new_rows.birthday_messages, new_rows.anniversary_messages,
        new_rows.weekly_digest, new_rows.locale)
      is distinct from (old_rows.birthday_messages, old_rows.anniversary_messages,
        old_rows.weekly_digest, old_rows.locale);
  end if;
  if changed is not null then
    perform app_private.replan_messages(changed);
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_user_settings__replan() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_user_settings__replan() IS 'Messages that have not gone out follow the user''s wishes.';

CREATE FUNCTION app_private.tg_users__close() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform app_private.revoke_sessions(new.id, null, 'account');
  return null;
end
$$;

ALTER FUNCTION app_private.tg_users__close() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_users__close() IS 'Closing an account ends its sessions.';

CREATE FUNCTION app_private.tg_users__replan() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  changed uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(new_rows.id) into changed from new_rows;
    if changed is not null then
      perform app_private.schedule_messages(changed);
    end if;
    return null;
  end if;
  select array_agg(new_rows.id)
  into changed
  from new_rows
  inner join old_rows on old_rows.id = new_rows.id
  where (new_rows.timezone, new_rows.birthday_date, new_rows.anniversary_date,
      new_rows.send_time, new_rows.leap_day_policy, new_rows.deleted_at is null,
      new_rows.first_name, new_rows.last_name)
    is distinct from (old_rows.timezone, old_rows.birthday_date, old_rows.anniversary_date,
      old_rows.send_time, old_rows.leap_day_policy, old_rows.deleted_at is null,
      old_rows.first_name, old_rows.last_name);
  if changed is not null then
    perform app_private.replan_messages(changed);
  end if;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_users__replan() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_users__replan() IS 'Messages that have not gone out follow the user.';

CREATE FUNCTION app_private.tg_users__subscribe() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  insert into app_public.subscriptions (user_id) values (new.id) on conflict do nothing;
  return null;
end
$$;

ALTER FUNCTION app_private.tg_users__subscribe() OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.tg_users__subscribe() IS 'Every user has a subscription, free at first.';

CREATE FUNCTION app_private.unsubscribe(p_user_id uuid, p_message_type text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
  insert into app_public.user_settings as settings
    (user_id, birthday_messages, anniversary_messages, weekly_digest)
  select id, p_message_type <> 'BIRTHDAY', p_message_type <> 'ANNIVERSARY',
    p_message_type <> 'DIGEST'
  from app_public.users
  where id = p_user_id
  on conflict (user_id) do update
  set birthday_messages = settings.birthday_messages and excluded.birthday_messages,
    anniversary_messages = settings.anniversary_messages and excluded.anniversary_messages,
    weekly_digest = settings.weekly_digest and excluded.weekly_digest
  -- What is off already is not written again.
  where settings.birthday_messages and not excluded.birthday_messages
    or settings.anniversary_messages and not excluded.anniversary_messages
    or settings.weekly_digest and not excluded.weekly_digest
$$;

ALTER FUNCTION app_private.unsubscribe(p_user_id uuid, p_message_type text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.unsubscribe(p_user_id uuid, p_message_type text) IS 'Turns one type of messages off for a user: BIRTHDAY, ANNIVERSARY or DIGEST. Does nothing when it is off, or when the user is gone.';

CREATE FUNCTION app_private.watch_live(p_user_ids uuid[]) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query
    with known as (
      select live_users.user_id
      from app_private.live_users
      where live_users.user_id = any (p_user_ids)
        and live_users.expires_at > clock_timestamp()
    ),
    leased as (
      insert into app_private.live_users as live_users (user_id, expires_at)
      select asked.user_id, clock_timestamp() + interval '2 minutes'
      -- In one order, so that two processes cannot wait for each other.
      from (select distinct unnest(p_user_ids) as user_id order by 1) as asked
      on conflict (user_id) do update
        set expires_at = greatest(live_users.expires_at, excluded.expires_at)
      returning live_users.user_id
    )
    select leased.user_id from leased
    except
    select known.user_id from known;
  delete from app_private.live_users
  where user_id in (
    select expired.user_id
    from app_private.live_users as expired
    where expired.expires_at < clock_timestamp()
    for update skip locked
  );
end
$$;

ALTER FUNCTION app_private.watch_live(p_user_ids uuid[]) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.watch_live(p_user_ids uuid[]) IS 'Keeps these users watched for two minutes; returns those that were not watched before.';

CREATE FUNCTION app_private.without_addresses(p_text text, p_length integer) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
  select case when pg_catalog.length(hidden.text) > p_length
    then pg_catalog.left(hidden.text, p_length) || '…' else hidden.text end
  from (
    select pg_catalog.regexp_replace(
      pg_catalog.regexp_replace(
        p_text, '[^\s<>"'',;:()]+@[^\s<>"'',;:()]+', '<address>', 'g'),
      '\s+', ' ', 'g')
  ) as hidden (text)
$$;

ALTER FUNCTION app_private.without_addresses(p_text text, p_length integer) OWNER TO gw_owner;

COMMENT ON FUNCTION app_private.without_addresses(p_text text, p_length integer) IS 'A text on one line, e-mail addresses hidden, cut to a length in characters.';

CREATE TABLE app_public.chat_vectors (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    chat_id uuid NOT NULL,
    message_id uuid,
    content text NOT NULL,
    embedding public.vector(1536) NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT chat_vectors_content_check CHECK (((length(content) >= 1) AND (length(content) <= 200000))),
    CONSTRAINT chat_vectors_embedding_check CHECK ((public.vector_norm(embedding) > (0)::double precision)),
    CONSTRAINT chat_vectors_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text))
);

ALTER TABLE app_public.chat_vectors OWNER TO gw_owner;

COMMENT ON TABLE app_public.chat_vectors IS '@behavior -insert
A text that a chat remembers by its embedding. Added by addChatVector, found by searchChatVectors.';

COMMENT ON COLUMN app_public.chat_vectors.user_id IS 'Whose chat it belongs to.';

COMMENT ON COLUMN app_public.chat_vectors.id IS 'Unique among the user''s vectors.';

COMMENT ON COLUMN app_public.chat_vectors.chat_id IS 'The chat that it belongs to.';

COMMENT ON COLUMN app_public.chat_vectors.message_id IS 'The message of the chat that it is of, or a piece of; null when of none.';

COMMENT ON COLUMN app_public.chat_vectors.content IS 'The text that was embedded, 1 to 200,000 characters.';

COMMENT ON COLUMN app_public.chat_vectors.embedding IS '@behavior -attribute:select -attribute:insert -attribute:update -attribute:filterBy -attribute:orderBy -condition:attribute:filterBy
1536 numbers: where the text lies.';

COMMENT ON COLUMN app_public.chat_vectors.metadata IS 'A JSON object.';

COMMENT ON COLUMN app_public.chat_vectors.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.chat_vectors.updated_at IS 'When the row last changed.';

CREATE FUNCTION app_public.add_chat_vector(chat_id uuid, content text, embedding double precision[], message_id uuid DEFAULT NULL::uuid, metadata jsonb DEFAULT '{}'::jsonb) RETURNS app_public.chat_vectors
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION app_public.add_chat_vector(chat_id uuid, content text, embedding double precision[], message_id uuid, metadata jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.add_chat_vector(chat_id uuid, content text, embedding double precision[], message_id uuid, metadata jsonb) IS 'Adds a text and its embedding of 1536 numbers to a chat. Errors: VALIDATION_FAILED (embedding), FOREIGN_KEY_VIOLATION (chatId, messageId), CHECK_VIOLATION (content, metadata).';

CREATE FUNCTION app_public.compare_snapshots(before_id uuid, after_id uuid) RETURNS SETOF app_public.snapshot_difference
    LANGUAGE sql STABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(older.key, newer.key),
    coalesce(older.value, 0),
    coalesce(newer.value, 0),
    coalesce(newer.value, 0) - coalesce(older.value, 0)
  from (
    select pair.key, pair.value::bigint as value
    from app_public.snapshots
    cross join lateral jsonb_each_text(snapshots.content) as pair
    where snapshots.user_id = app_hidden.current_app_user_id()
      and snapshots.id = before_id
  ) as older
  full join (
    select pair.key, pair.value::bigint as value
    from app_public.snapshots
    cross join lateral jsonb_each_text(snapshots.content) as pair
    where snapshots.user_id = app_hidden.current_app_user_id()
      and snapshots.id = after_id
  ) as newer on newer.key = older.key
  where (
    select count(*) from app_public.snapshots
    where snapshots.user_id = app_hidden.current_app_user_id()
      and snapshots.id in (before_id, after_id)
  ) = 2
  order by 1
$$;

ALTER FUNCTION app_public.compare_snapshots(before_id uuid, after_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.compare_snapshots(before_id uuid, after_id uuid) IS 'What became of each count between two of your snapshots. Empty when you have not both.';

CREATE TABLE app_public.subscriptions (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    tier text DEFAULT 'free'::text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    stripe_customer_id text,
    stripe_subscription_id text,
    current_period_start timestamp with time zone DEFAULT now() NOT NULL,
    current_period_end timestamp with time zone DEFAULT (now() + '1 mon'::interval) NOT NULL,
    usage_count integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT subscriptions_current_period_check CHECK ((current_period_start < current_period_end)),
    CONSTRAINT subscriptions_status_check CHECK ((status = ANY (ARRAY['active'::text, 'canceled'::text, 'past_due'::text, 'trialing'::text, 'incomplete'::text, 'incomplete_expired'::text, 'unpaid'::text, 'paused'::text]))),
    CONSTRAINT subscriptions_stripe_customer_id_check CHECK ((stripe_customer_id ~ '^cus_[A-Za-z0-9]{1,250}$'::text)),
    CONSTRAINT subscriptions_stripe_ids_check CHECK (((stripe_subscription_id IS NULL) OR (stripe_customer_id IS NOT NULL))),
    CONSTRAINT subscriptions_stripe_subscription_id_check CHECK ((stripe_subscription_id ~ '^sub_[A-Za-z0-9]{1,250}$'::text)),
    CONSTRAINT subscriptions_tier_check CHECK ((tier = ANY (ARRAY['free'::text, 'pro'::text, 'team'::text]))),
    CONSTRAINT subscriptions_usage_count_check CHECK ((usage_count >= 0))
);

ALTER TABLE app_public.subscriptions OWNER TO gw_owner;

COMMENT ON TABLE app_public.subscriptions IS '@name user_subscriptions
@behavior -insert -update -delete
What a user has subscribed to, and how much of it is used.';

COMMENT ON COLUMN app_public.subscriptions.user_id IS 'Whose subscription it is.';

COMMENT ON COLUMN app_public.subscriptions.tier IS 'free, pro or team.';

COMMENT ON COLUMN app_public.subscriptions.status IS 'Stripe''s word: active, trialing, past_due, incomplete, incomplete_expired, unpaid, paused or canceled. Only the first three give the tier''s limit; the others give that of free.';

COMMENT ON COLUMN app_public.subscriptions.stripe_customer_id IS 'The customer at Stripe; null until there is one.';

COMMENT ON COLUMN app_public.subscriptions.stripe_subscription_id IS 'The latest subscription at Stripe; null until there is one.';

COMMENT ON COLUMN app_public.subscriptions.current_period_start IS 'When usage_count began at 0.';

COMMENT ON COLUMN app_public.subscriptions.current_period_end IS 'When usage_count begins at 0 again. In the past: with the next use.';

COMMENT ON COLUMN app_public.subscriptions.usage_count IS 'How much was used in this period. Counted by consumeUsage.';

COMMENT ON COLUMN app_public.subscriptions.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.subscriptions.updated_at IS 'When the row last changed.';

CREATE FUNCTION app_public.consume_usage(n integer DEFAULT 1) RETURNS app_public.subscriptions
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  caller uuid := app_hidden.current_app_user_id();
  subscription app_public.subscriptions;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  if n is null or n < 1 then
    raise exception 'n must be at least 1' using errcode = 'GW002', column = 'n';
  end if;

  -- One statement: whoever waits for the row sees what the others have used, in SET and
  -- in WHERE. A period that is over counts as used by nothing. If Stripe renews it, its
  -- event names the same start, and may arrive after this.
  update app_public.subscriptions
  set usage_count = n + case when current_period_end > now() then usage_count else 0 end,
    current_period_start = case
      when current_period_end > now() then current_period_start
      else app_private.latest_period_start(current_period_end, now())
    end,
    current_period_end = case
      when current_period_end > now() then current_period_end
      else app_private.latest_period_start(current_period_end, now()) + interval '1 month'
    end
  where subscriptions.user_id = caller
    -- bigint: n may be as large as an integer can be.
    and n::bigint + case when current_period_end > now() then usage_count else 0 end
      <= app_private.monthly_limit(tier, status)
  returning subscriptions.* into subscription;
  if found then
    return subscription;
  end if;

  select subscriptions.* into subscription
  from app_public.subscriptions
  where subscriptions.user_id = caller;
  if not found then
    raise exception 'user % has no subscription', caller;
  end if;
  raise exception 'the limit of % in a period would be passed',
      app_private.monthly_limit(subscription.tier, subscription.status)
    using errcode = 'GW020',
      hint = pg_catalog.format('%s are used; the count begins again at %s.',
        case when subscription.current_period_end > now()
          then subscription.usage_count else 0 end,
        greatest(subscription.current_period_end, now()));
end
$$;

ALTER FUNCTION app_public.consume_usage(n integer) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.consume_usage(n integer) IS 'Counts n uses of the signed-in user, or none when they would pass the limit. Errors: USAGE_LIMIT_REACHED, VALIDATION_FAILED (n), UNAUTHENTICATED.';

CREATE FUNCTION app_public.continue_as_guest(timezone text DEFAULT 'UTC'::text) RETURNS app_public.session_tokens
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  new_user_id uuid;
begin
  insert into app_public.users (is_guest, first_name, timezone)
  values (true, 'Guest', continue_as_guest.timezone)
  returning id into new_user_id;
  insert into app_public.user_settings (user_id) values (new_user_id);
  return app_private.start_session(new_user_id);
end
$$;

ALTER FUNCTION app_public.continue_as_guest(timezone text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.continue_as_guest(timezone text) IS 'Makes an account without e-mail and signs in. Keep the refresh token: there is no other way back.';

CREATE TABLE app_public.habits (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    archived_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT habits_description_check CHECK ((length(description) <= 20000)),
    CONSTRAINT habits_name_check CHECK ((((length(name) >= 1) AND (length(name) <= 200)) AND (name !~ '^\s+$'::text)))
);

ALTER TABLE app_public.habits OWNER TO gw_owner;

COMMENT ON TABLE app_public.habits IS 'A daily activity that a user keeps up.';

COMMENT ON COLUMN app_public.habits.user_id IS 'Whose habit it is.';

COMMENT ON COLUMN app_public.habits.id IS 'Unique among the user''s habits.';

COMMENT ON COLUMN app_public.habits.name IS '1 to 200 characters.';

COMMENT ON COLUMN app_public.habits.description IS 'At most 20,000 characters.';

COMMENT ON COLUMN app_public.habits.archived_at IS 'When the habit was given up; null while it is kept.';

COMMENT ON COLUMN app_public.habits.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.habits.updated_at IS 'When the row last changed.';

CREATE FUNCTION app_public.habits_longest_streak(habit app_public.habits) RETURNS integer
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(max(run.days), 0)::integer
  from (
    select count(*) as days
    from (
      select habit_logs.log_date
        - row_number() over (order by habit_logs.log_date)::integer as run
      from app_public.habit_logs
      where habit_logs.user_id = habit.user_id
        and habit_logs.habit_id = habit.id
    ) as numbered
    group by numbered.run
  ) as run
$$;

ALTER FUNCTION app_public.habits_longest_streak(habit app_public.habits) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.habits_longest_streak(habit app_public.habits) IS 'The most days in a row on which the habit was ever kept.';

CREATE FUNCTION app_public.habits_streak(habit app_public.habits) RETURNS integer
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with today as (
    select (now() at time zone users.timezone)::date as day
    from app_public.users
    where users.id = habit.user_id
  ),
  days as (
    select habit_logs.log_date,
      habit_logs.log_date
        + row_number() over (order by habit_logs.log_date desc)::integer as run
    from app_public.habit_logs
    inner join today on habit_logs.log_date <= today.day
    where habit_logs.user_id = habit.user_id
      and habit_logs.habit_id = habit.id
  )
  select count(*)::integer
  from days
  cross join today
  where days.run = (select max(run) from days)
    and (select max(log_date) from days) >= today.day - 1
$$;

ALTER FUNCTION app_public.habits_streak(habit app_public.habits) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.habits_streak(habit app_public.habits) IS 'Days in a row on which the habit was kept, up to today or, while today is not over, yesterday; 0 when neither.';

CREATE FUNCTION app_public.insights(weeks integer DEFAULT 12) RETURNS SETOF app_public.insight_week
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  caller uuid := app_hidden.current_app_user_id();
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  if weeks is null or weeks not between 1 and 100 then
    raise exception 'weeks must be between 1 and 100' using errcode = 'GW002';
  end if;
  return query
  select insight_week.*
  from jsonb_populate_recordset(
    null::app_public.insight_week, app_private.cached_insights(caller, weeks)
  ) as insight_week;
end
$$;

ALTER FUNCTION app_public.insights(weeks integer) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.insights(weeks integer) IS 'Your last weeks, this one included, for charts: at most 100, oldest first.';

CREATE FUNCTION app_public.login(email text, password text) RETURNS app_public.session_tokens
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  -- The hash of a random string that was thrown away.
  nobody constant text := '$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5B0x8A8Qv7lQ0i0m6G3nS3nq2mYyS';
  secret app_private.user_secrets;
  is_locked boolean;
  is_right boolean;
begin
  select user_secrets.* into secret
  from app_public.users
  inner join app_private.user_secrets on user_secrets.user_id = users.id
  where lower(users.email) = lower(trim(login.email))
    and users.deleted_at is null
  -- Parallel guesses at one account take turns, so that each is counted.
  for no key update of user_secrets;

  is_right := public.crypt(password, coalesce(secret.password_hash, nobody))
      = coalesce(secret.password_hash, '')
    and octet_length(password) <= 72;
  is_locked := secret.failed_attempts >= 20
    and secret.last_failed_at > now() - interval '15 minutes';

  if secret.user_id is null then
    return null;
  end if;
  if is_locked then
    return null;
  end if;
  if not is_right then
    update app_private.user_secrets
    set failed_attempts = case
        when last_failed_at > now() - interval '15 minutes' then failed_attempts + 1
        else 1
      end,
      last_failed_at = now()
    where user_id = secret.user_id;
    return null;
  end if;

  if secret.failed_attempts > 0 then
    update app_private.user_secrets
    set failed_attempts = 0, last_failed_at = null
    where user_id = secret.user_id;
  end if;

  -- An account that was closed meanwhile stays closed.
  update app_public.users
  set last_login_at = now()
  where users.id = secret.user_id
    and users.deleted_at is null;
  if not found then
    return null;
  end if;
  return app_private.start_session(secret.user_id);
end
$_$;

ALTER FUNCTION app_public.login(email text, password text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.login(email text, password text) IS 'Signs in. Error: INVALID_CREDENTIALS, after the same time whether or not the e-mail is known; also for 15 minutes after 20 wrong passwords.';

CREATE FUNCTION app_public.logout(everywhere boolean DEFAULT false) RETURNS integer
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  caller uuid := app_hidden.current_app_user_id();
  session_id uuid := nullif(current_setting('app.current_session_id', true), '')::uuid;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  if session_id is null and not everywhere then
    return 0;
  end if;
  return app_private.revoke_sessions(
    caller, case when not everywhere then session_id end, 'logout');
end
$$;

ALTER FUNCTION app_public.logout(everywhere boolean) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.logout(everywhere boolean) IS 'Ends this session, or all sessions of the user when everywhere is true. Returns how many ended. Their access tokens stop working too.';

CREATE FUNCTION app_public.refresh_session(refresh_token text) RETURNS app_public.session_tokens
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  given bytea := sha256(convert_to(refresh_token, 'UTF8'));
  next_token text := encode(public.gen_random_bytes(32), 'hex');
  session app_private.sessions;
begin
  -- Of two calls with one token, the second waits here, then finds the token spent.
  update app_private.sessions
  set refresh_token_hash = sha256(convert_to(next_token, 'UTF8')),
    last_used_at = now(),
    expires_at = now() + interval '30 days'
  where refresh_token_hash = given
    and revoked_at is null
    and expires_at > now()
    and exists (
      select from app_public.users
      where users.id = sessions.user_id
        and users.deleted_at is null
    )
  returning * into session;

  if found then
    insert into app_private.spent_refresh_tokens (user_id, session_id, refresh_token_hash)
    values (session.user_id, session.id, given);
    return row(
      session.user_id,
      row(session.user_id, session.id,
        extract(epoch from now() + interval '15 minutes')::bigint)::app_public.access_token,
      next_token,
      session.expires_at
    )::app_public.session_tokens;
  end if;

  -- Spent before: somebody has a copy. Who is who cannot be told, so the session ends.
  perform app_private.revoke_sessions(spent.user_id, spent.session_id, 'reuse')
  from app_private.spent_refresh_tokens as spent
  where spent.refresh_token_hash = given;
  return null;
end
$$;

ALTER FUNCTION app_public.refresh_session(refresh_token text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.refresh_session(refresh_token text) IS 'Exchanges a refresh token for new tokens. Each works once: using one again ends the session. Error: INVALID_REFRESH_TOKEN.';

CREATE FUNCTION app_public.register(email text, password text, first_name text, last_name text DEFAULT ''::text, timezone text DEFAULT 'UTC'::text) RETURNS app_public.session_tokens
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  -- Hashed first: an e-mail that is taken costs the same time as one that is free.
  hash text := app_private.hash_password(password);
  new_user_id uuid;
begin
  insert into app_public.users (email, first_name, last_name, timezone, last_login_at)
  values (trim(register.email), trim(register.first_name), trim(register.last_name),
    register.timezone, now())
  returning id into new_user_id;
  insert into app_private.user_secrets (user_id, password_hash) values (new_user_id, hash);
  insert into app_public.user_settings (user_id) values (new_user_id);
  return app_private.start_session(new_user_id);
end
$$;

ALTER FUNCTION app_public.register(email text, password text, first_name text, last_name text, timezone text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.register(email text, password text, first_name text, last_name text, timezone text) IS 'Makes an account and signs in. Errors: UNIQUE_VIOLATION (email), CHECK_VIOLATION (email, firstName, lastName), FOREIGN_KEY_VIOLATION (timezone), VALIDATION_FAILED (password).';

CREATE TABLE app_public.project_visualizations (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    project_id uuid NOT NULL,
    slide_number integer NOT NULL,
    title text DEFAULT ''::text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    annotations jsonb DEFAULT '[]'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT project_visualizations_annotations_check CHECK ((jsonb_typeof(annotations) = 'array'::text)),
    CONSTRAINT project_visualizations_data_check CHECK ((jsonb_typeof(data) = 'object'::text)),
    CONSTRAINT project_visualizations_slide_number_check CHECK ((slide_number >= 1)),
    CONSTRAINT project_visualizations_title_check CHECK ((length(title) <= 200))
);

ALTER TABLE app_public.project_visualizations OWNER TO gw_owner;

COMMENT ON TABLE app_public.project_visualizations IS 'A visualization of a project, shown as a slide. Deleting the project deletes it.';

COMMENT ON COLUMN app_public.project_visualizations.user_id IS 'Whose project it is in.';

COMMENT ON COLUMN app_public.project_visualizations.id IS 'Unique among the user''s visualizations. A client may choose it, to make retries safe.';

COMMENT ON COLUMN app_public.project_visualizations.project_id IS 'The project that it is in.';

COMMENT ON COLUMN app_public.project_visualizations.slide_number IS 'Its place among the slides of the project, 1 first; unique there. Gaps are allowed.';

COMMENT ON COLUMN app_public.project_visualizations.title IS 'At most 200 characters.';

COMMENT ON COLUMN app_public.project_visualizations.data IS 'A JSON object: what is shown.';

COMMENT ON COLUMN app_public.project_visualizations.annotations IS 'A JSON array of what is written on it.';

COMMENT ON COLUMN app_public.project_visualizations.created_at IS 'When the visualization was made.';

COMMENT ON COLUMN app_public.project_visualizations.updated_at IS 'When the visualization last changed.';

CREATE FUNCTION app_public.reorder_visualizations(project_id uuid, visualization_ids uuid[]) RETURNS SETOF app_public.project_visualizations
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  caller uuid := app_hidden.current_app_user_id();
  present uuid[];
begin
  -- A slide that is being added holds a weaker lock on its project, and one that is being
  -- reordered this one: both are over before the slides are counted.
  perform
  from app_public.projects
  where projects.user_id = caller
    and projects.id = reorder_visualizations.project_id
  for update;
  -- Somebody else's project looks like one that does not exist, and like a wrong list.
  if not found then
    visualization_ids := null;
  end if;
  -- Locked as well: one that is being deleted, or moved by itself, is waited for.
  present := array(
    select locked.id
    from (
      select project_visualizations.id
      from app_public.project_visualizations
      where project_visualizations.user_id = caller
        and project_visualizations.project_id = reorder_visualizations.project_id
      order by project_visualizations.id
      for no key update
    ) as locked
    order by locked.id
  );
  if present is distinct from array(
      select given.id
      from unnest(reorder_visualizations.visualization_ids) as given (id)
      order by given.id
    )
    or reorder_visualizations.visualization_ids is null
  then
    raise exception 'name each visualization of the project exactly once'
      using errcode = 'GW021',
        column = 'visualization_ids',
        hint = 'Read the visualizations again: some were added or deleted.';
  end if;

  -- One statement, so that numbers may be exchanged.
  update app_public.project_visualizations
  set slide_number = given.place
  from unnest(reorder_visualizations.visualization_ids)
    with ordinality as given (id, place)
  where project_visualizations.user_id = caller
    and project_visualizations.id = given.id
    and project_visualizations.slide_number <> given.place;

  return query
    select project_visualizations.*
    from app_public.project_visualizations
    where project_visualizations.user_id = caller
      and project_visualizations.project_id = reorder_visualizations.project_id
    order by project_visualizations.slide_number;
end
$$;

ALTER FUNCTION app_public.reorder_visualizations(project_id uuid, visualization_ids uuid[]) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.reorder_visualizations(project_id uuid, visualization_ids uuid[]) IS 'Numbers the slides of a project 1, 2, 3 in the order given, all or none. Error: VALIDATION_FAILED (visualizationIds) unless each of its slides is named exactly once.';

CREATE FUNCTION app_public.search_chat_vectors(query_embedding double precision[], match_count integer DEFAULT 10, chat_id uuid DEFAULT NULL::uuid) RETURNS SETOF app_public.chat_vector_match
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION app_public.search_chat_vectors(query_embedding double precision[], match_count integer, chat_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.search_chat_vectors(query_embedding double precision[], match_count integer, chat_id uuid) IS 'Your texts nearest to an embedding of 1536 numbers, nearest first; of one chat or, without chatId, of all. At most matchCount (10 unless told, at most 100). Error: VALIDATION_FAILED (queryEmbedding).';

CREATE TABLE app_public.tasks (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    title text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    status text DEFAULT 'todo'::text NOT NULL,
    priority text DEFAULT 'medium'::text NOT NULL,
    due_date date,
    completed_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    project_id uuid,
    list_id uuid,
    position_in_list integer,
    search tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, ((title || ' '::text) || description))) STORED NOT NULL,
    CONSTRAINT tasks_completed_at_check CHECK (((completed_at IS NOT NULL) = (status = 'done'::text))),
    CONSTRAINT tasks_description_check CHECK ((length(description) <= 20000)),
    CONSTRAINT tasks_due_date_check CHECK (((due_date >= '1970-01-01'::date) AND (due_date <= '9999-12-31'::date))),
    CONSTRAINT tasks_position_in_list_check CHECK ((position_in_list >= 0)),
    CONSTRAINT tasks_priority_check CHECK ((priority = ANY (ARRAY['low'::text, 'medium'::text, 'high'::text, 'urgent'::text]))),
    CONSTRAINT tasks_status_check CHECK ((status = ANY (ARRAY['todo'::text, 'in_progress'::text, 'done'::text, 'canceled'::text]))),
    CONSTRAINT tasks_title_check CHECK ((((length(title) >= 1) AND (length(title) <= 500)) AND (title !~ '^\s+$'::text)))
)
PARTITION BY HASH (user_id);

ALTER TABLE app_public.tasks OWNER TO gw_owner;

COMMENT ON TABLE app_public.tasks IS 'Something a user means to do.';

COMMENT ON COLUMN app_public.tasks.user_id IS 'Whose task it is: the user who made it.';

COMMENT ON COLUMN app_public.tasks.id IS 'Unique among the user''s tasks. A client may choose it, to make retries safe.';

COMMENT ON COLUMN app_public.tasks.title IS '1 to 500 characters.';

COMMENT ON COLUMN app_public.tasks.description IS 'At most 20,000 characters.';

COMMENT ON COLUMN app_public.tasks.status IS 'todo, in_progress, done or canceled.';

COMMENT ON COLUMN app_public.tasks.priority IS 'low, medium, high or urgent.';

COMMENT ON COLUMN app_public.tasks.due_date IS 'The day by which it should be done, in the user''s time zone.';

COMMENT ON COLUMN app_public.tasks.completed_at IS 'When status became done; null in any other status.';

COMMENT ON COLUMN app_public.tasks.created_at IS 'When the task was made.';

COMMENT ON COLUMN app_public.tasks.updated_at IS 'When the task last changed.';

COMMENT ON COLUMN app_public.tasks.project_id IS 'The project that the task belongs to.';

COMMENT ON COLUMN app_public.tasks.list_id IS 'The list that the task stands in.';

COMMENT ON COLUMN app_public.tasks.position_in_list IS 'Its place in the list, 0 first. Equal places are allowed.';

COMMENT ON COLUMN app_public.tasks.search IS '@behavior -attribute:select -attribute:filterBy -attribute:orderBy -condition:attribute:filterBy
What search_tasks() looks in.';

CREATE FUNCTION app_public.search_tasks(query text) RETURNS SETOF app_public.tasks
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select tasks.*
  from app_public.tasks
  where tasks.user_id = app_hidden.current_app_user_id()
    and tasks.search @@ websearch_to_tsquery('english', search_tasks.query)
  order by ts_rank(tasks.search, websearch_to_tsquery('english', search_tasks.query)) desc,
    tasks.created_at desc, tasks.id
$$;

ALTER FUNCTION app_public.search_tasks(query text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.search_tasks(query text) IS 'Your tasks that match words in title or description, best first. Understands quotes, or, and a minus sign, as web searches do.';

CREATE FUNCTION app_public.subscriptions_monthly_limit(subscription app_public.subscriptions) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select app_private.monthly_limit(subscription.tier, subscription.status)
$$;

ALTER FUNCTION app_public.subscriptions_monthly_limit(subscription app_public.subscriptions) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.subscriptions_monthly_limit(subscription app_public.subscriptions) IS 'How much may be used in a period, by tier and status.';

CREATE TABLE app_public.snapshots (
    user_id uuid NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    content jsonb NOT NULL,
    taken_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT snapshots_content_check CHECK ((jsonb_typeof(content) = 'object'::text)),
    CONSTRAINT snapshots_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)))
);

ALTER TABLE app_public.snapshots OWNER TO gw_owner;

COMMENT ON TABLE app_public.snapshots IS 'How things stood at a moment.';

COMMENT ON COLUMN app_public.snapshots.user_id IS 'Whose things.';

COMMENT ON COLUMN app_public.snapshots.id IS 'Unique among the user''s snapshots.';

COMMENT ON COLUMN app_public.snapshots.name IS '1 to 200 characters.';

COMMENT ON COLUMN app_public.snapshots.content IS 'A JSON object of counts, such as tasks_done.';

COMMENT ON COLUMN app_public.snapshots.taken_at IS 'The moment.';

CREATE FUNCTION app_public.take_snapshot(name text) RETURNS app_public.snapshots
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  caller uuid := app_hidden.current_app_user_id();
  taken app_public.snapshots;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  insert into app_public.snapshots (user_id, name, content)
  select caller, take_snapshot.name, jsonb_build_object(
    'tasks_total', tasks.total,
    'tasks_done', tasks.done,
    'tasks_open', tasks.open,
    'goals_total', goals.total,
    'goals_achieved', goals.achieved,
    'habits_total', habits.total,
    'habit_days', (select count(*) from app_public.habit_logs where user_id = caller),
    'reflections_total', (select count(*) from app_public.reflections where user_id = caller))
  from (
    select count(*) as total,
      count(*) filter (where status = 'done') as done,
      count(*) filter (where status in ('todo', 'in_progress')) as open
    from app_public.tasks
    where user_id = caller
  ) as tasks
  cross join (
    select count(*) as total, count(*) filter (where status = 'achieved') as achieved
    from app_public.goals
    where user_id = caller
  ) as goals
  cross join (
    select count(*) as total from app_public.habits where user_id = caller
  ) as habits
  returning * into taken;
  return taken;
end
$$;

ALTER FUNCTION app_public.take_snapshot(name text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.take_snapshot(name text) IS 'Counts your tasks, goals, habits and reflections as they are now, and keeps the counts.';

CREATE TABLE app_public.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email text,
    email_verified boolean DEFAULT false NOT NULL,
    is_guest boolean DEFAULT false NOT NULL,
    first_name text NOT NULL,
    last_name text DEFAULT ''::text NOT NULL,
    timezone text DEFAULT 'UTC'::text NOT NULL,
    birthday_date date,
    anniversary_date date,
    send_time time without time zone DEFAULT '09:00:00'::time without time zone NOT NULL,
    leap_day_policy text DEFAULT 'feb28'::text NOT NULL,
    location_city text,
    location_country text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    last_login_at timestamp with time zone,
    CONSTRAINT users_anniversary_date_check CHECK (((anniversary_date >= '1604-01-01'::date) AND (anniversary_date <= '2200-01-01'::date))),
    CONSTRAINT users_birthday_date_check CHECK (((birthday_date >= '1604-01-01'::date) AND (birthday_date <= '2200-01-01'::date))),
    CONSTRAINT users_email_check CHECK (((length(email) <= 254) AND (email ~ '^[^@\s[:cntrl:]]+@[^@\s[:cntrl:]]+\.[^@\s[:cntrl:]]+$'::text))),
    CONSTRAINT users_first_name_check CHECK ((((length(first_name) >= 1) AND (length(first_name) <= 100)) AND (first_name !~ '[[:cntrl:]]'::text))),
    CONSTRAINT users_guest_email_check CHECK ((is_guest = (email IS NULL))),
    CONSTRAINT users_last_name_check CHECK (((length(last_name) <= 100) AND (last_name !~ '[[:cntrl:]]'::text))),
    CONSTRAINT users_leap_day_policy_check CHECK ((leap_day_policy = ANY (ARRAY['feb28'::text, 'mar1'::text, 'skip'::text]))),
    CONSTRAINT users_location_city_check CHECK ((length(location_city) <= 100)),
    CONSTRAINT users_location_country_check CHECK ((length(location_country) <= 100)),
    CONSTRAINT users_send_time_check CHECK ((send_time < '24:00:00'::time without time zone))
);

ALTER TABLE app_public.users OWNER TO gw_owner;

COMMENT ON TABLE app_public.users IS '@behavior -insert -delete
A person who uses the system. You see yourself only.';

COMMENT ON COLUMN app_public.users.id IS 'Never changes.';

COMMENT ON COLUMN app_public.users.email IS 'Address to sign in with, unique without regard to case. Null for guests.';

COMMENT ON COLUMN app_public.users.email_verified IS 'Whether the owner of the address has confirmed it.';

COMMENT ON COLUMN app_public.users.is_guest IS 'True until upgradeGuest gives the account an e-mail and a password.';

COMMENT ON COLUMN app_public.users.first_name IS 'Given name, 1 to 100 characters.';

COMMENT ON COLUMN app_public.users.last_name IS 'Family name, at most 100 characters.';

COMMENT ON COLUMN app_public.users.timezone IS 'IANA name of the time zone where the user lives, such as Asia/Kathmandu.';

COMMENT ON COLUMN app_public.users.birthday_date IS 'Date of birth. The year 1604 means that the year is not known.';

COMMENT ON COLUMN app_public.users.anniversary_date IS 'Date of the anniversary. The year 1604 means that the year is not known.';

COMMENT ON COLUMN app_public.users.send_time IS 'Local time of day at which messages are sent; 09:00 unless changed.';

COMMENT ON COLUMN app_public.users.leap_day_policy IS 'When February 29 is celebrated in other years: feb28, mar1, or skip.';

COMMENT ON COLUMN app_public.users.location_city IS 'City, as the user writes it.';

COMMENT ON COLUMN app_public.users.location_country IS 'Country, as the user writes it.';

COMMENT ON COLUMN app_public.users.created_at IS 'When the account was made.';

COMMENT ON COLUMN app_public.users.updated_at IS 'When the row last changed.';

COMMENT ON COLUMN app_public.users.deleted_at IS 'When the account was closed; null while open.';

COMMENT ON COLUMN app_public.users.last_login_at IS 'When the user last signed in with e-mail and password; null before the first time.';

CREATE FUNCTION app_public.upgrade_guest(email text, password text, first_name text, last_name text DEFAULT ''::text) RETURNS app_public.users
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  caller uuid := app_hidden.current_app_user_id();
  hash text;
  upgraded app_public.users;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  hash := app_private.hash_password(password);

  update app_public.users
  set is_guest = false,
    email = trim(upgrade_guest.email),
    first_name = trim(upgrade_guest.first_name),
    last_name = trim(upgrade_guest.last_name)
  where users.id = caller
    and users.is_guest
    and users.deleted_at is null
  returning * into upgraded;
  if not found then
    raise exception 'this account already has an e-mail and a password'
      using errcode = 'GW003';
  end if;
  insert into app_private.user_secrets (user_id, password_hash) values (caller, hash);
  return upgraded;
end
$$;

ALTER FUNCTION app_public.upgrade_guest(email text, password text, first_name text, last_name text) OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.upgrade_guest(email text, password text, first_name text, last_name text) IS 'Gives a guest''s account an e-mail and a password; everything in it stays. Errors: UNIQUE_VIOLATION (email), CHECK_VIOLATION (email, firstName, lastName), VALIDATION_FAILED (password), NOT_A_GUEST.';

CREATE FUNCTION app_public.viewer() RETURNS app_public.users
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  result app_public.users;
begin
  if app_hidden.current_app_user_id() is null then
    return null;
  end if;
  select users.* into result
  from app_public.users
  where users.id = app_hidden.current_app_user_id();
  if not found then
    return null;
  end if;
  return result;
end
$$;

ALTER FUNCTION app_public.viewer() OWNER TO gw_owner;

COMMENT ON FUNCTION app_public.viewer() IS 'The signed-in user, or null.';

CREATE FUNCTION ops.audit(action text, details jsonb DEFAULT '{}'::jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  entry ops.audit_log;
begin
  -- One at a time until the transaction ends: each row needs the one before it.
  perform pg_advisory_xact_lock(hashtextextended('ops.audit_log', 0));

  select audit_log_head.last_id + 1, audit_log_head.last_hash
  into strict entry.id, entry.prev_hash
  from ops.audit_log_head
  for update;
  entry.occurred_at := clock_timestamp();
  entry.actor := session_user;
  entry.application_name := current_setting('application_name');
  entry.client_address := inet_client_addr();
  entry.action := audit.action;
  entry.details := audit.details;
  entry.hash := ops.audit_log_hash(entry);

  insert into ops.audit_log values (entry.*);
  update ops.audit_log_head set last_id = entry.id, last_hash = entry.hash;
  return entry.id;
end
$$;

ALTER FUNCTION ops.audit(action text, details jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.audit(action text, details jsonb) IS 'Enters an act into the audit log. Returns the number of the row.';

CREATE TABLE ops.audit_log (
    id bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    application_name text NOT NULL,
    client_address inet,
    action text NOT NULL,
    details jsonb NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT audit_log_action_check CHECK ((action ~ '^[a-z][a-z0-9_.]{1,62}$'::text)),
    CONSTRAINT audit_log_details_check CHECK ((jsonb_typeof(details) = 'object'::text)),
    CONSTRAINT audit_log_hash_check CHECK (((octet_length(prev_hash) = 32) AND (octet_length(hash) = 32)))
);

ALTER TABLE ops.audit_log OWNER TO gw_owner;

COMMENT ON TABLE ops.audit_log IS 'What privileged hands did. Append-only, chained by hashes: see ops.verify_audit_log().';

COMMENT ON COLUMN ops.audit_log.id IS '1 and on, without gaps.';

COMMENT ON COLUMN ops.audit_log.actor IS 'The role that logged in (session_user).';

COMMENT ON COLUMN ops.audit_log.application_name IS 'What the session calls itself; pg_cron for jobs. It can claim anything.';

COMMENT ON COLUMN ops.audit_log.client_address IS 'Null for a local socket.';

COMMENT ON COLUMN ops.audit_log.action IS 'What was done, such as partition.dropped.';

COMMENT ON COLUMN ops.audit_log.prev_hash IS 'The hash of the row before; 32 zero bytes in the first.';

COMMENT ON COLUMN ops.audit_log.hash IS 'SHA-256 over the row''s other columns, by ops.audit_log_hash().';

CREATE FUNCTION ops.audit_log_hash(p_row ops.audit_log) RETURNS bytea
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select sha256(convert_to(jsonb_build_array(
    p_row.id, p_row.occurred_at, p_row.actor, p_row.application_name,
    p_row.client_address, p_row.action, p_row.details, encode(p_row.prev_hash, 'hex')
  )::text, 'UTF8'))
$$;

ALTER FUNCTION ops.audit_log_hash(p_row ops.audit_log) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.audit_log_hash(p_row ops.audit_log) IS 'What the hash of a row of the audit log has to be.';

CREATE FUNCTION ops.cancel_messages(p_reason text, p_statuses text[] DEFAULT NULL::text[], p_message_type text DEFAULT NULL::text, p_date date DEFAULT NULL::date, p_user_id uuid DEFAULT NULL::uuid, p_since timestamp with time zone DEFAULT NULL::timestamp with time zone, p_message_id uuid DEFAULT NULL::uuid, p_dry_run boolean DEFAULT false) RETURNS TABLE(user_id uuid, message_id uuid, message_type text, delivery_date date, status text, refusal text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  statuses constant text[] := coalesce(p_statuses,
    array['SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING']);
  judged jsonb;
  cancelled integer;
begin
  if not statuses <@ array['SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING'] then
    raise exception 'only SCHEDULED, QUEUED and RETRYING messages can be cancelled'
      using errcode = 'GW041', hint = 'The others do not go out.';
  end if;
  if coalesce(btrim(p_reason), '') = '' or length(p_reason) > 200 then
    raise exception 'a reason of 1 to 200 characters is needed'
      using errcode = 'GW041', hint = 'The message shows it to whoever asks.';
  end if;

  if not p_dry_run then
    perform from app_public.message_logs
    where (user_id, id, scheduled_send_time) in (
      select found.user_id, found.id, found.scheduled_send_time
      from app_private.find_messages(
        statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found)
    order by user_id, id
    for update;
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('user_id', found.user_id,
    'message_id', found.id, 'scheduled_send_time', found.scheduled_send_time,
    'message_type', found.message_type, 'delivery_date', found.delivery_date,
    'status', found.status, 'job_id', found.job_id)
    order by found.scheduled_send_time, found.user_id, found.id), '[]')
  into judged
  from app_private.find_messages(
    statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found;

  return query
  select found.user_id, found.message_id, found.message_type, found.delivery_date,
    found.status, case when found.status = 'SENDING' then 'the call is being made' end
  from jsonb_to_recordset(judged) as found (user_id uuid, message_id uuid,
    message_type text, delivery_date date, status text);
  if p_dry_run then
    return;
  end if;

  with changed as (
    update app_public.message_logs
    set status = 'CANCELLED', job_id = null,
      error_message = 'cancelled by a person: ' || btrim(p_reason),
      attempts = case when found.status = 'SCHEDULED' and message_logs.attempts is null
        then null
        else coalesce(message_logs.attempts, '[]') || jsonb_build_array(
          jsonb_strip_nulls(jsonb_build_object(
            'change', 'cancelled',
            'changed_at', now(),
            'changed_by', session_user,
            'status', found.status,
            'error', message_logs.error_message))) end
    from jsonb_to_recordset(judged) as found (
      user_id uuid, message_id uuid, scheduled_send_time timestamptz, status text)
    where found.status <> 'SENDING'
      and message_logs.user_id = found.user_id
      and message_logs.id = found.message_id
      and message_logs.scheduled_send_time = found.scheduled_send_time
    returning 1
  ),
  finished as (
    delete from pgboss.job
    using jsonb_to_recordset(judged) as found (status text, job_id uuid)
    where found.status <> 'SENDING'
      and job.name = 'message-send'
      and job.id = found.job_id
  )
  select count(*) into cancelled from changed;
  if cancelled > 0 then
    perform ops.audit('messages.cancelled', jsonb_strip_nulls(jsonb_build_object(
      'messages', cancelled,
      'reason', btrim(p_reason),
      'statuses', statuses,
      'type', p_message_type,
      'date', p_date,
      'user_id', p_user_id,
      'since', p_since,
      'message_id', p_message_id)));
  end if;
end
$$;

ALTER FUNCTION ops.cancel_messages(p_reason text, p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_dry_run boolean) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.cancel_messages(p_reason text, p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_dry_run boolean) IS 'Cancels what has not gone out, so that it is not planned again. Returns all that the filters match; what was refused has a reason.';

CREATE FUNCTION ops.check_health() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
declare
  due record;
  need text;
  missing text;
  is_missing boolean;
  findings jsonb;
  failure text;
  changed integer := 0;
begin
  -- The next minute's run does not wait for one that takes longer.
  if pg_is_in_recovery()
    or not pg_try_advisory_xact_lock(hashtextextended('ops.check_health', 0))
  then
    return 0;
  end if;

  for due in
    update ops.health_checks
    set ran_at = now()
    where health_checks.ran_at is null
      -- A minute's job starts some milliseconds early or late.
      or health_checks.ran_at <= now() - health_checks.every + interval '10 seconds'
    returning health_checks.name, health_checks.query, health_checks.needs
  loop
    findings := '[]';
    failure := null;
    missing := null;
    begin
      -- Until this block ends.
      perform set_config('transaction_read_only', 'on', true);
      foreach need in array due.needs loop
        is_missing := case
          when need like 'role %' then not pg_has_role(substr(need, 6), 'usage')
          when need like 'function %' then not exists (
            select from pg_proc
            where pronamespace::regnamespace || '.' || proname = substr(need, 10))
          else to_regclass(need) is null
        end;
        if is_missing then
          missing := need;
          -- What does not exist needs no check; what exists and is hidden does.
          if need like 'role %' then
            failure := 'cannot see: needs the ' || need;
          end if;
        end if;
      end loop;
      if missing is null then
        execute format(
          'select coalesce(jsonb_agg(to_jsonb(finding)), ''[]'') from (%s) as finding',
          due.query || chr(10)) into findings;
      end if;
    exception when others then
      failure := sqlstate || ': ' || sqlerrm;
    end;

    if failure is not null then
      changed := changed + ops.raise_alert('health-check-failed', due.name, 'warning',
        failure,
        'Correct sql/checks/health-' || due.name || '.sql, or grant what it needs.'
      )::integer;
      continue;
    end if;
    changed := changed + ops.resolve_alert('health-check-failed', due.name)::integer;

    select changed + count(*) filter (where ops.raise_alert('health-' || due.name,
      finding.object, finding.level, finding.detail, finding.remediation))
    into changed
    from jsonb_to_recordset(findings)
      as finding (level text, object text, detail text, remediation text);

    select changed + count(*)
      filter (where ops.resolve_alert(over.check_name, over.object))
    into changed
    from (
      select alerts.check_name, alerts.object
      from ops.alerts
      where alerts.check_name = 'health-' || due.name
        and alerts.resolved_at is null
        and not exists (
          select from jsonb_to_recordset(findings) as finding (object text)
          where coalesce(finding.object, '') = alerts.object
        )
      -- Before any is resolved, not while.
      offset 0
    ) as over;
  end loop;

  return changed + ops.settle_alerts();
end
$$;

ALTER FUNCTION ops.check_health() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.check_health() IS 'Runs the health checks that are due, raises alerts for what they find and resolves those of what they find no more. Returns how many alerts opened, changed their level or were resolved.';

CREATE FUNCTION ops.column_widths() RETURNS TABLE(relation oid, attribute name, null_frac real, avg_width integer)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select pg_class.oid, pg_stats.attname, pg_stats.null_frac, pg_stats.avg_width
  from pg_stats
  inner join pg_namespace on pg_namespace.nspname = pg_stats.schemaname
  inner join pg_class on pg_class.relnamespace = pg_namespace.oid
    and pg_class.relname = pg_stats.tablename
  where not pg_stats.inherited
    and pg_stats.schemaname !~ '^(pg_|information_schema$)'
$_$;

ALTER FUNCTION ops.column_widths() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.column_widths() IS 'Mean width in bytes and share of nulls of each analyzed column of the owner''s tables.';

CREATE FUNCTION ops.create_next_month_partition() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select ops.ensure_partitions()
$$;

ALTER FUNCTION ops.create_next_month_partition() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.create_next_month_partition() IS 'Creates every partition that the policies ask for, next month''s among them. Returns how many were created.';

CREATE FUNCTION ops.create_range_partition(p_parent regclass, p_instant timestamp with time zone, p_step interval) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
declare
  unit text := case when p_step = interval '1 day' then 'day' else 'month' end;
  range_start timestamptz := date_trunc(unit, p_instant);
  range_end timestamptz := date_trunc(unit, p_instant) + p_step;
  parent_name text;
  partition_key text;
  partition_name text;
  default_partition regclass;
  written_columns text;
  moved boolean;
begin
  select pg_class.relname, pg_attribute.attname,
    nullif(pg_partitioned_table.partdefid, 0)::regclass
  into parent_name, partition_key, default_partition
  from pg_catalog.pg_class
  inner join pg_catalog.pg_partitioned_table on pg_partitioned_table.partrelid = pg_class.oid
  inner join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_class.oid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
  where pg_class.oid = p_parent
    and pg_partitioned_table.partstrat = 'r'
    and pg_partitioned_table.partnatts = 1;
  if not found then
    raise exception '% is not range-partitioned by one column', p_parent
      using errcode = 'GW010',
        hint = 'ops.partition_policies serves tables PARTITION BY RANGE (one column) only.';
  end if;

  partition_name := parent_name || '_p'
    || to_char(range_start, case unit when 'day' then 'YYYYMMDD' else 'YYYYMM' end);
  if octet_length(partition_name) > 63 then
    raise exception 'the name of % is too long for its partitions', p_parent
      using errcode = 'GW010', hint = 'A name has 63 bytes; a partition needs 10 of them.';
  end if;
  if exists (
    select from pg_catalog.pg_inherits
    where pg_inherits.inhparent = p_parent
      and pg_inherits.inhrelid = to_regclass(format('app_partitions.%I', partition_name))
  ) then
    return null;
  end if;

  -- An existing table of that name, of another schema's table perhaps, is an error here.
  execute format('create table app_partitions.%I (like %s including defaults'
    ' including generated including constraints including storage including compression)',
    partition_name, p_parent);

  if default_partition is not null then
    execute format('select exists (select from %1$s where %2$I >= %3$L and %2$I < %4$L)',
      default_partition, partition_key, range_start, range_end) into moved;
  end if;
  if moved then
    -- Moving is deleting and inserting: a foreign key ON DELETE CASCADE would follow.
    if exists (
      select from pg_catalog.pg_constraint
      where pg_constraint.confrelid = p_parent and pg_constraint.contype = 'f'
    ) then
      raise exception 'rows of % in DEFAULT cannot be moved: other tables reference them',
          p_parent
        using errcode = 'GW012', hint = 'Drop the foreign key, move, and add it again.';
    end if;
    select string_agg(quote_ident(attname), ', ' order by attnum) into written_columns
    from pg_catalog.pg_attribute
    where attrelid = p_parent and attnum > 0 and not attisdropped and attgenerated = '';
    execute format('with moved as (delete from %1$s where %2$I >= %3$L and %2$I < %4$L'
      ' returning *) insert into app_partitions.%5$I (%6$s) select %6$s from moved',
      default_partition, partition_key, range_start, range_end, partition_name,
      written_columns);
  end if;

  execute format('alter table %s attach partition app_partitions.%I'
    ' for values from (%L) to (%L)', p_parent, partition_name, range_start, range_end);
  insert into ops.partition_events (parent_table, partition_name, event)
  values (p_parent::text, format('app_partitions.%I', partition_name), 'created');
  return 'app_partitions.' || partition_name;
end
$_$;

ALTER FUNCTION ops.create_range_partition(p_parent regclass, p_instant timestamp with time zone, p_step interval) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.create_range_partition(p_parent regclass, p_instant timestamp with time zone, p_step interval) IS 'Creates the partition that holds an instant, moving rows out of DEFAULT. Returns its name, or null when it exists.';

CREATE FUNCTION ops.delete_cron_history() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  deleted integer := 0;
begin
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    execute $sql$
      delete from cron.job_run_details where end_time < now() - interval '14 days'
    $sql$;
    get diagnostics deleted = row_count;
  end if;
  return deleted;
end
$_$;

ALTER FUNCTION ops.delete_cron_history() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.delete_cron_history() IS 'Deletes pg_cron''s records of runs that ended 14 days ago. Returns how many.';

CREATE FUNCTION ops.delete_old_alert_notices() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with deleted as (
    delete from ops.alert_notices
    where alert_notices.created_at < now() - interval '90 days'
    returning 1
  )
  select count(*)::integer from deleted
$$;

ALTER FUNCTION ops.delete_old_alert_notices() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.delete_old_alert_notices() IS 'Deletes notices of more than 90 days ago. Returns how many.';

CREATE FUNCTION ops.drop_detached_partitions() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
declare
  candidate record;
  obstacle text;
  dropped integer := 0;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  -- The lock of ops.ensure_partitions(): one at a time, whatever is done to partitions.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));

  for candidate in
    select latest.parent_table, latest.partition_name, latest.occurred_at,
      latest.wal_position, pg_class.oid::regclass as relation,
      partition_policies.require_backup,
      pg_total_relation_size(pg_class.oid) as bytes
    from (
      select distinct on (partition_events.partition_name) partition_events.*
      from ops.partition_events
      where partition_events.event <> 'skipped'
      order by partition_events.partition_name, partition_events.id desc
    ) as latest
    inner join pg_catalog.pg_class on pg_class.oid = to_regclass(latest.partition_name)
    -- The policy must want it still.
    inner join ops.partition_policies
      on partition_policies.parent_table = to_regclass(latest.parent_table)
    where latest.event = 'detached'
      and latest.will_drop
      and partition_policies.retention_action = 'drop'
      -- Somebody may have attached it again.
      and not pg_class.relispartition
    order by latest.id
  loop
    obstacle := case
      when candidate.require_backup
        and not ops.is_backed_up(candidate.relation, candidate.occurred_at)
        then 'no verified backup began after it was detached'
      when not ops.is_confirmed_by_cdc(candidate.wal_position)
        then 'a logical replication slot has not confirmed its last changes'
    end;

    if obstacle is null then
      begin
        execute format('drop table %s', candidate.relation);
        insert into ops.partition_events (parent_table, partition_name, event, bytes)
        values (candidate.parent_table, candidate.partition_name, 'dropped',
          candidate.bytes);
        dropped := dropped + 1;
      exception
        when lock_not_available or deadlock_detected then
          obstacle := 'another session is using it';
        when dependent_objects_still_exist then
          obstacle := sqlerrm;
      end;
    end if;

    -- Said once, not each night.
    if obstacle is distinct from (
      select partition_events.reason
      from ops.partition_events
      where partition_events.partition_name = candidate.partition_name
      order by partition_events.id desc
      limit 1
    ) then
      insert into ops.partition_events (parent_table, partition_name, event, reason)
      values (candidate.parent_table, candidate.partition_name, 'skipped', obstacle);
    end if;
    -- A drop also locks the tables that the dropped one references. Waiting again would
    -- keep them locked: the next run goes on.
    exit when obstacle = 'another session is using it';
  end loop;
  return dropped;
end
$$;

ALTER FUNCTION ops.drop_detached_partitions() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.drop_detached_partitions() IS 'Drops the partitions that left their table to be dropped, once backups and replication slots allow it. Returns how many.';

CREATE FUNCTION ops.ensure_partitions() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '5s'
    AS $$
declare
  wanted record;
  created integer := 0;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  -- One at a time: a second run would find the partitions half made.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));

  for wanted in
    select partition_policies.parent_table, partition_policies.step, months.instant
    from ops.partition_policies
    -- A policy outlives its table, when somebody drops that and forgets this.
    inner join pg_catalog.pg_class on pg_class.oid = partition_policies.parent_table
    cross join lateral generate_series(
      date_trunc(
        case when partition_policies.step = interval '1 day' then 'day' else 'month' end,
        now()),
      now() + partition_policies.step * partition_policies.premake,
      partition_policies.step
    ) as months (instant)
    order by partition_policies.parent_table::text, months.instant
  loop
    if ops.create_range_partition(wanted.parent_table, wanted.instant, wanted.step)
      is not null
    then
      created := created + 1;
    end if;
  end loop;
  return created;
end
$$;

ALTER FUNCTION ops.ensure_partitions() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.ensure_partitions() IS 'Creates every partition that the policies ask for. Returns how many were created.';

CREATE FUNCTION ops.explain_message(p_user_id uuid, p_message_type text, p_date date) RETURNS TABLE(step integer, at timestamp with time zone, topic text, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  person app_public.users;
  wishes app_public.user_settings;
  message app_public.message_logs;
  is_wanted boolean;
  is_occasion boolean;
  instant timestamptz;
  local_time timestamp;
  held_until timestamptz;
  planned_at timestamptz;
  is_over boolean := true;
  has_messages boolean := false;
begin
  if p_message_type is null
    or p_message_type not in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST')
  then
    raise exception 'there is no message type %', p_message_type
      using errcode = 'GW040', hint = 'One of BIRTHDAY, ANNIVERSARY, DIGEST.';
  end if;
  if p_date is null or p_date not between date '1604-01-01' and date '2300-01-01' then
    raise exception 'the date % is not between 1604 and 2300', p_date
      using errcode = 'GW040', hint = 'It is the local date of the occasion.';
  end if;

  step := 1;
  topic := 'user';
  select * into person from app_public.users where id = p_user_id;
  if not found then
    detail := 'there is no user with this id';
    return next;
    return;
  end if;
  select * into wishes from app_public.user_settings where user_id = p_user_id;
  at := coalesce(person.deleted_at, person.created_at);
  detail := format('the account %s; time zone %s, language %s',
    case when person.deleted_at is null then 'is open' else 'was closed' end,
    person.timezone, coalesce(wishes.locale, 'en'));
  return next;

  is_wanted := coalesce(case p_message_type
    when 'BIRTHDAY' then wishes.birthday_messages
    when 'ANNIVERSARY' then wishes.anniversary_messages
    else wishes.weekly_digest end, true);
  step := step + 1;
  at := null;
  topic := 'wish';
  detail := case when is_wanted then 'the user wants messages of this type'
    else 'the user has opted out of messages of this type' end;
  return next;

  step := step + 1;
  topic := 'occasion';
  select described.is_occasion, described.detail
  into is_occasion, detail
  from app_private.describe_occasion(p_message_type,
    case p_message_type when 'BIRTHDAY' then person.birthday_date
      when 'ANNIVERSARY' then person.anniversary_date end,
    person.leap_day_policy, p_date) as described;
  return next;

  if is_occasion then
    local_time := p_date + coalesce(
      (select message_rules.send_time from app_private.message_rules
        where message_rules.user_id = p_user_id
          and message_rules.message_type = p_message_type),
      case p_message_type when 'DIGEST' then time '08:00' else person.send_time end);
    instant := app_hidden.local_to_instant(local_time, person.timezone);
    step := step + 1;
    at := instant;
    topic := 'instant';
    detail := app_private.describe_instant(local_time, person.timezone);
    return next;

    step := step + 1;
    topic := 'quiet hours';
    held_until := app_hidden.quiet_until(
      instant, person.timezone, wishes.quiet_from, wishes.quiet_until);
    at := held_until;
    detail := case
      when wishes.quiet_from is null then 'none'
      else format('%s to %s, local time: it is %s', to_char(wishes.quiet_from, 'HH24:MI'),
        to_char(wishes.quiet_until, 'HH24:MI'),
        case when held_until is null then 'not in them' else 'held until they end' end)
    end;
    return next;
  end if;

  for message in
    select message_logs.*
    from app_public.message_logs
    where message_logs.user_id = p_user_id
      and message_logs.message_type = p_message_type
      and message_logs.delivery_date = p_date
      -- No zone is further from UTC.
      and message_logs.scheduled_send_time between p_date - 3 and p_date + 4
    order by message_logs.created_at, message_logs.id
  loop
    has_messages := true;
    is_over := message.status not in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING');
    for at, topic, detail in
      select * from app_private.explain_planned(message, case
        when is_occasion and is_wanted and person.deleted_at is null then instant end)
    loop
      step := step + 1;
      return next;
    end loop;
  end loop;

  if not has_messages then
    step := step + 1;
    topic := 'plan';
    select message_ledger.planned_at
    into planned_at
    from app_private.message_ledger
    where message_ledger.user_id = p_user_id
      and message_ledger.message_type = p_message_type
      and message_ledger.delivery_date = p_date;
    at := planned_at;
    if planned_at is not null then
      detail := 'it was planned then; what became of it has left the database';
    elsif person.deleted_at is not null then
      detail := 'no message: the account was closed';
    elsif not is_occasion then
      detail := 'no message: the day is not an occasion';
    elsif not is_wanted then
      detail := 'no message: the user does not want it';
    else
      is_over := false;
      select unplanned.at, unplanned.detail
      into at, detail
      from app_private.explain_unplanned(
        p_user_id, p_message_type, p_date, instant) as unplanned;
    end if;
    return next;
  end if;

  -- What may hold up whatever is still to go out.
  if not is_over then
    for at, detail in
      select delivery_channels.opened_at, delivery_channels.name || ': '
        || concat_ws('; ',
        case when delivery_channels.circuit <> 'closed' then format(
          'the circuit is %s, because the receiver does not answer; next probe %s',
          delivery_channels.circuit,
          to_char(delivery_channels.probe_after, 'YYYY-MM-DD HH24:MI:SS "UTC"')) end,
        'at most ' || delivery_channels.messages_per_second || ' messages a second')
      from app_private.delivery_channels
      where delivery_channels.circuit <> 'closed'
        or delivery_channels.messages_per_second is not null
      order by delivery_channels.name
    loop
      step := step + 1;
      topic := 'channel';
      return next;
    end loop;
  end if;
end
$$;

ALTER FUNCTION ops.explain_message(p_user_id uuid, p_message_type text, p_date date) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.explain_message(p_user_id uuid, p_message_type text, p_date date) IS 'Why a user''s message of a type and local date was, will be, or was not sent, step by step.';

CREATE FUNCTION ops.find_moved_messages(p_user_id uuid DEFAULT NULL::uuid, p_timezone text DEFAULT NULL::text, p_now timestamp with time zone DEFAULT now()) RETURNS TABLE(user_id uuid, message_type text, delivery_date date, timezone text, status text, stored_time timestamp with time zone, rule_time timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  with stored as (
    select message_schedule.user_id, message_schedule.message_type,
      message_schedule.delivery_date, 'not planned yet' as status,
      message_schedule.scheduled_send_time as stored_time
    from app_private.message_schedule
    where p_user_id is null or message_schedule.user_id = p_user_id
    union all
    select message_logs.user_id, message_logs.message_type, message_logs.delivery_date,
      message_logs.status, message_logs.scheduled_send_time
    from app_public.message_logs
    where message_logs.status in ('SCHEDULED', 'QUEUED', 'RETRYING')
      and message_logs.scheduled_send_time > p_now - interval '1 year'
      and (p_user_id is null or message_logs.user_id = p_user_id)
  ),
  doubtful as (
    select stored.*, rules.timezone, local.due
    from stored
    inner join app_private.message_rules as rules
      on rules.user_id = stored.user_id
      and rules.message_type = stored.message_type
    cross join lateral (select stored.delivery_date + rules.send_time) as local (due)
    where (p_timezone is null or rules.timezone = p_timezone)
      and (stored.stored_time at time zone rules.timezone <> local.due
        or (stored.stored_time - interval '3 hours') at time zone rules.timezone
          <> local.due - interval '3 hours')
  ),
  compared as (
    select doubtful.*,
      -- As next_occasions() and replan_messages() do it: what was still to come is not
      -- missed because it moves into the past.
      case
        when doubtful.stored_time > p_now then greatest(moment.instant, p_now)
        when doubtful.status = 'not planned yet' then moment.instant
        else greatest(moment.instant, doubtful.stored_time)
      end as rule_time
    from doubtful
    cross join lateral (
      select app_hidden.local_to_instant(doubtful.due, doubtful.timezone) offset 0
    ) as moment (instant)
  )
  select compared.user_id, compared.message_type, compared.delivery_date,
    compared.timezone, compared.status, compared.stored_time, compared.rule_time
  from compared
  where compared.rule_time <> compared.stored_time
  order by compared.stored_time, compared.user_id, compared.message_type
$$;

ALTER FUNCTION ops.find_moved_messages(p_user_id uuid, p_timezone text, p_now timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.find_moved_messages(p_user_id uuid, p_timezone text, p_now timestamp with time zone) IS 'Instants in the schedule and of waiting messages that the zones'' rules now make others.';

CREATE FUNCTION ops.is_backed_up(p_table regclass, p_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select exists (
    select from ops.backups
    where backups.started_at >= p_since
      and backups.verified_at is not null
      and (backups.tables is null or exists (
        select
        from (
          select p_table
          union
          select pg_partition_ancestors(p_table)
        ) as holder (relation)
        inner join pg_class on pg_class.oid = holder.relation
        where pg_class.relnamespace::regnamespace || '.' || quote_ident(pg_class.relname)
          = any (backups.tables)
      ))
  )
$$;

ALTER FUNCTION ops.is_backed_up(p_table regclass, p_since timestamp with time zone) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.is_backed_up(p_table regclass, p_since timestamp with time zone) IS 'Whether a verified backup that began at an instant or later holds a table. Later than the last write, if it is to hold all.';

CREATE FUNCTION ops.is_confirmed_by_cdc(p_position pg_lsn DEFAULT pg_current_wal_insert_lsn()) RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select not exists (
    select from pg_replication_slots
    where pg_replication_slots.slot_type = 'logical'
      and pg_replication_slots.database = current_database()
      and coalesce(pg_replication_slots.confirmed_flush_lsn < p_position, true)
  )
$$;

ALTER FUNCTION ops.is_confirmed_by_cdc(p_position pg_lsn) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.is_confirmed_by_cdc(p_position pg_lsn) IS 'Whether every logical replication slot of this database has confirmed a position of the write-ahead log (now, unless given). True without slots.';

CREATE FUNCTION ops.last_migration() RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (
    select migrations.filename
    from graphile_migrate.migrations
    order by migrations.filename desc
    limit 1
  );
end
$$;

ALTER FUNCTION ops.last_migration() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.last_migration() IS 'The newest committed migration that this database has run, or null.';

CREATE FUNCTION ops.limit_channel(p_channel text, p_messages_per_second double precision) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if p_messages_per_second is not null
    and p_messages_per_second not between 0.01 and 1000000
  then
    raise exception 'a limit of % messages a second is not between 0.01 and 1000000',
      p_messages_per_second
      using errcode = 'GW041', hint = 'Null means no limit.';
  end if;
  update app_private.delivery_channels
  set messages_per_second = p_messages_per_second, permits = 0, permits_at = now()
  where name = p_channel;
  if not found then
    raise exception 'there is no channel %', p_channel
      using errcode = 'GW013', hint = 'app_private.delivery_channels lists them.';
  end if;
  perform ops.audit('messages.limited', jsonb_build_object(
    'channel', p_channel, 'messages_per_second', p_messages_per_second));
end
$$;

ALTER FUNCTION ops.limit_channel(p_channel text, p_messages_per_second double precision) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.limit_channel(p_channel text, p_messages_per_second double precision) IS 'Limits a channel to so many messages a second, of all workers together; null: no limit.';

CREATE FUNCTION ops.message_status(p_from date, p_to date) RETURNS TABLE(day date, message_type text, status text, messages bigint, retries bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select (message_logs.scheduled_send_time at time zone 'UTC')::date,
    message_logs.message_type, message_logs.status, count(*), sum(message_logs.retry_count)
  from app_public.message_logs
  where message_logs.scheduled_send_time >= p_from::timestamp at time zone 'UTC'
    and message_logs.scheduled_send_time < (p_to + 1)::timestamp at time zone 'UTC'
  group by 1, 2, 3
$$;

ALTER FUNCTION ops.message_status(p_from date, p_to date) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.message_status(p_from date, p_to date) IS 'How many messages are due on each day of a range (UTC, inclusive), by type and status.';

CREATE FUNCTION ops.metrics() RETURNS TABLE(name text, labels jsonb, value double precision, help text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  hits double precision;
  misses double precision;
begin
  -- A queue's oldest job that could run but does not says that workers are too few. Active
  -- and failed jobs are those that the workers last counted: no index has them.
  return query
  with waiting as (
    select job.name as queue,
      count(*) filter (where job.start_after > now()) as deferred,
      count(*) filter (where job.start_after <= now()) as ready,
      min(job.start_after) filter (where job.start_after <= now()) as oldest
    from pgboss.job
    where job.state < 'active'
      and not job.blocked
    group by job.name
  )
  select measured.metric,
    jsonb_build_object('queue', queue.name, 'state', measured.state),
    measured.amount,
    case measured.metric
      when 'gw_queue_jobs' then 'Jobs by queue and state.'
      else 'For how long the oldest job that is due has waited, in seconds.' end
  from pgboss.queue
  left join waiting on waiting.queue = queue.name
  cross join lateral (values
    ('gw_queue_jobs', 'deferred', coalesce(waiting.deferred, 0)::double precision),
    ('gw_queue_jobs', 'ready', coalesce(waiting.ready, 0)::double precision),
    ('gw_queue_jobs', 'active', queue.active_count::double precision),
    ('gw_queue_jobs', 'failed', queue.failed_count::double precision),
    ('gw_queue_oldest_seconds', 'ready',
      coalesce(extract(epoch from now() - waiting.oldest), 0)::double precision)
  ) as measured (metric, state, amount);

  return query
  select 'gw_messages',
    jsonb_build_object('type', types.message_type, 'status', statuses.status),
    count(message_logs.id)::double precision,
    'Messages that were due in the last 24 hours, by type and status.'
  from unnest(array['BIRTHDAY', 'ANNIVERSARY', 'DIGEST']) as types (message_type)
  cross join unnest(array['SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'RETRYING', 'FAILED',
    'CANCELLED', 'EXPIRED', 'UNKNOWN']) as statuses (status)
  left join app_public.message_logs
    on message_logs.message_type = types.message_type
    and message_logs.status = statuses.status
    and message_logs.scheduled_send_time > now() - interval '24 hours'
    and message_logs.scheduled_send_time <= now()
  group by types.message_type, statuses.status;

  return query
  select 'gw_message_lateness_seconds', '{}'::jsonb,
    coalesce(extract(epoch from now() - min(overdue.oldest)), 0)::double precision,
    'How late the latest message is that is due and waits, in seconds; not those held by '
      'quiet hours.'
  from ops.overdue_messages(interval '0') as overdue;

  return query
  select measured.metric, jsonb_build_object('slot', status.slot_name),
    measured.amount, measured.help
  from ops.change_capture_status as status
  cross join lateral (values
    ('gw_cdc_lag_bytes', status.lag_bytes::double precision,
      'Write-ahead log that change capture has not confirmed, in bytes.'),
    ('gw_cdc_lag_seconds', status.lag_seconds,
      'How far change capture is behind, in seconds.'),
    ('gw_cdc_active', status.active::integer::double precision,
      'Whether change capture is connected.')
  ) as measured (metric, amount, help)
  where measured.amount is not null;

  -- Dynamic SQL, because the shadow database and test databases have no schema "cron".
  if exists (select from pg_extension where extname = 'pg_cron') then
    return query execute $sql$
      select 'gw_cron_failures', jsonb_build_object('job', job.jobname),
        count(details.runid)::double precision,
        'Failed runs of a pg_cron job in the last 24 hours.'
      from cron.job
      left join cron.job_run_details as details
        on details.jobid = job.jobid
        and details.status = 'failed'
        and details.start_time > now() - interval '24 hours'
      where job.database = current_database()
        and job.jobname is not null
      group by job.jobname
    $sql$;
  end if;

  return query
  select 'gw_partition_months_ahead',
    jsonb_build_object('table', partition_policies.parent_table::text),
    greatest(0, extract(epoch from
      coalesce(max(bounds.upper_bound), now()) - now()) / 2629746)::double precision,
    'For how many months from now the table has partitions.'
  from ops.partition_policies
  inner join pg_class as parent on parent.oid = partition_policies.parent_table
  left join pg_inherits on pg_inherits.inhparent = partition_policies.parent_table
  left join pg_class as child on child.oid = pg_inherits.inhrelid
  left join lateral (
    select substring(pg_get_expr(child.relpartbound, child.oid)
      from ' TO \(''([^'']+)''\)$')::timestamptz
  ) as bounds (upper_bound) on true
  group by partition_policies.parent_table;

  return query
  select 'gw_backup_age_seconds', '{}'::jsonb,
    coalesce(extract(epoch from now() - max(backups.finished_at)), 'Infinity')
      ::double precision,
    'How long ago the last verified backup of the whole database ended; +Inf without.'
  from ops.backups
  where backups.verified_at is not null
    and backups.tables is null;

  return query
  select 'gw_alerts_open', jsonb_build_object('level', levels.level),
    count(alerts.id)::double precision, 'Alerts that are open.'
  from unnest(array['warning', 'critical']) as levels (level)
  left join ops.alerts on alerts.level = levels.level and alerts.resolved_at is null
  group by levels.level;

  return query
  select 'gw_database_connections',
    jsonb_build_object('role', coalesce(pg_stat_activity.usename::text, 'none')),
    count(*)::double precision, 'Connections to this database, by role.'
  from pg_stat_activity
  where pg_stat_activity.datname = current_database()
  group by pg_stat_activity.usename;

  select coalesce(pg_sequence_last_value('app_private.query_cache_hits'), 0),
    coalesce(pg_sequence_last_value('app_private.query_cache_misses'), 0)
  into hits, misses;
  return query values
    ('gw_query_cache_hits_total', '{}'::jsonb, hits, 'Results that the cache had.'),
    ('gw_query_cache_misses_total', '{}'::jsonb, misses, 'Results that it did not have.'),
    ('gw_query_cache_hit_ratio', '{}'::jsonb, hits / nullif(hits + misses, 0),
      'Hits of all reads, from 0 to 1, since the counters began.');
end
$_$;

ALTER FUNCTION ops.metrics() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.metrics() IS 'Figures for a scraper, of queues, messages, change capture, cron, backups and more.';

CREATE TABLE ops.alerts (
    id bigint NOT NULL,
    check_name text NOT NULL,
    object text DEFAULT ''::text NOT NULL,
    level text NOT NULL,
    detail text NOT NULL,
    remediation text DEFAULT ''::text NOT NULL,
    raised_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    resolved_at timestamp with time zone,
    CONSTRAINT alerts_check_name_check CHECK ((check_name ~ '^[a-z][a-z0-9-]{1,62}$'::text)),
    CONSTRAINT alerts_level_check CHECK ((level = ANY (ARRAY['warning'::text, 'critical'::text]))),
    CONSTRAINT alerts_resolved_at_check CHECK ((resolved_at >= raised_at))
);

ALTER TABLE ops.alerts OWNER TO gw_owner;

COMMENT ON TABLE ops.alerts IS 'What went wrong, and until when: at most one open row for each check and object.';

COMMENT ON COLUMN ops.alerts.check_name IS 'Which check found it.';

COMMENT ON COLUMN ops.alerts.object IS 'What it is about; empty where there is only one.';

COMMENT ON COLUMN ops.alerts.level IS 'warning (soon a problem) or critical (a problem now).';

COMMENT ON COLUMN ops.alerts.detail IS 'What was found, with figures; as it was last said.';

COMMENT ON COLUMN ops.alerts.remediation IS 'What to do about it.';

COMMENT ON COLUMN ops.alerts.changed_at IS 'When the level last changed.';

COMMENT ON COLUMN ops.alerts.resolved_at IS 'When it was well again; null while it is open.';

CREATE FUNCTION ops.notify_alert(p_alert ops.alerts, p_state text) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with notice as (
    insert into ops.alert_notices (alert_id, check_name, object, state)
    values (p_alert.id, p_alert.check_name, p_alert.object, p_state)
    returning alert_notices.id, alert_notices.created_at
  ),
  queued as (
    insert into pgboss.job (name, data, keep_until, retry_limit, retry_delay,
      retry_backoff, retry_delay_max, expire_seconds, deletion_seconds, heartbeat_seconds, policy,
      dead_letter)
    select queue.name,
      jsonb_build_object(
        'key', concat_ws(':', p_alert.id, p_state, notice.id),
        'state', p_state,
        'check', p_alert.check_name,
        'object', p_alert.object,
        'level', p_alert.level,
        'detail', p_alert.detail,
        'remediation', p_alert.remediation,
        'raisedAt', p_alert.raised_at,
        'resolvedAt', p_alert.resolved_at,
        'at', notice.created_at),
      now() + queue.retention_seconds * interval '1 second',
      queue.retry_limit, queue.retry_delay, queue.retry_backoff, queue.retry_delay_max,
      queue.expire_seconds, queue.deletion_seconds, queue.heartbeat_seconds, queue.policy,
      queue.dead_letter
    from notice
    inner join pgboss.queue on queue.name = 'alert-notify'
  )
  select notice.id from notice
$$;

ALTER FUNCTION ops.notify_alert(p_alert ops.alerts, p_state text) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.notify_alert(p_alert ops.alerts, p_state text) IS 'Records a notice of an alert and queues its delivery. Returns its number.';

CREATE FUNCTION ops.overdue_messages(p_after interval) RETURNS TABLE(message_type text, status text, messages bigint, oldest timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select message_logs.message_type, message_logs.status, count(*),
    min(message_logs.scheduled_send_time)
  from app_public.message_logs
  where message_logs.scheduled_send_time < now() - p_after
    and message_logs.status in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING')
    and (message_logs.status <> 'QUEUED'
      or message_logs.error_message is null
      or message_logs.error_message not like 'held until %')
  group by 1, 2
$$;

ALTER FUNCTION ops.overdue_messages(p_after interval) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.overdue_messages(p_after interval) IS 'Messages that were due so long ago and are neither sent nor given up, by type and status.';

CREATE FUNCTION ops.prune_old_activity_partitions() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select ops.prune_partitions()
$$;

ALTER FUNCTION ops.prune_old_activity_partitions() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.prune_old_activity_partitions() IS 'Does what ops.prune_partitions() does, for every policy.';

CREATE FUNCTION ops.prune_partitions() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '5s'
    AS $_$
declare
  due record;
  pruned integer := 0;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  -- The lock of ops.ensure_partitions(): one at a time, whatever is done to partitions.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));

  for due in
    select partition_policies.parent_table, partition_policies.retention_action,
      pg_class.oid::regclass as partition,
      pg_total_relation_size(pg_class.oid) as bytes
    from ops.partition_policies
    inner join pg_catalog.pg_partitioned_table
      on pg_partitioned_table.partrelid = partition_policies.parent_table
      and pg_partitioned_table.partstrat = 'r'
      and pg_partitioned_table.partnatts = 1
    inner join pg_catalog.pg_attribute
      on pg_attribute.attrelid = partition_policies.parent_table
      and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
    inner join pg_catalog.pg_inherits
      on pg_inherits.inhparent = partition_policies.parent_table
    inner join pg_catalog.pg_class on pg_class.oid = pg_inherits.inhrelid
    -- Null for DEFAULT and for MAXVALUE, which never end.
    cross join lateral (
      select case
        when pg_attribute.atttypid::regtype in ('timestamptz', 'timestamp', 'date')
        then substring(pg_get_expr(pg_class.relpartbound, pg_class.oid)
          from ' TO \(''([^'']+)''\)$')::timestamptz
      end
    ) as bounds (upper_bound)
    where bounds.upper_bound <= now() - partition_policies.retention
    -- A table that was in use the last time does not keep the others waiting for ever.
    order by (
        select max(partition_events.id)
        from ops.partition_events
        where partition_events.parent_table = partition_policies.parent_table::text
          and partition_events.event = 'skipped'
      ) nulls first,
      partition_policies.parent_table::text, bounds.upper_bound
  loop
    begin
      execute format('alter table %s detach partition %s',
        due.parent_table, due.partition);
      -- The lock on the partition keeps writers out: none of their writes lies behind.
      insert into ops.partition_events (parent_table, partition_name, event, will_drop,
        wal_position, bytes)
      values (due.parent_table::text, due.partition::text, 'detached',
        due.retention_action = 'drop', pg_current_wal_insert_lsn(), due.bytes);
      pruned := pruned + 1;
    exception
      when lock_not_available or deadlock_detected then
        insert into ops.partition_events (parent_table, partition_name, event, reason)
        values (due.parent_table::text, due.partition::text, 'skipped',
          'another session is using the table');
        -- Parents that we have detached from are locked until we end: no more waiting.
        exit;
      -- Rows that others reference; DETACH CONCURRENTLY that was interrupted.
      when foreign_key_violation or object_not_in_prerequisite_state then
        insert into ops.partition_events (parent_table, partition_name, event, reason)
        values (due.parent_table::text, due.partition::text, 'skipped', sqlerrm);
    end;
  end loop;

  perform ops.drop_detached_partitions();
  return pruned;
end
$_$;

ALTER FUNCTION ops.prune_partitions() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.prune_partitions() IS 'Detaches every partition that is older than its policy keeps, and drops what may be dropped. Returns how many left their table.';

CREATE FUNCTION ops.raise_alert(p_check_name text, p_object text, p_level text, p_detail text, p_remediation text DEFAULT ''::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  level_before text;
begin
  select level
  into level_before
  from ops.alerts
  where check_name = p_check_name
    and object = coalesce(p_object, '')
    and resolved_at is null
  for update;

  insert into ops.alerts (check_name, object, level, detail, remediation)
  values (p_check_name, coalesce(p_object, ''), p_level, p_detail, coalesce(p_remediation, ''))
  on conflict (check_name, object) where resolved_at is null
  do update
  set level = excluded.level,
    detail = excluded.detail,
    remediation = excluded.remediation,
    changed_at = case when alerts.level = excluded.level
      then alerts.changed_at else excluded.changed_at end
  where (alerts.level, alerts.detail, alerts.remediation)
    is distinct from (excluded.level, excluded.detail, excluded.remediation);

  return level_before is distinct from p_level;
end
$$;

ALTER FUNCTION ops.raise_alert(p_check_name text, p_object text, p_level text, p_detail text, p_remediation text) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.raise_alert(p_check_name text, p_object text, p_level text, p_detail text, p_remediation text) IS 'Opens an alert, or brings the open one of this check and object up to date. Returns true when it is new or its level changed.';

CREATE FUNCTION ops.redrive_messages(p_statuses text[] DEFAULT ARRAY['FAILED'::text, 'EXPIRED'::text], p_message_type text DEFAULT NULL::text, p_date date DEFAULT NULL::date, p_user_id uuid DEFAULT NULL::uuid, p_since timestamp with time zone DEFAULT NULL::timestamp with time zone, p_message_id uuid DEFAULT NULL::uuid, p_even_unknown boolean DEFAULT false, p_dry_run boolean DEFAULT false) RETURNS TABLE(user_id uuid, message_id uuid, message_type text, delivery_date date, status text, refusal text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  user_ids uuid[];
  judged jsonb;
  wanted uuid[];
begin
  if not p_statuses <@ array['FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELLED'] then
    raise exception
      'only FAILED, EXPIRED, UNKNOWN and CANCELLED messages can be sent again'
      using errcode = 'GW041',
        hint = 'What waits is sent by itself; what was sent stays sent.';
  end if;

  if not p_dry_run then
    -- In the order of replan_messages(): nothing is planned for these users meanwhile.
    select array_agg(distinct found.user_id) into user_ids
    from app_private.find_messages(
      p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found;
    perform from app_public.users where id = any (user_ids) order by id for no key update;
    perform from app_private.message_schedule where user_id = any (user_ids)
    order by user_id, message_type for update;
    perform from app_public.message_logs
    where (user_id, id, scheduled_send_time) in (
      select found.user_id, found.id, found.scheduled_send_time
      from app_private.find_messages(
        p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found)
    order by user_id, id
    for update;
  end if;

  select coalesce(jsonb_agg(to_jsonb(found)
    order by found.scheduled_send_time, found.user_id, found.message_id), '[]')
  into judged
  from app_private.redrive_refusals(p_statuses, p_message_type, p_date, p_user_id,
    p_since, p_message_id, p_even_unknown) as found;
  return query
  select found.user_id, found.message_id, found.message_type, found.delivery_date,
    found.status, found.refusal
  from jsonb_to_recordset(judged) as found (user_id uuid, message_id uuid,
    message_type text, delivery_date date, status text, refusal text);
  select coalesce(array_agg(found.message_id), '{}')
  into wanted
  from jsonb_to_recordset(judged) as found (message_id uuid, refusal text)
  where found.refusal is null;
  if p_dry_run or wanted = '{}' then
    return;
  end if;

  insert into app_private.message_ledger
    (user_id, message_type, delivery_date, message_id, scheduled_send_time)
  select found.user_id, found.message_type, found.delivery_date, found.id,
    found.scheduled_send_time
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found
  where found.id = any (wanted)
    and not exists (
      select from app_private.message_ledger as ledger
      where ledger.user_id = found.user_id
        and ledger.message_type = found.message_type
        and ledger.delivery_date = found.delivery_date
    )
  order by found.user_id, found.message_type;

  update app_public.message_logs
  set status = 'SCHEDULED',
    job_id = null,
    retry_count = 0,
    send_until = case when found.scheduled_send_time <= now()
      then now() + settings.late_window end,
    error_message = null,
    attempts = coalesce(message_logs.attempts, '[]') || jsonb_build_array(
      jsonb_strip_nulls(jsonb_build_object(
        'change', 'sent again',
        'changed_at', now(),
        'changed_by', session_user,
        'status', message_logs.status,
        'error', message_logs.error_message))),
    uncertain_since = case when not p_even_unknown then message_logs.uncertain_since end,
    -- What certainly was not delivered may go to an address corrected since, and say what
    -- is true now. What may have been stays as it was under its key.
    recipient_email = case when is_uncertain then message_logs.recipient_email end,
    recipient_name = case when is_uncertain then message_logs.recipient_name end,
    attempted_at = case when is_uncertain then message_logs.attempted_at end
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found
  cross join lateral (
    select found.uncertain_since is not null or found.status = 'UNKNOWN'
  ) as doubt (is_uncertain)
  cross join app_private.message_settings as settings
  where found.id = any (wanted)
    and message_logs.user_id = found.user_id
    and message_logs.id = found.id
    and message_logs.scheduled_send_time = found.scheduled_send_time;
  perform app_private.replan_messages(user_ids);
  perform app_private.enqueue_messages(array_agg(due.user_id), array_agg(due.id),
    array_agg(due.scheduled_send_time), now())
  from app_private.find_messages(
    array['SCHEDULED'], p_message_type, p_date, p_user_id, null, p_message_id) as due
  where due.id = any (wanted)
    and due.scheduled_send_time <= now();

  delete from pgboss.job
  where job.name = 'message-send-dead'
    and (job.data ->> 'message_id')::uuid = any (wanted);
  if not exists (select from pgboss.job where job.name = 'message-send-dead') then
    perform ops.resolve_alert('health-dead-letters', 'message-send-dead');
  end if;
  perform ops.audit('messages.redriven', jsonb_strip_nulls(jsonb_build_object(
    'messages', cardinality(wanted),
    'statuses', p_statuses,
    'type', p_message_type,
    'date', p_date,
    'user_id', p_user_id,
    'since', p_since,
    'message_id', p_message_id,
    'even_unknown', p_even_unknown)));
end
$$;

ALTER FUNCTION ops.redrive_messages(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_even_unknown boolean, p_dry_run boolean) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.redrive_messages(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_even_unknown boolean, p_dry_run boolean) IS 'Sends messages again that failed, expired, were cancelled, or have an unknown outcome. Returns all that the filters match; what was refused has a reason.';

CREATE FUNCTION ops.replan_users(p_after uuid DEFAULT NULL::uuid, p_limit integer DEFAULT 2000, p_timezone text DEFAULT NULL::text, p_user_id uuid DEFAULT NULL::uuid) RETURNS TABLE(last_id uuid, users integer, changed integer)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  ids uuid[];
begin
  select array_agg(chunk.id order by chunk.id)
  into ids
  from (
    select users.id
    from app_public.users
    where users.deleted_at is null
      and (p_after is null or users.id > p_after)
      and (p_timezone is null or users.timezone = p_timezone)
      and (p_user_id is null or users.id = p_user_id)
    order by users.id
    limit p_limit
  ) as chunk;
  last_id := ids[cardinality(ids)];
  users := coalesce(cardinality(ids), 0);
  changed := 0;
  if users > 0 then
    changed := app_private.replan_messages(ids);
    perform ops.audit('messages.replanned', jsonb_strip_nulls(jsonb_build_object(
      'first_id', ids[1],
      'last_id', last_id,
      'users', users,
      'changed', changed,
      'timezone', p_timezone)));
  end if;
  return next;
end
$$;

ALTER FUNCTION ops.replan_users(p_after uuid, p_limit integer, p_timezone text, p_user_id uuid) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.replan_users(p_after uuid, p_limit integer, p_timezone text, p_user_id uuid) IS 'Brings what has not gone out up to date for the next so many users by id, after an id. Returns the last id, null at the end, how many users and how many changes.';

CREATE FUNCTION ops.resolve_alert(p_check_name text, p_object text DEFAULT ''::text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with resolved as (
    update ops.alerts
    set resolved_at = now()
    where check_name = p_check_name
      and object = p_object
      and resolved_at is null
    returning 1
  )
  select exists (select from resolved)
$$;

ALTER FUNCTION ops.resolve_alert(p_check_name text, p_object text) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.resolve_alert(p_check_name text, p_object text) IS 'Closes the open alert of this check and object. Returns false when there is none.';

CREATE FUNCTION ops.resolve_message(p_message_id uuid, p_status text) RETURNS TABLE(user_id uuid, message_type text, delivery_date date)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  message app_public.message_logs;
begin
  if p_status is null or p_status not in ('SENT', 'FAILED') then
    raise exception 'a message of unknown outcome was SENT or FAILED, not %', p_status
      using errcode = 'GW041', hint = 'Ask the receiver by the idempotency key.';
  end if;
  select * into message
  from app_public.message_logs
  where id = p_message_id
    and status <> 'SENT'
  for update;
  if message.id is null or message.status <> 'UNKNOWN' then
    raise exception 'message % is not UNKNOWN%', p_message_id,
      coalesce(', but ' || message.status, '')
      using errcode = 'GW041', hint = 'See: gw messages list --status UNKNOWN';
  end if;

  update app_public.message_logs
  set status = p_status,
    actual_send_time = case p_status when 'SENT'
      then coalesce(message.uncertain_since, message.attempted_at, now()) end,
    uncertain_since = null,
    error_message = case p_status when 'FAILED'
      then 'not delivered, as the receiver says' end,
    attempts = coalesce(message.attempts, '[]') || jsonb_build_array(
      jsonb_strip_nulls(jsonb_build_object(
        'change', 'resolved as ' || p_status,
        'changed_at', now(),
        'changed_by', session_user,
        'status', message.status,
        'error', message.error_message)))
  where user_id = message.user_id
    and id = message.id
    and scheduled_send_time = message.scheduled_send_time;
  perform ops.audit('messages.resolved', jsonb_build_object(
    'message_id', message.id, 'user_id', message.user_id, 'status', p_status));
  return query select message.user_id, message.message_type, message.delivery_date;
end
$$;

ALTER FUNCTION ops.resolve_message(p_message_id uuid, p_status text) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.resolve_message(p_message_id uuid, p_status text) IS 'Says of an UNKNOWN message what the receiver says of it: SENT or FAILED.';

CREATE FUNCTION ops.settle_alerts() RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with newest as (
    select distinct on (alert_notices.check_name, alert_notices.object)
      alert_notices.check_name, alert_notices.object, alert_notices.state
    from ops.alert_notices
    where exists (
      select from ops.alert_notices as held
      where held.state = 'flapping'
        and held.check_name = alert_notices.check_name
        and held.object = alert_notices.object
    )
    order by alert_notices.check_name, alert_notices.object, alert_notices.id desc
  )
  select count(ops.notify_alert(latest.alert, 'settled'))::integer
  from newest
  cross join lateral (
    select alerts as alert
    from ops.alerts
    where alerts.check_name = newest.check_name
      and alerts.object = newest.object
    order by alerts.id desc
    limit 1
  ) as latest
  where newest.state = 'flapping'
    and greatest((latest.alert).changed_at, (latest.alert).resolved_at)
      < now() - interval '1 hour'
$$;

ALTER FUNCTION ops.settle_alerts() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.settle_alerts() IS 'Announces how alerts stand that changed too often and have not for an hour. Returns how many.';

CREATE FUNCTION ops.simulate_messages(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid DEFAULT NULL::uuid, p_changes jsonb DEFAULT '{}'::jsonb) RETURNS TABLE(difference text, at timestamp with time zone, timezone text, message_type text, delivery_date date, messages bigint, held bigint, planned bigint, sent bigint, stopped bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  before_change jsonb;
  after_change jsonb;
begin
  if p_from is null or p_to is null or not p_from < p_to
    or p_to - p_from > interval '400 days'
    or p_from < '1900-01-01' or p_to > '2300-01-01'
  then
    raise exception 'the range from % to % is not one of up to 400 days', p_from, p_to
      using errcode = 'GW040', hint = 'The end must lie after the start.';
  end if;
  if p_user_id is not null
    and not exists (select from app_public.users where id = p_user_id)
  then
    raise exception 'there is no user %', p_user_id using errcode = 'GW040';
  end if;
  if coalesce(p_changes, '{}') = '{}' then
    return query select null::text, found.*
    from app_private.find_occasions(p_from, p_to, p_user_id) as found;
    return;
  end if;
  if p_user_id is null then
    raise exception 'changes are those of one user, and none is named'
      using errcode = 'GW040', hint = 'Name a user, or leave out the changes.';
  end if;
  perform app_private.check_simulated_changes(p_changes);

  select coalesce(jsonb_agg(to_jsonb(found) || '{"difference": "before"}'), '[]')
  into before_change
  from app_private.find_occasions(p_from, p_to, p_user_id) as found;
  begin
    update app_public.users
    set timezone = coalesce(p_changes ->> 'timezone', timezone),
      birthday_date = case when p_changes ? 'birthday_date'
        then (p_changes ->> 'birthday_date')::date else birthday_date end,
      anniversary_date = case when p_changes ? 'anniversary_date'
        then (p_changes ->> 'anniversary_date')::date else anniversary_date end,
      send_time = coalesce((p_changes ->> 'send_time')::time, send_time),
      leap_day_policy = coalesce(p_changes ->> 'leap_day_policy', leap_day_policy)
    where id = p_user_id;
    insert into app_public.user_settings (user_id) values (p_user_id)
    on conflict do nothing;
    update app_public.user_settings
    set birthday_messages =
        coalesce((p_changes ->> 'birthday_messages')::boolean, birthday_messages),
      anniversary_messages =
        coalesce((p_changes ->> 'anniversary_messages')::boolean, anniversary_messages),
      weekly_digest = coalesce((p_changes ->> 'weekly_digest')::boolean, weekly_digest)
    where user_id = p_user_id;
    select coalesce(jsonb_agg(to_jsonb(found) || '{"difference": "after"}'), '[]')
    into after_change
    from app_private.find_occasions(p_from, p_to, p_user_id) as found;
    raise exception 'taken back' using errcode = 'GW000';
  exception when sqlstate 'GW000' then
    null;
  end;

  return query
  with sides as (
    select *
    from jsonb_to_recordset(before_change || after_change) as side (
      difference text, at timestamptz, timezone text, message_type text,
      delivery_date date, messages bigint, held bigint, planned bigint, sent bigint,
      stopped bigint)
  )
  select sides.*
  from sides
  where not exists (
    select from sides as other
    where other.difference <> sides.difference
      and other.at = sides.at
      and other.message_type = sides.message_type
      and other.delivery_date = sides.delivery_date
  )
  order by sides.at, sides.message_type, sides.difference desc;
end
$$;

ALTER FUNCTION ops.simulate_messages(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid, p_changes jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.simulate_messages(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid, p_changes jsonb) IS 'What goes out by hour and zone; for a user and changes, what only was so before them and what only after.';

CREATE FUNCTION ops.sync_cron_jobs() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  removed integer := 0;
  added integer := 0;
  removed_names text[];
  added_names text[];
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron')
    or pg_is_in_recovery()
  then
    return 0;
  end if;

  -- What is not exactly as declared goes, a job that somebody switched off included:
  -- cron.schedule() would leave it off.
  execute $sync$
    select count(cron.unschedule(job.jobid)), array_agg(job.jobname order by job.jobname)
    from cron.job
    where job.database = current_database()
      and job.username = current_user
      and not exists (
        select from ops.cron_jobs
        where cron_jobs.job_name = job.jobname
          and cron_jobs.schedule = job.schedule
          and cron_jobs.command = job.command
          and cron_jobs.is_active
          and job.active
      )
  $sync$ into removed, removed_names;

  execute $sync$
    select
      count(cron.schedule(cron_jobs.job_name, cron_jobs.schedule, cron_jobs.command)),
      array_agg(cron_jobs.job_name order by cron_jobs.job_name)
    from ops.cron_jobs
    where cron_jobs.is_active
      and not exists (
        select from cron.job
        where job.jobname = cron_jobs.job_name
          and job.database = current_database()
          and job.username = current_user
      )
  $sync$ into added, added_names;

  if removed + added > 0 then
    perform ops.audit('cron_jobs.synchronised', jsonb_build_object(
      'removed', coalesce(removed_names, '{}'), 'added', coalesce(added_names, '{}')));
  end if;
  return removed + added;
end
$_$;

ALTER FUNCTION ops.sync_cron_jobs() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.sync_cron_jobs() IS 'Makes cron.job equal to ops.cron_jobs. Returns how many jobs were removed and added; 0 without pg_cron.';

CREATE FUNCTION ops.sync_health_checks(p_checks jsonb) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  changed integer;
  gone text;
begin
  insert into ops.health_checks (name, query, needs, every)
  select wanted.name, wanted.query, wanted.needs, wanted.every
  from jsonb_to_recordset(p_checks)
    as wanted (name text, query text, needs text[], every interval)
  on conflict (name) do update
  set query = excluded.query,
    needs = excluded.needs,
    every = excluded.every,
    ran_at = null
  where (health_checks.query, health_checks.needs, health_checks.every)
    is distinct from (excluded.query, excluded.needs, excluded.every);
  get diagnostics changed = row_count;

  for gone in
    delete from ops.health_checks
    where not exists (
      select from jsonb_to_recordset(p_checks) as wanted (name text)
      where wanted.name = health_checks.name
    )
    returning health_checks.name
  loop
    changed := changed + 1;
    -- Nobody would close them.
    perform ops.resolve_alert(alerts.check_name, alerts.object)
    from ops.alerts
    where alerts.resolved_at is null
      and (alerts.check_name = 'health-' || gone
        or alerts.check_name = 'health-check-failed' and alerts.object = gone);
  end loop;
  return changed;
end
$$;

ALTER FUNCTION ops.sync_health_checks(p_checks jsonb) OWNER TO gw_owner;

COMMENT ON FUNCTION ops.sync_health_checks(p_checks jsonb) IS 'Makes ops.health_checks equal to an array of {name, query, needs, every}. Returns how many changed.';

CREATE FUNCTION ops.unknown_deliveries() RETURNS TABLE(message_type text, messages bigint, oldest timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select message_logs.message_type, count(*), min(message_logs.scheduled_send_time)
  from app_public.message_logs
  where message_logs.scheduled_send_time between now() - interval '90 days' and now()
    and message_logs.status = 'UNKNOWN'
  group by 1
$$;

ALTER FUNCTION ops.unknown_deliveries() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.unknown_deliveries() IS 'How many messages of each type may or may not have been delivered in the last 90 days.';

CREATE FUNCTION ops.verify_audit_log() RETURNS TABLE(broken_id bigint, problem text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with chain as (
    select audit_log.id, audit_log.prev_hash, audit_log.hash,
      ops.audit_log_hash(audit_log) as right_hash,
      lag(audit_log.id, 1, 0) over by_id as id_before,
      lag(audit_log.hash, 1, decode(repeat('00', 32), 'hex')) over by_id as hash_before
    from ops.audit_log
    window by_id as (order by audit_log.id)
  ),
  newest as (
    select coalesce(max(audit_log.id), 0) as id from ops.audit_log
  )
  select found.broken_id, found.problem
  from (
    select chain.id as broken_id,
      case
        when chain.id <> chain.id_before + 1 then 'the row before it is missing'
        when chain.prev_hash <> chain.hash_before then 'the row before it was altered'
        else 'it was altered'
      end as problem
    from chain
    where chain.id <> chain.id_before + 1
      or chain.prev_hash <> chain.hash_before
      or chain.hash <> chain.right_hash
    union all
    -- After all others, which name an earlier row.
    select newest.id + 1, 'it is missing, or audit_log_head was altered'
    from newest
    where not exists (
      select from ops.audit_log_head
      where audit_log_head.last_id = newest.id
        and audit_log_head.last_hash = coalesce(
          (select audit_log.hash from ops.audit_log where audit_log.id = newest.id),
          decode(repeat('00', 32), 'hex'))
    )
  ) as found
  order by found.broken_id
  limit 1
$$;

ALTER FUNCTION ops.verify_audit_log() OWNER TO gw_owner;

COMMENT ON FUNCTION ops.verify_audit_log() IS 'The first row of the audit log that is not as it was written, and what is wrong; no row when all is well.';

CREATE TABLE app_hidden.timezones (
    name text NOT NULL
);

ALTER TABLE app_hidden.timezones OWNER TO gw_owner;

COMMENT ON TABLE app_hidden.timezones IS 'IANA time zones that this server''s tzdata knows. Kept by app_hidden.sync_timezones().';

CREATE TABLE app_private.connection_pool_stats (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    pool_name text NOT NULL,
    database_name text DEFAULT current_database() NOT NULL,
    total_connections integer NOT NULL,
    active_connections integer NOT NULL,
    idle_connections integer NOT NULL,
    waiting_connections integer NOT NULL,
    avg_connection_time_ms numeric(10,3),
    max_connection_time_ms integer,
    connection_errors integer DEFAULT 0 NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT connection_pool_stats_connection_time_check CHECK ((LEAST(avg_connection_time_ms, (max_connection_time_ms)::numeric) >= (0)::numeric)),
    CONSTRAINT connection_pool_stats_connections_check CHECK ((LEAST(total_connections, active_connections, idle_connections, waiting_connections, connection_errors) >= 0)),
    CONSTRAINT connection_pool_stats_database_name_check CHECK (((length(database_name) >= 1) AND (length(database_name) <= 63))),
    CONSTRAINT connection_pool_stats_pool_name_check CHECK (((length(pool_name) >= 1) AND (length(pool_name) <= 50)))
)
PARTITION BY RANGE (recorded_at);

ALTER TABLE app_private.connection_pool_stats OWNER TO gw_owner;

COMMENT ON TABLE app_private.connection_pool_stats IS 'Samples of the processes'' connection pools.';

COMMENT ON COLUMN app_private.connection_pool_stats.waiting_connections IS 'Callers that waited for a connection at that moment.';

COMMENT ON COLUMN app_private.connection_pool_stats.avg_connection_time_ms IS 'How long callers waited for one since the sample before, in milliseconds.';

CREATE TABLE app_private.message_ledger (
    user_id uuid NOT NULL,
    message_type text NOT NULL,
    delivery_date date NOT NULL,
    message_id uuid NOT NULL,
    scheduled_send_time timestamp with time zone NOT NULL,
    planned_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT message_ledger_message_type_check CHECK ((message_type = ANY (ARRAY['BIRTHDAY'::text, 'ANNIVERSARY'::text, 'DIGEST'::text])))
)
PARTITION BY HASH (user_id);

ALTER TABLE app_private.message_ledger OWNER TO gw_owner;

COMMENT ON TABLE app_private.message_ledger IS 'One row for each message that was planned and not taken back: user, occasion, local date.';

CREATE TABLE app_private.performance_metrics (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    metric_type text NOT NULL,
    metric_name text NOT NULL,
    duration_ms integer NOT NULL,
    memory_usage_mb integer,
    cpu_usage_percent numeric(5,2),
    user_id uuid,
    session_id text,
    request_id text,
    endpoint text,
    query_hash text,
    user_agent text,
    ip_address inet,
    "timestamp" timestamp with time zone DEFAULT now() NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT performance_metrics_cpu_check CHECK (((cpu_usage_percent >= (0)::numeric) AND (cpu_usage_percent <= (100)::numeric))),
    CONSTRAINT performance_metrics_duration_check CHECK ((duration_ms >= 0)),
    CONSTRAINT performance_metrics_endpoint_check CHECK ((length(endpoint) <= 200)),
    CONSTRAINT performance_metrics_memory_check CHECK ((memory_usage_mb >= 0)),
    CONSTRAINT performance_metrics_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT performance_metrics_metric_name_check CHECK (((length(metric_name) >= 1) AND (length(metric_name) <= 100))),
    CONSTRAINT performance_metrics_metric_type_check CHECK ((metric_type = ANY (ARRAY['query'::text, 'api'::text, 'frontend'::text, 'cache'::text]))),
    CONSTRAINT performance_metrics_query_hash_check CHECK (((length(query_hash) >= 1) AND (length(query_hash) <= 64))),
    CONSTRAINT performance_metrics_request_id_check CHECK ((length(request_id) <= 100)),
    CONSTRAINT performance_metrics_session_id_check CHECK ((length(session_id) <= 100)),
    CONSTRAINT performance_metrics_user_agent_check CHECK ((length(user_agent) <= 1000))
)
PARTITION BY RANGE ("timestamp");

ALTER TABLE app_private.performance_metrics OWNER TO gw_owner;

COMMENT ON TABLE app_private.performance_metrics IS 'How long things took. Written in batches by the processes, summarised every 15 minutes.';

COMMENT ON COLUMN app_private.performance_metrics.metric_type IS 'query, api, frontend or cache.';

COMMENT ON COLUMN app_private.performance_metrics.duration_ms IS 'In milliseconds.';

COMMENT ON COLUMN app_private.performance_metrics.user_id IS 'Whose request it was; null for the system''s own. May name an account that is gone.';

COMMENT ON COLUMN app_private.performance_metrics.query_hash IS 'What tells one statement or operation from another, whatever its parameters.';

COMMENT ON COLUMN app_private.performance_metrics."timestamp" IS 'When it began.';

CREATE TABLE app_public.user_activity (
    user_id uuid NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    activity_date date DEFAULT ((now() AT TIME ZONE 'UTC'::text))::date NOT NULL,
    occurred_at timestamp with time zone DEFAULT now() NOT NULL,
    action text NOT NULL,
    entity_type text NOT NULL,
    entity_id uuid NOT NULL,
    CONSTRAINT user_activity_action_check CHECK ((action = ANY (ARRAY['created'::text, 'updated'::text, 'completed'::text, 'deleted'::text]))),
    CONSTRAINT user_activity_entity_type_check CHECK ((entity_type = ANY (ARRAY['task'::text, 'goal'::text, 'habit'::text, 'habit_log'::text, 'reflection'::text])))
)
PARTITION BY RANGE (activity_date);

ALTER TABLE app_public.user_activity OWNER TO gw_owner;

COMMENT ON TABLE app_public.user_activity IS 'What a user did.';

COMMENT ON COLUMN app_public.user_activity.user_id IS 'Who did it.';

COMMENT ON COLUMN app_public.user_activity.id IS 'Unique.';

COMMENT ON COLUMN app_public.user_activity.activity_date IS 'The day in UTC on which it happened; rows are stored by it.';

COMMENT ON COLUMN app_public.user_activity.occurred_at IS 'The instant at which it happened.';

COMMENT ON COLUMN app_public.user_activity.action IS 'created, updated, completed (tasks) or deleted.';

COMMENT ON COLUMN app_public.user_activity.entity_type IS 'task, goal, habit, habit_log or reflection.';

COMMENT ON COLUMN app_public.user_activity.entity_id IS 'The id of that row; of a habit_log, the habit''s.';

CREATE TABLE app_private.capture_signals (
    id bigint NOT NULL,
    kind text NOT NULL,
    object text NOT NULL,
    CONSTRAINT capture_signals_kind_check CHECK ((kind = ANY (ARRAY['heartbeat'::text, 'truncated'::text])))
);

ALTER TABLE app_private.capture_signals OWNER TO gw_owner;

COMMENT ON TABLE app_private.capture_signals IS 'Always empty. Heartbeats and truncated partitions pass through it into the log.';

ALTER TABLE app_private.capture_signals ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME app_private.capture_signals_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE app_private.captured_reflections (
    user_id uuid NOT NULL,
    id uuid NOT NULL,
    reflection_date date NOT NULL,
    mood_score smallint
);

ALTER TABLE app_private.captured_reflections OWNER TO gw_owner;

COMMENT ON TABLE app_private.captured_reflections IS 'Each reflection as change capture counted it.';

CREATE TABLE app_private.captured_tasks (
    user_id uuid NOT NULL,
    id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    completed_at timestamp with time zone,
    created_on date NOT NULL,
    completed_on date
);

ALTER TABLE app_private.captured_tasks OWNER TO gw_owner;

COMMENT ON TABLE app_private.captured_tasks IS 'Each task as change capture counted it.';

COMMENT ON COLUMN app_private.captured_tasks.created_on IS 'The day for which it counts as created.';

COMMENT ON COLUMN app_private.captured_tasks.completed_on IS 'The day for which it counts as completed.';

CREATE VIEW app_private.captured_aggregates AS
 SELECT counted.user_id,
    counted.agg_date,
    (sum(counted.tasks_created))::integer AS tasks_created,
    (sum(counted.tasks_completed))::integer AS tasks_completed,
    (sum(counted.reflections_count))::integer AS reflections_count,
    (sum(counted.mood_sum))::integer AS mood_sum,
    (sum(counted.mood_count))::integer AS mood_count
   FROM ( SELECT captured_tasks.user_id,
            captured_tasks.created_on AS agg_date,
            count(*) AS tasks_created,
            0 AS tasks_completed,
            0 AS reflections_count,
            0 AS mood_sum,
            0 AS mood_count
           FROM app_private.captured_tasks
          GROUP BY captured_tasks.user_id, captured_tasks.created_on
        UNION ALL
         SELECT captured_tasks.user_id,
            captured_tasks.completed_on,
            0,
            count(*) AS count,
            0,
            0,
            0
           FROM app_private.captured_tasks
          WHERE (captured_tasks.completed_on IS NOT NULL)
          GROUP BY captured_tasks.user_id, captured_tasks.completed_on
        UNION ALL
         SELECT captured_reflections.user_id,
            captured_reflections.reflection_date,
            0,
            0,
            count(*) AS count,
            COALESCE(sum(captured_reflections.mood_score), (0)::bigint) AS "coalesce",
            count(captured_reflections.mood_score) AS count
           FROM app_private.captured_reflections
          GROUP BY captured_reflections.user_id, captured_reflections.reflection_date) counted
  GROUP BY counted.user_id, counted.agg_date;

ALTER TABLE app_private.captured_aggregates OWNER TO gw_owner;

COMMENT ON VIEW app_private.captured_aggregates IS 'The aggregates that follow from what was captured.';

CREATE TABLE app_private.captured_users (
    user_id uuid NOT NULL,
    timezone text NOT NULL
);

ALTER TABLE app_private.captured_users OWNER TO gw_owner;

COMMENT ON TABLE app_private.captured_users IS 'The zone in which each user''s days were counted.';

CREATE TABLE app_private.delivery_channels (
    name text NOT NULL,
    messages_per_second double precision,
    max_attempts integer DEFAULT 20 NOT NULL,
    retry_base interval DEFAULT '00:00:30'::interval NOT NULL,
    retry_cap interval DEFAULT '00:30:00'::interval NOT NULL,
    key_lifetime interval DEFAULT '24:00:00'::interval NOT NULL,
    failures_to_open integer DEFAULT 50 NOT NULL,
    circuit text DEFAULT 'closed'::text NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    opened_at timestamp with time zone,
    pause interval DEFAULT '00:00:15'::interval NOT NULL,
    probe_after timestamp with time zone,
    permits double precision DEFAULT 0 NOT NULL,
    permits_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT delivery_channels_circuit_check CHECK ((circuit = ANY (ARRAY['closed'::text, 'open'::text, 'half-open'::text]))),
    CONSTRAINT delivery_channels_failures_to_open_check CHECK ((failures_to_open > 0)),
    CONSTRAINT delivery_channels_max_attempts_check CHECK (((max_attempts >= 1) AND (max_attempts <= 1000))),
    CONSTRAINT delivery_channels_messages_per_second_check CHECK (((messages_per_second >= (0.01)::double precision) AND (messages_per_second <= (1000000)::double precision))),
    CONSTRAINT delivery_channels_probe_after_check CHECK (((circuit = 'closed'::text) = (probe_after IS NULL))),
    CONSTRAINT delivery_channels_retry_check CHECK (((retry_base > '00:00:00'::interval) AND (retry_cap >= retry_base)))
)
WITH (fillfactor='50');

ALTER TABLE app_private.delivery_channels OWNER TO gw_owner;

COMMENT ON TABLE app_private.delivery_channels IS 'The limits of each way out, and the state of its circuit breaker.';

COMMENT ON COLUMN app_private.delivery_channels.messages_per_second IS 'Of all workers together; null means no limit.';

COMMENT ON COLUMN app_private.delivery_channels.max_attempts IS 'After so many a message is FAILED.';

COMMENT ON COLUMN app_private.delivery_channels.retry_base IS 'The first wait is up to this, each next up to twice as long.';

COMMENT ON COLUMN app_private.delivery_channels.retry_cap IS 'No wait is longer.';

COMMENT ON COLUMN app_private.delivery_channels.key_lifetime IS 'How long the receiver remembers an idempotency key. An uncertain attempt that is older is not repeated.';

COMMENT ON COLUMN app_private.delivery_channels.failures_to_open IS 'So many calls in a row without an answer open the circuit: nothing is sent.';

COMMENT ON COLUMN app_private.delivery_channels.probe_after IS 'When one message is sent to see whether the receiver is back.';

CREATE TABLE app_public.reflections (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    reflection_date date NOT NULL,
    mood_score smallint,
    content text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT reflections_content_check CHECK ((length(content) <= 100000)),
    CONSTRAINT reflections_mood_score_check CHECK (((mood_score >= 1) AND (mood_score <= 5))),
    CONSTRAINT reflections_reflection_date_check CHECK (((reflection_date >= '1970-01-01'::date) AND (reflection_date <= '9999-12-31'::date)))
)
WITH (autovacuum_vacuum_scale_factor='0.1');

ALTER TABLE app_public.reflections OWNER TO gw_owner;

COMMENT ON TABLE app_public.reflections IS 'An entry of a user''s journal.';

COMMENT ON COLUMN app_public.reflections.user_id IS 'Whose journal it is.';

COMMENT ON COLUMN app_public.reflections.id IS 'Unique among the user''s reflections.';

COMMENT ON COLUMN app_public.reflections.reflection_date IS 'The day that it is about, in the user''s time zone.';

COMMENT ON COLUMN app_public.reflections.mood_score IS 'From 1 (bad) to 5 (good); null when not given.';

COMMENT ON COLUMN app_public.reflections.content IS 'At most 100,000 characters.';

COMMENT ON COLUMN app_public.reflections.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.reflections.updated_at IS 'When the row last changed.';

CREATE VIEW app_private.expected_aggregates AS
 SELECT counted.user_id,
    counted.agg_date,
    (sum(counted.tasks_created))::integer AS tasks_created,
    (sum(counted.tasks_completed))::integer AS tasks_completed,
    (sum(counted.reflections_count))::integer AS reflections_count,
    (sum(counted.mood_sum))::integer AS mood_sum,
    (sum(counted.mood_count))::integer AS mood_count
   FROM ( SELECT tasks.user_id,
            ((tasks.created_at AT TIME ZONE users.timezone))::date AS agg_date,
            count(*) AS tasks_created,
            0 AS tasks_completed,
            0 AS reflections_count,
            0 AS mood_sum,
            0 AS mood_count
           FROM (app_public.tasks
             JOIN app_public.users ON ((users.id = tasks.user_id)))
          GROUP BY tasks.user_id, (((tasks.created_at AT TIME ZONE users.timezone))::date)
        UNION ALL
         SELECT tasks.user_id,
            ((tasks.completed_at AT TIME ZONE users.timezone))::date AS timezone,
            0,
            count(*) AS count,
            0,
            0,
            0
           FROM (app_public.tasks
             JOIN app_public.users ON ((users.id = tasks.user_id)))
          WHERE (tasks.completed_at IS NOT NULL)
          GROUP BY tasks.user_id, (((tasks.completed_at AT TIME ZONE users.timezone))::date)
        UNION ALL
         SELECT reflections.user_id,
            reflections.reflection_date,
            0,
            0,
            count(*) AS count,
            COALESCE(sum(reflections.mood_score), (0)::bigint) AS "coalesce",
            count(reflections.mood_score) AS count
           FROM (app_public.reflections
             JOIN app_public.users ON ((users.id = reflections.user_id)))
          GROUP BY reflections.user_id, reflections.reflection_date) counted
  GROUP BY counted.user_id, counted.agg_date;

ALTER TABLE app_private.expected_aggregates OWNER TO gw_owner;

COMMENT ON VIEW app_private.expected_aggregates IS 'The aggregates that follow from the tables as they are.';

CREATE UNLOGGED TABLE app_private.live_users (
    user_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

ALTER TABLE app_private.live_users OWNER TO gw_owner;

COMMENT ON TABLE app_private.live_users IS 'Users with a live subscription in some API process, until expires_at.';

CREATE TABLE app_public.user_settings (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    theme text DEFAULT 'system'::text NOT NULL,
    week_starts_on smallint DEFAULT 1 NOT NULL,
    default_task_priority text DEFAULT 'medium'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    birthday_messages boolean DEFAULT true NOT NULL,
    anniversary_messages boolean DEFAULT true NOT NULL,
    weekly_digest boolean DEFAULT true NOT NULL,
    locale text DEFAULT 'en'::text NOT NULL,
    quiet_from time without time zone,
    quiet_until time without time zone,
    CONSTRAINT user_settings_default_task_priority_check CHECK ((default_task_priority = ANY (ARRAY['low'::text, 'medium'::text, 'high'::text, 'urgent'::text]))),
    CONSTRAINT user_settings_locale_check CHECK ((locale ~ '^[a-z]{2,3}(-[A-Z]{2})?$'::text)),
    CONSTRAINT user_settings_quiet_check CHECK ((((quiet_from IS NULL) = (quiet_until IS NULL)) AND (quiet_from <> quiet_until) AND (quiet_from < '24:00:00'::time without time zone) AND (quiet_until < '24:00:00'::time without time zone))),
    CONSTRAINT user_settings_theme_check CHECK ((theme = ANY (ARRAY['system'::text, 'light'::text, 'dark'::text]))),
    CONSTRAINT user_settings_week_starts_on_check CHECK (((week_starts_on >= 1) AND (week_starts_on <= 7)))
);

ALTER TABLE app_public.user_settings OWNER TO gw_owner;

COMMENT ON TABLE app_public.user_settings IS '@behavior -insert -delete
A user''s preferences.';

COMMENT ON COLUMN app_public.user_settings.user_id IS 'Whose preferences these are.';

COMMENT ON COLUMN app_public.user_settings.theme IS 'system, light or dark.';

COMMENT ON COLUMN app_public.user_settings.week_starts_on IS 'First day of the week, by ISO number: 1 Monday to 7 Sunday.';

COMMENT ON COLUMN app_public.user_settings.default_task_priority IS 'Priority that new tasks start with: low, medium, high or urgent.';

COMMENT ON COLUMN app_public.user_settings.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.user_settings.updated_at IS 'When the row last changed.';

COMMENT ON COLUMN app_public.user_settings.birthday_messages IS 'Whether a message is sent on the birthday.';

COMMENT ON COLUMN app_public.user_settings.anniversary_messages IS 'Whether a message is sent on the anniversary.';

COMMENT ON COLUMN app_public.user_settings.weekly_digest IS 'Whether a digest of the week before is sent on Monday at 08:00, local time.';

COMMENT ON COLUMN app_public.user_settings.locale IS 'Language of messages, such as en or pt-BR; English where there is no text in it.';

COMMENT ON COLUMN app_public.user_settings.quiet_from IS 'Local time from which nothing is sent; null when there are no quiet hours.';

COMMENT ON COLUMN app_public.user_settings.quiet_until IS 'Local time at which held messages are sent; earlier than quietFrom when it is on the next day.';

CREATE VIEW app_private.message_rules WITH (security_invoker='true') AS
 SELECT users.id AS user_id,
    wanted.message_type,
    wanted.base_date,
    wanted.send_time,
    users.timezone,
    users.leap_day_policy,
    users.first_name,
    users.last_name,
    COALESCE(user_settings.locale, 'en'::text) AS locale,
    users.email,
    user_settings.quiet_from,
    user_settings.quiet_until
   FROM ((app_public.users
     LEFT JOIN app_public.user_settings ON ((user_settings.user_id = users.id)))
     CROSS JOIN LATERAL ( VALUES ('BIRTHDAY'::text,users.birthday_date,users.send_time,(COALESCE(user_settings.birthday_messages, true) AND (users.birthday_date IS NOT NULL))), ('ANNIVERSARY'::text,users.anniversary_date,users.send_time,(COALESCE(user_settings.anniversary_messages, true) AND (users.anniversary_date IS NOT NULL))), ('DIGEST'::text,((users.created_at AT TIME ZONE users.timezone))::date,'08:00:00'::time without time zone,COALESCE(user_settings.weekly_digest, true))) wanted(message_type, base_date, send_time, is_wanted))
  WHERE ((users.deleted_at IS NULL) AND wanted.is_wanted);

ALTER TABLE app_private.message_rules OWNER TO gw_owner;

COMMENT ON VIEW app_private.message_rules IS 'One row for each user and message type that is to be sent: the date, time and zone it hangs on.';

CREATE TABLE app_private.message_schedule (
    user_id uuid NOT NULL,
    message_type text NOT NULL,
    delivery_date date NOT NULL,
    scheduled_send_time timestamp with time zone NOT NULL,
    CONSTRAINT message_schedule_message_type_check CHECK ((message_type = ANY (ARRAY['BIRTHDAY'::text, 'ANNIVERSARY'::text, 'DIGEST'::text])))
);

ALTER TABLE app_private.message_schedule OWNER TO gw_owner;

COMMENT ON TABLE app_private.message_schedule IS 'The next message of each user and type that is to be planned. Follows the users'' rules.';

CREATE TABLE app_private.message_settings (
    only_row boolean DEFAULT true NOT NULL,
    late_window interval DEFAULT '12:00:00'::interval NOT NULL,
    CONSTRAINT message_settings_late_window_check CHECK (((late_window >= '00:01:00'::interval) AND (late_window <= '7 days'::interval))),
    CONSTRAINT message_settings_only_row_check CHECK (only_row)
);

ALTER TABLE app_private.message_settings OWNER TO gw_owner;

COMMENT ON TABLE app_private.message_settings IS 'One row: what holds for all messages.';

COMMENT ON COLUMN app_private.message_settings.late_window IS 'How long after its time a message may still be sent.';

CREATE TABLE app_private.message_templates (
    message_type text NOT NULL,
    locale text NOT NULL,
    body text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    subject text DEFAULT ''::text NOT NULL,
    CONSTRAINT message_templates_body_check CHECK (((length(body) >= 1) AND (length(body) <= 4000))),
    CONSTRAINT message_templates_locale_check CHECK ((locale ~ '^[a-z]{2,3}(-[A-Z]{2})?$'::text)),
    CONSTRAINT message_templates_message_type_check CHECK ((message_type = ANY (ARRAY['BIRTHDAY'::text, 'ANNIVERSARY'::text, 'DIGEST'::text]))),
    CONSTRAINT message_templates_names_check CHECK (((app_hidden.template_names(subject) || app_hidden.template_names(body)) <@ (ARRAY['first_name'::text, 'last_name'::text, 'full_name'::text] ||
CASE message_type
    WHEN 'DIGEST'::text THEN ARRAY['week_start'::text, 'week_end'::text, 'habits'::text, 'tasks_created'::text, 'tasks_done'::text, 'goals_touched'::text, 'habit_days'::text, 'reflections'::text, 'mood_average'::text, 'previous_tasks_created'::text, 'previous_tasks_done'::text, 'previous_goals_touched'::text, 'previous_habit_days'::text, 'previous_reflections'::text, 'previous_mood_average'::text]
    ELSE ARRAY['age'::text, 'years'::text]
END))),
    CONSTRAINT message_templates_subject_check CHECK (((length(subject) <= 200) AND (subject !~ '[[:cntrl:]]'::text)))
);

ALTER TABLE app_private.message_templates OWNER TO gw_owner;

COMMENT ON TABLE app_private.message_templates IS 'Texts by type and locale. {{first_name}}, {{last_name}}, {{full_name}}, {{age}} and {{years}} are filled in when planned; {{#age}}…{{/age}} is left out when the year is not known. A digest has the names of digest_values() instead of age and years, filled in when sent.';

CREATE MATERIALIZED VIEW app_private.mv_user_weekly_summary AS
 WITH task_weeks AS (
         SELECT tasks.user_id,
            (date_trunc('week'::text, (tasks.created_at AT TIME ZONE 'UTC'::text)))::date AS week_start,
            count(*) FILTER (WHERE (tasks.status = 'done'::text)) AS tasks_completed,
            count(*) AS tasks_total
           FROM app_public.tasks
          WHERE (tasks.created_at >= ((date_trunc('week'::text, (now() AT TIME ZONE 'UTC'::text)) AT TIME ZONE 'UTC'::text) - '84 days'::interval))
          GROUP BY tasks.user_id, ((date_trunc('week'::text, (tasks.created_at AT TIME ZONE 'UTC'::text)))::date)
        ), reflection_weeks AS (
         SELECT reflections.user_id,
            (date_trunc('week'::text, (reflections.reflection_date)::timestamp without time zone))::date AS week_start,
            round(avg(reflections.mood_score), 2) AS avg_mood,
            count(*) AS reflections_count
           FROM app_public.reflections
          WHERE (reflections.reflection_date >= ((date_trunc('week'::text, (now() AT TIME ZONE 'UTC'::text)))::date - 84))
          GROUP BY reflections.user_id, ((date_trunc('week'::text, (reflections.reflection_date)::timestamp without time zone))::date)
        )
 SELECT user_id,
    week_start,
    COALESCE(task_weeks.tasks_completed, (0)::bigint) AS tasks_completed,
    COALESCE(task_weeks.tasks_total, (0)::bigint) AS tasks_total,
    reflection_weeks.avg_mood,
    COALESCE(reflection_weeks.reflections_count, (0)::bigint) AS reflections_count
   FROM (task_weeks
     FULL JOIN reflection_weeks USING (user_id, week_start))
  WITH NO DATA;

ALTER TABLE app_private.mv_user_weekly_summary OWNER TO gw_owner;

COMMENT ON MATERIALIZED VIEW app_private.mv_user_weekly_summary IS 'Tasks and reflections of each user and week (Monday, UTC), refreshed each hour.';

CREATE UNLOGGED TABLE app_private.query_cache (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    cache_key text NOT NULL,
    cache_key_hash text GENERATED ALWAYS AS (app_private.sha256_hex(cache_key)) STORED NOT NULL,
    cached_data jsonb NOT NULL,
    data_size integer GENERATED ALWAYS AS (octet_length((cached_data)::text)) STORED NOT NULL,
    query_hash text,
    user_id uuid,
    tags text[] DEFAULT '{}'::text[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    last_accessed timestamp with time zone DEFAULT now() NOT NULL,
    access_count integer DEFAULT 1 NOT NULL,
    generation_time_ms integer NOT NULL,
    hit_count integer DEFAULT 0 NOT NULL,
    CONSTRAINT query_cache_access_count_check CHECK ((access_count >= 1)),
    CONSTRAINT query_cache_cache_key_check CHECK (((length(cache_key) >= 1) AND (length(cache_key) <= 255))),
    CONSTRAINT query_cache_expires_at_check CHECK ((expires_at > created_at)),
    CONSTRAINT query_cache_generation_time_check CHECK ((generation_time_ms >= 0)),
    CONSTRAINT query_cache_hit_count_check CHECK ((hit_count >= 0)),
    CONSTRAINT query_cache_query_hash_check CHECK (((length(query_hash) >= 1) AND (length(query_hash) <= 64))),
    CONSTRAINT query_cache_tags_check CHECK ((array_position(tags, NULL::text) IS NULL))
)
WITH (fillfactor='80');

ALTER TABLE app_private.query_cache OWNER TO gw_owner;

COMMENT ON TABLE app_private.query_cache IS 'Results that took long to compute, by user. Use query_cache_get() and query_cache_put().';

COMMENT ON COLUMN app_private.query_cache.data_size IS 'Bytes of the result as text.';

COMMENT ON COLUMN app_private.query_cache.user_id IS 'Whom the result is for; null for callers without a user.';

COMMENT ON COLUMN app_private.query_cache.tags IS 'What it was made from, for invalidate_query_cache().';

COMMENT ON COLUMN app_private.query_cache.access_count IS 'Hits, and the access that made it.';

COMMENT ON COLUMN app_private.query_cache.generation_time_ms IS 'What a hit saves, in milliseconds.';

CREATE UNLOGGED SEQUENCE app_private.query_cache_hits
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE app_private.query_cache_hits OWNER TO gw_owner;

COMMENT ON SEQUENCE app_private.query_cache_hits IS 'How often query_cache_get() had a result.';

CREATE UNLOGGED SEQUENCE app_private.query_cache_misses
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE app_private.query_cache_misses OWNER TO gw_owner;

COMMENT ON SEQUENCE app_private.query_cache_misses IS 'How often query_cache_get() had none.';

CREATE MATERIALIZED VIEW app_private.query_performance_summary AS
 SELECT performance_metrics.query_hash,
    count(*) AS execution_count,
    avg(performance_metrics.duration_ms) AS avg_duration_ms,
    min(performance_metrics.duration_ms) AS min_duration_ms,
    max(performance_metrics.duration_ms) AS max_duration_ms,
    percentile_cont((0.95)::double precision) WITHIN GROUP (ORDER BY ((performance_metrics.duration_ms)::double precision)) AS p95_duration_ms,
    count(DISTINCT performance_metrics.user_id) AS unique_users,
    max(performance_metrics."timestamp") AS last_execution
   FROM app_private.performance_metrics
  WHERE ((performance_metrics.metric_type = 'query'::text) AND (performance_metrics."timestamp" >= (CURRENT_DATE - '7 days'::interval)) AND (performance_metrics.query_hash IS NOT NULL))
  GROUP BY performance_metrics.query_hash
 HAVING (count(*) > 10)
  WITH NO DATA;

ALTER TABLE app_private.query_performance_summary OWNER TO gw_owner;

COMMENT ON MATERIALIZED VIEW app_private.query_performance_summary IS 'Queries that ran more than 10 times in the last 7 days, and how long they took.';

CREATE TABLE app_private.sessions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    refresh_token_hash bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    last_used_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    revoked_reason text,
    CONSTRAINT sessions_refresh_token_hash_check CHECK ((length(refresh_token_hash) = 32)),
    CONSTRAINT sessions_revoked_check CHECK (((revoked_at IS NULL) = (revoked_reason IS NULL))),
    CONSTRAINT sessions_revoked_reason_check CHECK ((revoked_reason = ANY (ARRAY['logout'::text, 'reuse'::text, 'account'::text])))
);

ALTER TABLE app_private.sessions OWNER TO gw_owner;

COMMENT ON TABLE app_private.sessions IS 'Sign-ins. Holds the SHA-256 of the current refresh token, never the token.';

CREATE TABLE app_private.spent_refresh_tokens (
    user_id uuid NOT NULL,
    session_id uuid NOT NULL,
    refresh_token_hash bytea NOT NULL,
    spent_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE app_private.spent_refresh_tokens OWNER TO gw_owner;

COMMENT ON TABLE app_private.spent_refresh_tokens IS 'SHA-256 of refresh tokens that were exchanged for newer ones.';

CREATE TABLE app_private.stripe_events (
    event_id text NOT NULL,
    type text NOT NULL,
    stripe_subscription_id text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    payload jsonb NOT NULL,
    applied boolean DEFAULT false NOT NULL,
    reason text,
    CONSTRAINT stripe_events_event_id_check CHECK ((event_id ~ '^evt_[A-Za-z0-9_]{1,250}$'::text)),
    CONSTRAINT stripe_events_payload_check CHECK ((jsonb_typeof(payload) = 'object'::text)),
    CONSTRAINT stripe_events_reason_check CHECK ((applied = (reason IS NULL)))
);

ALTER TABLE app_private.stripe_events OWNER TO gw_owner;

COMMENT ON TABLE app_private.stripe_events IS 'Events about subscriptions, as Stripe sent them. One that was not applied says why in reason.';

COMMENT ON COLUMN app_private.stripe_events.occurred_at IS 'Stripe''s "created", in whole seconds.';

CREATE TABLE app_private.tier_limits (
    tier text NOT NULL,
    monthly_limit integer NOT NULL,
    CONSTRAINT tier_limits_monthly_limit_check CHECK ((monthly_limit >= 0))
);

ALTER TABLE app_private.tier_limits OWNER TO gw_owner;

COMMENT ON TABLE app_private.tier_limits IS 'How much each tier may use in a period. Takes effect with the next use.';

CREATE TABLE app_public.lists (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    project_id uuid,
    name text NOT NULL,
    list_order integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT lists_list_order_check CHECK ((list_order >= 0)),
    CONSTRAINT lists_name_check CHECK ((((length(name) >= 1) AND (length(name) <= 200)) AND (name !~ '^\s+$'::text)))
);

ALTER TABLE app_public.lists OWNER TO gw_owner;

COMMENT ON TABLE app_public.lists IS 'An ordered list of tasks. Deleting a project deletes its lists; their tasks stay.';

COMMENT ON COLUMN app_public.lists.user_id IS 'Whose list it is.';

COMMENT ON COLUMN app_public.lists.id IS 'Unique among the user''s lists.';

COMMENT ON COLUMN app_public.lists.project_id IS 'The project that it stands in; null when it stands by itself.';

COMMENT ON COLUMN app_public.lists.name IS '1 to 200 characters.';

COMMENT ON COLUMN app_public.lists.list_order IS 'Its place among the lists of the project, 0 first. Equal places are allowed.';

COMMENT ON COLUMN app_public.lists.created_at IS 'When the list was made.';

COMMENT ON COLUMN app_public.lists.updated_at IS 'When the list last changed.';

CREATE TABLE app_public.projects (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    context_metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    topics jsonb DEFAULT '[]'::jsonb NOT NULL,
    archived_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT projects_context_metadata_check CHECK ((jsonb_typeof(context_metadata) = 'object'::text)),
    CONSTRAINT projects_description_check CHECK ((length(description) <= 20000)),
    CONSTRAINT projects_name_check CHECK ((((length(name) >= 1) AND (length(name) <= 200)) AND (name !~ '^\s+$'::text))),
    CONSTRAINT projects_topics_check CHECK ((jsonb_typeof(topics) = 'array'::text))
);

ALTER TABLE app_public.projects OWNER TO gw_owner;

COMMENT ON TABLE app_public.projects IS 'What lists, tasks and visualizations are gathered under.';

COMMENT ON COLUMN app_public.projects.user_id IS 'Whose project it is.';

COMMENT ON COLUMN app_public.projects.id IS 'Unique among the user''s projects. A client may choose it, to make retries safe.';

COMMENT ON COLUMN app_public.projects.name IS '1 to 200 characters.';

COMMENT ON COLUMN app_public.projects.description IS 'At most 20,000 characters.';

COMMENT ON COLUMN app_public.projects.context_metadata IS 'A JSON object that the studio keeps for a project.';

COMMENT ON COLUMN app_public.projects.topics IS 'A JSON array of topics.';

COMMENT ON COLUMN app_public.projects.archived_at IS 'When the project was put away; null while it is in use.';

COMMENT ON COLUMN app_public.projects.created_at IS 'When the project was made.';

COMMENT ON COLUMN app_public.projects.updated_at IS 'When the project last changed.';

CREATE MATERIALIZED VIEW app_private.user_activity_summary AS
 SELECT users.id AS user_id,
    users.email,
    COALESCE(task.total, (0)::bigint) AS total_tasks,
    COALESCE(project.total, (0)::bigint) AS total_projects,
    COALESCE(list.total, (0)::bigint) AS total_lists,
    COALESCE(task.completed, (0)::bigint) AS completed_tasks,
    COALESCE(task.recent, (0)::bigint) AS recent_tasks,
    task.last_activity,
    COALESCE(metric.avg_duration_ms, (0)::numeric) AS avg_response_time_ms
   FROM ((((app_public.users
     LEFT JOIN ( SELECT tasks.user_id,
            count(*) AS total,
            count(*) FILTER (WHERE (tasks.status = 'done'::text)) AS completed,
            count(*) FILTER (WHERE (tasks.created_at >= (CURRENT_DATE - '30 days'::interval))) AS recent,
            max(tasks.updated_at) AS last_activity
           FROM app_public.tasks
          GROUP BY tasks.user_id) task ON ((task.user_id = users.id)))
     LEFT JOIN ( SELECT projects.user_id,
            count(*) AS total
           FROM app_public.projects
          GROUP BY projects.user_id) project ON ((project.user_id = users.id)))
     LEFT JOIN ( SELECT lists.user_id,
            count(*) AS total
           FROM app_public.lists
          GROUP BY lists.user_id) list ON ((list.user_id = users.id)))
     LEFT JOIN ( SELECT performance_metrics.user_id,
            avg(performance_metrics.duration_ms) AS avg_duration_ms
           FROM app_private.performance_metrics
          WHERE ((performance_metrics.metric_type = 'api'::text) AND (performance_metrics."timestamp" >= (CURRENT_DATE - '7 days'::interval)) AND (performance_metrics.user_id IS NOT NULL))
          GROUP BY performance_metrics.user_id) metric ON ((metric.user_id = users.id)))
  WHERE (users.deleted_at IS NULL)
  WITH NO DATA;

ALTER TABLE app_private.user_activity_summary OWNER TO gw_owner;

COMMENT ON MATERIALIZED VIEW app_private.user_activity_summary IS 'What each user has and did. As old as the latest refresh, at most 15 minutes.';

COMMENT ON COLUMN app_private.user_activity_summary.last_activity IS 'When a task last changed; null without tasks.';

COMMENT ON COLUMN app_private.user_activity_summary.avg_response_time_ms IS 'Mean of the API''s answers to the user in the last 7 days; 0 without any.';

CREATE TABLE app_private.user_secrets (
    user_id uuid NOT NULL,
    password_hash text NOT NULL,
    failed_attempts smallint DEFAULT 0 NOT NULL,
    last_failed_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT user_secrets_password_hash_check CHECK ((password_hash ~~ '$2_$__$%'::text))
);

ALTER TABLE app_private.user_secrets OWNER TO gw_owner;

COMMENT ON TABLE app_private.user_secrets IS 'bcrypt hashes, and how often a wrong password was given lately.';

CREATE TABLE app_public.chat_messages (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    chat_id uuid NOT NULL,
    role text NOT NULL,
    content text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT chat_messages_content_check CHECK ((length(content) <= 200000)),
    CONSTRAINT chat_messages_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT chat_messages_role_check CHECK ((role = ANY (ARRAY['user'::text, 'assistant'::text, 'system'::text, 'tool'::text])))
);

ALTER TABLE app_public.chat_messages OWNER TO gw_owner;

COMMENT ON TABLE app_public.chat_messages IS '@behavior -update
A message of a chat. Messages are added and deleted, not changed.';

COMMENT ON COLUMN app_public.chat_messages.user_id IS 'Whose chat it is in.';

COMMENT ON COLUMN app_public.chat_messages.id IS 'Unique among the user''s messages. A client may choose it, to make retries safe.';

COMMENT ON COLUMN app_public.chat_messages.chat_id IS 'The chat that it is in.';

COMMENT ON COLUMN app_public.chat_messages.role IS 'Who says it: user, assistant, system or tool.';

COMMENT ON COLUMN app_public.chat_messages.content IS 'At most 200,000 characters.';

COMMENT ON COLUMN app_public.chat_messages.metadata IS 'A JSON object, such as model and token counts.';

COMMENT ON COLUMN app_public.chat_messages.created_at IS 'When the message was added.';

CREATE TABLE app_public.chats (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    title text DEFAULT 'New chat'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT chats_title_check CHECK ((((length(title) >= 1) AND (length(title) <= 200)) AND (title !~ '^\s+$'::text)))
);

ALTER TABLE app_public.chats OWNER TO gw_owner;

COMMENT ON TABLE app_public.chats IS 'A conversation with the assistant. Deleting it deletes its messages and vectors.';

COMMENT ON COLUMN app_public.chats.user_id IS 'Whose chat it is.';

COMMENT ON COLUMN app_public.chats.id IS 'Unique among the user''s chats. A client may choose it, to make retries safe.';

COMMENT ON COLUMN app_public.chats.title IS '1 to 200 characters.';

COMMENT ON COLUMN app_public.chats.created_at IS 'When the chat was made.';

COMMENT ON COLUMN app_public.chats.updated_at IS 'When the title last changed or a message was added.';

CREATE TABLE app_public.digests (
    user_id uuid NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    week_start date NOT NULL,
    content jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT digests_content_check CHECK ((jsonb_typeof(content) = 'object'::text)),
    CONSTRAINT digests_week_start_check CHECK ((EXTRACT(isodow FROM week_start) = (1)::numeric))
);

ALTER TABLE app_public.digests OWNER TO gw_owner;

COMMENT ON TABLE app_public.digests IS 'A summary of a week, made on the Monday after it for users who want the weekly digest.';

COMMENT ON COLUMN app_public.digests.user_id IS 'Whose week it was.';

COMMENT ON COLUMN app_public.digests.id IS 'Unique among the user''s digests.';

COMMENT ON COLUMN app_public.digests.week_start IS 'The Monday on which the week began.';

COMMENT ON COLUMN app_public.digests.content IS 'A JSON object: week_start, timezone, tasks_created, tasks_done, goals_touched, habit_days, reflections, mood_sum, mood_count, mood_average (null without a mood), habits (at most 100 of {id, name, done, streak}: days kept in the week, and in a row up to its Sunday), previous (the same counts of the week before) and change (what became of each); both null in the week in which the user joined.';

COMMENT ON COLUMN app_public.digests.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.digests.updated_at IS 'When the row last changed.';

CREATE TABLE app_public.goals (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    title text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    target_date date,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT goals_description_check CHECK ((length(description) <= 20000)),
    CONSTRAINT goals_status_check CHECK ((status = ANY (ARRAY['active'::text, 'achieved'::text, 'paused'::text, 'abandoned'::text]))),
    CONSTRAINT goals_target_date_check CHECK (((target_date >= '1970-01-01'::date) AND (target_date <= '9999-12-31'::date))),
    CONSTRAINT goals_title_check CHECK ((((length(title) >= 1) AND (length(title) <= 500)) AND (title !~ '^\s+$'::text)))
);

ALTER TABLE app_public.goals OWNER TO gw_owner;

COMMENT ON TABLE app_public.goals IS 'A long-term objective of a user.';

COMMENT ON COLUMN app_public.goals.user_id IS 'Whose goal it is.';

COMMENT ON COLUMN app_public.goals.id IS 'Unique among the user''s goals.';

COMMENT ON COLUMN app_public.goals.title IS '1 to 500 characters.';

COMMENT ON COLUMN app_public.goals.description IS 'At most 20,000 characters.';

COMMENT ON COLUMN app_public.goals.status IS 'active, achieved, paused or abandoned.';

COMMENT ON COLUMN app_public.goals.target_date IS 'The day by which it should be reached, in the user''s time zone.';

COMMENT ON COLUMN app_public.goals.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.goals.updated_at IS 'When the row last changed.';

CREATE TABLE app_public.goals_tasks (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    goal_id uuid NOT NULL,
    task_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE app_public.goals_tasks OWNER TO gw_owner;

COMMENT ON TABLE app_public.goals_tasks IS 'A task that works towards a goal.';

COMMENT ON COLUMN app_public.goals_tasks.user_id IS 'Whose goal and task they are.';

COMMENT ON COLUMN app_public.goals_tasks.goal_id IS 'The goal.';

COMMENT ON COLUMN app_public.goals_tasks.task_id IS 'The task.';

COMMENT ON COLUMN app_public.goals_tasks.created_at IS 'When the two were linked.';

CREATE TABLE app_public.habit_logs (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    habit_id uuid NOT NULL,
    log_date date NOT NULL,
    note text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT habit_logs_log_date_check CHECK (((log_date >= '1970-01-01'::date) AND (log_date <= '9999-12-31'::date))),
    CONSTRAINT habit_logs_note_check CHECK ((length(note) <= 2000))
);

ALTER TABLE app_public.habit_logs OWNER TO gw_owner;

COMMENT ON TABLE app_public.habit_logs IS 'A day on which a habit was kept; at most one a day.';

COMMENT ON COLUMN app_public.habit_logs.user_id IS 'Whose habit it is.';

COMMENT ON COLUMN app_public.habit_logs.habit_id IS 'The habit.';

COMMENT ON COLUMN app_public.habit_logs.log_date IS 'The day, in the user''s time zone.';

COMMENT ON COLUMN app_public.habit_logs.note IS 'At most 2,000 characters.';

COMMENT ON COLUMN app_public.habit_logs.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.habit_logs.updated_at IS 'When the row last changed.';

CREATE TABLE app_public.integrations (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    provider text NOT NULL,
    credential_reference text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    is_enabled boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT integrations_credential_reference_check CHECK (((credential_reference ~ '^(vault|env|aws-sm|gcp-sm|azure-kv)://[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$'::text) AND (credential_reference !~ '[A-Za-z0-9]{24,}'::text) AND (credential_reference !~* '(sk|pk|rk)_(live|test)_|gh[pousr]_|github_pat|xox[abprs]-|akia|eyj'::text))),
    CONSTRAINT integrations_provider_check CHECK ((provider ~ '^[a-z][a-z0-9_-]{1,49}$'::text)),
    CONSTRAINT integrations_settings_check CHECK (((jsonb_typeof(settings) = 'object'::text) AND ((settings)::text !~* ('"[^"]*(password|passwd|secret|token|api_?key|private_?key'::text || '|access_?key|credential)[^"]*" *:'::text))))
);

ALTER TABLE app_public.integrations OWNER TO gw_owner;

COMMENT ON TABLE app_public.integrations IS 'A connection to another service; one for each provider.';

COMMENT ON COLUMN app_public.integrations.user_id IS 'Whose connection it is.';

COMMENT ON COLUMN app_public.integrations.id IS 'Unique among the user''s integrations.';

COMMENT ON COLUMN app_public.integrations.provider IS 'Lower-case name, such as google_calendar.';

COMMENT ON COLUMN app_public.integrations.credential_reference IS 'Where the credential is kept, such as vault://users/calendar. Never the credential.';

COMMENT ON COLUMN app_public.integrations.settings IS 'A JSON object without secrets.';

COMMENT ON COLUMN app_public.integrations.is_enabled IS 'Whether it is used.';

COMMENT ON COLUMN app_public.integrations.created_at IS 'When the row was made.';

COMMENT ON COLUMN app_public.integrations.updated_at IS 'When the row last changed.';

CREATE VIEW app_public.my_activity_summary WITH (security_barrier='true') AS
 SELECT user_activity_summary.user_id,
    (user_activity_summary.total_tasks)::integer AS total_tasks,
    (user_activity_summary.total_projects)::integer AS total_projects,
    (user_activity_summary.total_lists)::integer AS total_lists,
    (user_activity_summary.completed_tasks)::integer AS completed_tasks,
    (user_activity_summary.recent_tasks)::integer AS recent_tasks,
    user_activity_summary.last_activity,
    (user_activity_summary.avg_response_time_ms)::double precision AS avg_response_time_ms
   FROM app_private.user_activity_summary
  WHERE (user_activity_summary.user_id = app_hidden.current_app_user_id());

ALTER TABLE app_public.my_activity_summary OWNER TO gw_owner;

COMMENT ON VIEW app_public.my_activity_summary IS '@primaryKey user_id
What you have and did: one row, at most 15 minutes old; none right after signing up.';

COMMENT ON COLUMN app_public.my_activity_summary.user_id IS 'You.';

COMMENT ON COLUMN app_public.my_activity_summary.total_tasks IS '@notNull
Tasks of any status.';

COMMENT ON COLUMN app_public.my_activity_summary.total_projects IS '@notNull
Projects, archived ones too.';

COMMENT ON COLUMN app_public.my_activity_summary.total_lists IS '@notNull
Lists.';

COMMENT ON COLUMN app_public.my_activity_summary.completed_tasks IS '@notNull
Tasks whose status is done.';

COMMENT ON COLUMN app_public.my_activity_summary.recent_tasks IS '@notNull
Tasks made in the last 30 days.';

COMMENT ON COLUMN app_public.my_activity_summary.last_activity IS 'When a task last changed; null without tasks.';

COMMENT ON COLUMN app_public.my_activity_summary.avg_response_time_ms IS '@notNull
How long answers took on average in the last 7 days, in milliseconds; 0 without any.';

CREATE TABLE app_public.reflection_goals (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    reflection_id uuid NOT NULL,
    goal_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE app_public.reflection_goals OWNER TO gw_owner;

COMMENT ON TABLE app_public.reflection_goals IS 'A goal that a reflection is about.';

COMMENT ON COLUMN app_public.reflection_goals.user_id IS 'Whose they are.';

COMMENT ON COLUMN app_public.reflection_goals.reflection_id IS 'The reflection.';

COMMENT ON COLUMN app_public.reflection_goals.goal_id IS 'The goal.';

COMMENT ON COLUMN app_public.reflection_goals.created_at IS 'When the two were linked.';

CREATE TABLE app_public.reflection_habits (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    reflection_id uuid NOT NULL,
    habit_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE app_public.reflection_habits OWNER TO gw_owner;

COMMENT ON TABLE app_public.reflection_habits IS 'A habit that a reflection is about.';

COMMENT ON COLUMN app_public.reflection_habits.user_id IS 'Whose they are.';

COMMENT ON COLUMN app_public.reflection_habits.reflection_id IS 'The reflection.';

COMMENT ON COLUMN app_public.reflection_habits.habit_id IS 'The habit.';

COMMENT ON COLUMN app_public.reflection_habits.created_at IS 'When the two were linked.';

CREATE TABLE app_public.reflection_tasks (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    reflection_id uuid NOT NULL,
    task_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE app_public.reflection_tasks OWNER TO gw_owner;

COMMENT ON TABLE app_public.reflection_tasks IS 'A task that a reflection is about.';

COMMENT ON COLUMN app_public.reflection_tasks.user_id IS 'Whose they are.';

COMMENT ON COLUMN app_public.reflection_tasks.reflection_id IS 'The reflection.';

COMMENT ON COLUMN app_public.reflection_tasks.task_id IS 'The task.';

COMMENT ON COLUMN app_public.reflection_tasks.created_at IS 'When the two were linked.';

CREATE TABLE app_public.user_dashboard_aggregates (
    user_id uuid NOT NULL,
    agg_date date NOT NULL,
    tasks_created integer DEFAULT 0 NOT NULL,
    tasks_completed integer DEFAULT 0 NOT NULL,
    reflections_count integer DEFAULT 0 NOT NULL,
    mood_sum integer DEFAULT 0 NOT NULL,
    mood_count integer DEFAULT 0 NOT NULL,
    avg_mood numeric(3,2) GENERATED ALWAYS AS (
CASE
    WHEN (mood_count > 0) THEN round(((mood_sum)::numeric / (mood_count)::numeric), 2)
    ELSE NULL::numeric
END) STORED,
    last_updated timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT user_dashboard_aggregates_counts_check CHECK ((LEAST(tasks_created, tasks_completed, reflections_count, mood_sum, mood_count) >= 0))
);

ALTER TABLE app_public.user_dashboard_aggregates OWNER TO gw_owner;

COMMENT ON TABLE app_public.user_dashboard_aggregates IS 'What a user did on a day, counted.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.user_id IS 'Whose day it is.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.agg_date IS 'The day, in the user''s time zone.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.tasks_created IS 'Tasks made on that day.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.tasks_completed IS 'Tasks completed on that day.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.reflections_count IS 'Reflections about that day.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.mood_sum IS 'Sum of the mood scores of that day.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.mood_count IS 'How many mood scores that is.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.avg_mood IS 'Their average, 1.00 to 5.00; null when there is none.';

COMMENT ON COLUMN app_public.user_dashboard_aggregates.last_updated IS 'When the row last changed.';

CREATE VIEW app_public.weekly_summaries WITH (security_barrier='true') AS
 SELECT mv_user_weekly_summary.user_id,
    mv_user_weekly_summary.week_start,
    mv_user_weekly_summary.tasks_completed,
    mv_user_weekly_summary.tasks_total,
    mv_user_weekly_summary.avg_mood,
    mv_user_weekly_summary.reflections_count
   FROM app_private.mv_user_weekly_summary
  WHERE (mv_user_weekly_summary.user_id = app_hidden.current_app_user_id());

ALTER TABLE app_public.weekly_summaries OWNER TO gw_owner;

COMMENT ON VIEW app_public.weekly_summaries IS '@primaryKey user_id,week_start
@foreignKey (user_id) references app_public.users (id)
Your weeks of the last twelve, up to an hour old.';

COMMENT ON COLUMN app_public.weekly_summaries.user_id IS 'Whose week it is.';

COMMENT ON COLUMN app_public.weekly_summaries.week_start IS 'The Monday on which the week began, in UTC.';

COMMENT ON COLUMN app_public.weekly_summaries.tasks_completed IS 'Tasks made in that week that are done by now.';

COMMENT ON COLUMN app_public.weekly_summaries.tasks_total IS 'Tasks made in that week.';

COMMENT ON COLUMN app_public.weekly_summaries.avg_mood IS 'Average mood of that week''s reflections, 1.00 to 5.00; null without one.';

COMMENT ON COLUMN app_public.weekly_summaries.reflections_count IS 'Reflections about that week.';

CREATE TABLE app_public.workspaces (
    user_id uuid DEFAULT app_hidden.current_app_user_id() NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT workspaces_data_check CHECK ((jsonb_typeof(data) = 'object'::text)),
    CONSTRAINT workspaces_name_check CHECK ((((length(name) >= 1) AND (length(name) <= 200)) AND (name !~ '^\s+$'::text)))
);

ALTER TABLE app_public.workspaces OWNER TO gw_owner;

COMMENT ON TABLE app_public.workspaces IS 'Where a user works on a visualization.';

COMMENT ON COLUMN app_public.workspaces.user_id IS 'Whose workspace it is: its owner.';

COMMENT ON COLUMN app_public.workspaces.id IS 'Unique among the user''s workspaces. A client may choose it, to make retries safe.';

COMMENT ON COLUMN app_public.workspaces.name IS '1 to 200 characters.';

COMMENT ON COLUMN app_public.workspaces.data IS 'A JSON object: the state of the visualization.';

COMMENT ON COLUMN app_public.workspaces.created_at IS 'When the workspace was made.';

COMMENT ON COLUMN app_public.workspaces.updated_at IS 'When the workspace last changed.';

CREATE TABLE ops.alert_notices (
    id bigint NOT NULL,
    alert_id bigint NOT NULL,
    check_name text NOT NULL,
    object text NOT NULL,
    state text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT alert_notices_state_check CHECK ((state = ANY (ARRAY['opened'::text, 'changed'::text, 'resolved'::text, 'flapping'::text, 'settled'::text])))
);

ALTER TABLE ops.alert_notices OWNER TO gw_owner;

COMMENT ON TABLE ops.alert_notices IS 'What was announced of alerts, each by a job of the queue alert-notify. Kept 90 days.';

COMMENT ON COLUMN ops.alert_notices.state IS 'opened, changed (its level), resolved; flapping: changes are not announced until an hour passed without one; settled: that hour passed.';

ALTER TABLE ops.alert_notices ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.alert_notices_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ops.alerts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.alerts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.audit_log_head (
    is_only boolean DEFAULT true NOT NULL,
    last_id bigint NOT NULL,
    last_hash bytea NOT NULL,
    CONSTRAINT audit_log_head_is_only_check CHECK (is_only),
    CONSTRAINT audit_log_head_last_hash_check CHECK ((octet_length(last_hash) = 32))
);

ALTER TABLE ops.audit_log_head OWNER TO gw_owner;

COMMENT ON TABLE ops.audit_log_head IS 'The newest row of ops.audit_log: what shows that rows are gone from its end.';

CREATE TABLE ops.backups (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    kind text NOT NULL,
    tables text[],
    location text NOT NULL,
    bytes bigint,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    verified_at timestamp with time zone,
    CONSTRAINT backups_bytes_check CHECK ((bytes >= 0)),
    CONSTRAINT backups_finished_at_check CHECK ((finished_at >= started_at)),
    CONSTRAINT backups_kind_check CHECK ((kind = ANY (ARRAY['logical'::text, 'physical'::text]))),
    CONSTRAINT backups_location_check CHECK ((location <> ''::text)),
    CONSTRAINT backups_tables_check CHECK (((tables IS NULL) OR ((kind = 'logical'::text) AND (cardinality(tables) > 0)))),
    CONSTRAINT backups_verified_at_check CHECK (((verified_at IS NULL) OR ((finished_at IS NOT NULL) AND (verified_at >= finished_at))))
);

ALTER TABLE ops.backups OWNER TO gw_owner;

COMMENT ON TABLE ops.backups IS 'Backups of this database. A drop of partitions trusts those that were verified.';

COMMENT ON COLUMN ops.backups.kind IS 'logical (pg_dump) or physical (the whole server).';

COMMENT ON COLUMN ops.backups.tables IS 'What a logical backup was limited to, as schema.table; a parent stands for the partitions that it had. Null: everything.';

COMMENT ON COLUMN ops.backups.started_at IS 'When it began. It holds nothing that was written later.';

COMMENT ON COLUMN ops.backups.finished_at IS 'Null while it runs, and when it failed.';

COMMENT ON COLUMN ops.backups.verified_at IS 'When it was last restored for a trial; null when never.';

CREATE TABLE ops.change_capture (
    slot_name text NOT NULL,
    plugin text NOT NULL,
    state text NOT NULL,
    applied_lsn pg_lsn,
    applied_at timestamp with time zone,
    committed_at timestamp with time zone,
    snapshot_lsn pg_lsn,
    snapshot_at timestamp with time zone,
    resnapshot_requested boolean DEFAULT false NOT NULL,
    hold_lsn pg_lsn,
    error text,
    CONSTRAINT change_capture_applied_lsn_check CHECK (((applied_lsn IS NOT NULL) OR (state = ANY (ARRAY['snapshotting'::text, 'failed'::text])))),
    CONSTRAINT change_capture_plugin_check CHECK ((plugin = ANY (ARRAY['wal2json'::text, 'pgoutput'::text]))),
    CONSTRAINT change_capture_state_check CHECK ((state = ANY (ARRAY['running'::text, 'stopped'::text, 'failed'::text, 'snapshotting'::text])))
)
WITH (fillfactor='20');

ALTER TABLE ops.change_capture OWNER TO gw_owner;

COMMENT ON TABLE ops.change_capture IS 'How far change capture is: one row for each slot that gw cdc has read.';

COMMENT ON COLUMN ops.change_capture.plugin IS 'The slot''s output plugin.';

COMMENT ON COLUMN ops.change_capture.state IS 'running, stopped, failed (see error) or snapshotting.';

COMMENT ON COLUMN ops.change_capture.applied_lsn IS 'Every change that was committed before this position is in the aggregates, none after.';

COMMENT ON COLUMN ops.change_capture.applied_at IS 'When that was written.';

COMMENT ON COLUMN ops.change_capture.committed_at IS 'When the last transaction that was applied had committed.';

COMMENT ON COLUMN ops.change_capture.snapshot_lsn IS 'The position at which everything was last counted from the tables.';

COMMENT ON COLUMN ops.change_capture.snapshot_at IS 'When that was done.';

COMMENT ON COLUMN ops.change_capture.resnapshot_requested IS 'The consumer is to count everything anew.';

COMMENT ON COLUMN ops.change_capture.hold_lsn IS 'The consumer waits at this position while gw cdc reconcile compares; null otherwise.';

COMMENT ON COLUMN ops.change_capture.error IS 'Why it failed.';

CREATE VIEW ops.change_capture_status AS
 SELECT change_capture.slot_name,
    change_capture.plugin,
    COALESCE(slots.active, false) AS active,
    COALESCE(slots.wal_status, 'lost'::text) AS wal_status,
    ((pg_current_wal_lsn() - slots.confirmed_flush_lsn))::bigint AS lag_bytes,
        CASE
            WHEN (change_capture.committed_at IS NOT NULL) THEN (GREATEST(EXTRACT(epoch FROM (now() - change_capture.committed_at)), (0)::numeric))::double precision
            ELSE NULL::double precision
        END AS lag_seconds,
    change_capture.applied_lsn,
    change_capture.applied_at,
        CASE
            WHEN ((change_capture.state = 'running'::text) AND (slots.active IS NOT TRUE)) THEN 'stopped'::text
            ELSE change_capture.state
        END AS state,
    change_capture.error,
    slots.safe_wal_size,
    slots.confirmed_flush_lsn,
    change_capture.snapshot_lsn,
    change_capture.snapshot_at
   FROM (ops.change_capture
     LEFT JOIN pg_replication_slots slots ON (((slots.slot_name = change_capture.slot_name) AND (slots.database = current_database()))))
  WHERE (NOT pg_is_in_recovery());

ALTER TABLE ops.change_capture_status OWNER TO gw_owner;

COMMENT ON VIEW ops.change_capture_status IS 'How change capture is doing: one row a slot; none on a standby. A heartbeat every 5 seconds keeps both lags near zero.';

COMMENT ON COLUMN ops.change_capture_status.wal_status IS 'lost: the slot is gone or has lost its log; the consumer will count everything anew.';

COMMENT ON COLUMN ops.change_capture_status.lag_bytes IS 'Log that is written and not confirmed; null without a slot.';

COMMENT ON COLUMN ops.change_capture_status.lag_seconds IS 'Since the commit of the last transaction that was applied: up to 5 on an idle database.';

COMMENT ON COLUMN ops.change_capture_status.state IS 'running, stopped, failed (see error) or snapshotting.';

COMMENT ON COLUMN ops.change_capture_status.safe_wal_size IS 'Bytes that may still be written before the slot is lost; null without a limit.';

CREATE TABLE ops.cron_jobs (
    job_name text NOT NULL,
    schedule text NOT NULL,
    command text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    description text NOT NULL,
    CONSTRAINT cron_jobs_job_name_check CHECK ((job_name ~ '^[a-z][a-z0-9-]{1,60}$'::text)),
    CONSTRAINT cron_jobs_schedule_check CHECK (((schedule ~ '^\s*(\S+\s+){4}\S+\s*$'::text) OR (schedule ~ '^[1-5]?[0-9] seconds$'::text)))
);

ALTER TABLE ops.cron_jobs OWNER TO gw_owner;

COMMENT ON TABLE ops.cron_jobs IS 'What pg_cron runs in this database. Change rows here, never in cron.job.';

COMMENT ON COLUMN ops.cron_jobs.schedule IS 'Five cron fields, in UTC.';

COMMENT ON COLUMN ops.cron_jobs.command IS 'One call of one function.';

CREATE TABLE ops.health_checks (
    name text NOT NULL,
    query text NOT NULL,
    needs text[] DEFAULT '{}'::text[] NOT NULL,
    every interval DEFAULT '00:01:00'::interval NOT NULL,
    ran_at timestamp with time zone,
    CONSTRAINT health_checks_every_check CHECK ((every > '00:00:00'::interval)),
    CONSTRAINT health_checks_name_check CHECK ((name ~ '^[a-z][a-z0-9-]{1,50}$'::text))
);

ALTER TABLE ops.health_checks OWNER TO gw_owner;

COMMENT ON TABLE ops.health_checks IS 'The checks that ops.check_health() runs. Copies of sql/checks/health-*.sql, made by gw migrate: change the files.';

COMMENT ON COLUMN ops.health_checks.query IS 'A select of level, object, detail and remediation, a row for each finding.';

COMMENT ON COLUMN ops.health_checks.needs IS 'Relations, functions or roles without which it does not run.';

COMMENT ON COLUMN ops.health_checks.every IS 'How long after a run the next one is due.';

COMMENT ON COLUMN ops.health_checks.ran_at IS 'When it last ran; null when it has not.';

CREATE TABLE ops.partition_events (
    id bigint NOT NULL,
    occurred_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    parent_table text NOT NULL,
    partition_name text NOT NULL,
    event text NOT NULL,
    reason text,
    will_drop boolean DEFAULT false NOT NULL,
    wal_position pg_lsn,
    bytes bigint,
    CONSTRAINT partition_events_event_check CHECK ((event = ANY (ARRAY['created'::text, 'detached'::text, 'dropped'::text, 'skipped'::text]))),
    CONSTRAINT partition_events_reason_check CHECK (((event = 'skipped'::text) = (reason IS NOT NULL))),
    CONSTRAINT partition_events_wal_position_check CHECK (((event = 'detached'::text) = (wal_position IS NOT NULL)))
);

ALTER TABLE ops.partition_events OWNER TO gw_owner;

COMMENT ON TABLE ops.partition_events IS 'Partitions that were created, detached and dropped, and those that could not be. Append-only.';

COMMENT ON COLUMN ops.partition_events.parent_table IS 'The partitioned table, by name: it may be gone.';

COMMENT ON COLUMN ops.partition_events.reason IS 'Why it was skipped; null otherwise.';

COMMENT ON COLUMN ops.partition_events.will_drop IS 'Of a detached one: whether the policy wanted it dropped. A table that was detached to be kept stays, even when the policy changes.';

COMMENT ON COLUMN ops.partition_events.wal_position IS 'Of a detached one: where the write-ahead log was. Every write to it lies before.';

COMMENT ON COLUMN ops.partition_events.bytes IS 'Of a detached or dropped one: its size with indexes.';

ALTER TABLE ops.partition_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.partition_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.partition_policies (
    parent_table regclass NOT NULL,
    step interval NOT NULL,
    premake smallint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    retention interval,
    retention_action text DEFAULT 'detach'::text NOT NULL,
    require_backup boolean DEFAULT true NOT NULL,
    CONSTRAINT partition_policies_premake_check CHECK (((premake >= 1) AND (premake <= 120))),
    CONSTRAINT partition_policies_retention_action_check CHECK ((retention_action = ANY (ARRAY['detach'::text, 'drop'::text]))),
    CONSTRAINT partition_policies_retention_check CHECK ((retention > '00:00:00'::interval)),
    CONSTRAINT partition_policies_step_check CHECK ((step = ANY (ARRAY['1 mon'::interval, '1 day'::interval])))
);

ALTER TABLE ops.partition_policies OWNER TO gw_owner;

COMMENT ON TABLE ops.partition_policies IS 'Range-partitioned tables that ops.ensure_partitions() keeps supplied with partitions.';

COMMENT ON COLUMN ops.partition_policies.step IS 'What one partition spans: 1 month or 1 day. Bounds are in UTC.';

COMMENT ON COLUMN ops.partition_policies.premake IS 'How many partitions exist ahead of the current one.';

COMMENT ON COLUMN ops.partition_policies.retention IS 'How long ago a partition must have ended before it leaves; null keeps all.';

COMMENT ON COLUMN ops.partition_policies.retention_action IS 'detach: the rows stay in a table of their own in app_partitions. drop: that table is dropped too, once backups and replication slots have what was in it.';

COMMENT ON COLUMN ops.partition_policies.require_backup IS 'Whether a drop waits for a verified backup that began after the partition left.';

ALTER TABLE ONLY app_hidden.timezones
    ADD CONSTRAINT timezones_pkey PRIMARY KEY (name);

ALTER TABLE ONLY app_private.capture_expectations
    ADD CONSTRAINT capture_expectations_pkey PRIMARY KEY (user_id, agg_date);

ALTER TABLE ONLY app_private.capture_signals
    ADD CONSTRAINT capture_signals_pkey PRIMARY KEY (id);

ALTER TABLE ONLY app_private.captured_reflections
    ADD CONSTRAINT captured_reflections_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_private.captured_tasks
    ADD CONSTRAINT captured_tasks_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_private.captured_users
    ADD CONSTRAINT captured_users_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY app_private.connection_pool_stats
    ADD CONSTRAINT connection_pool_stats_pkey PRIMARY KEY (id, recorded_at);

ALTER TABLE ONLY app_private.delivery_channels
    ADD CONSTRAINT delivery_channels_pkey PRIMARY KEY (name);

ALTER TABLE ONLY app_private.live_users
    ADD CONSTRAINT live_users_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY app_private.message_ledger
    ADD CONSTRAINT message_ledger_pkey PRIMARY KEY (user_id, message_type, delivery_date);

ALTER TABLE ONLY app_private.message_schedule
    ADD CONSTRAINT message_schedule_pkey PRIMARY KEY (user_id, message_type);

ALTER TABLE ONLY app_private.message_settings
    ADD CONSTRAINT message_settings_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY app_private.message_templates
    ADD CONSTRAINT message_templates_pkey PRIMARY KEY (message_type, locale);

ALTER TABLE ONLY app_private.performance_metrics
    ADD CONSTRAINT performance_metrics_pkey PRIMARY KEY (id, "timestamp");

ALTER TABLE ONLY app_private.query_cache
    ADD CONSTRAINT query_cache_cache_key_hash_user_id_key UNIQUE NULLS NOT DISTINCT (cache_key_hash, user_id);

ALTER TABLE ONLY app_private.query_cache
    ADD CONSTRAINT query_cache_pkey PRIMARY KEY (id);

ALTER TABLE ONLY app_private.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_private.spent_refresh_tokens
    ADD CONSTRAINT spent_refresh_tokens_pkey PRIMARY KEY (user_id, session_id, refresh_token_hash);

ALTER TABLE ONLY app_private.stripe_events
    ADD CONSTRAINT stripe_events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY app_private.tier_limits
    ADD CONSTRAINT tier_limits_pkey PRIMARY KEY (tier);

ALTER TABLE ONLY app_private.user_secrets
    ADD CONSTRAINT user_secrets_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY app_public.chat_messages
    ADD CONSTRAINT chat_messages_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.chat_vectors
    ADD CONSTRAINT chat_vectors_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.chats
    ADD CONSTRAINT chats_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.digests
    ADD CONSTRAINT digests_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.digests
    ADD CONSTRAINT digests_user_id_week_start_key UNIQUE (user_id, week_start);

ALTER TABLE ONLY app_public.goals
    ADD CONSTRAINT goals_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.goals_tasks
    ADD CONSTRAINT goals_tasks_pkey PRIMARY KEY (user_id, goal_id, task_id);

ALTER TABLE ONLY app_public.habit_logs
    ADD CONSTRAINT habit_logs_pkey PRIMARY KEY (user_id, habit_id, log_date);

ALTER TABLE ONLY app_public.habits
    ADD CONSTRAINT habits_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.integrations
    ADD CONSTRAINT integrations_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.integrations
    ADD CONSTRAINT integrations_user_id_provider_key UNIQUE (user_id, provider);

ALTER TABLE ONLY app_public.lists
    ADD CONSTRAINT lists_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.message_logs
    ADD CONSTRAINT message_logs_pkey PRIMARY KEY (user_id, id, scheduled_send_time);

ALTER TABLE ONLY app_public.project_visualizations
    ADD CONSTRAINT project_visualizations_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.project_visualizations
    ADD CONSTRAINT project_visualizations_user_id_project_id_slide_number_key UNIQUE (user_id, project_id, slide_number) DEFERRABLE;

COMMENT ON CONSTRAINT project_visualizations_user_id_project_id_slide_number_key ON app_public.project_visualizations IS '@behavior -single -update -delete
A place in a project is taken once.';

ALTER TABLE ONLY app_public.projects
    ADD CONSTRAINT projects_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.reflection_goals
    ADD CONSTRAINT reflection_goals_pkey PRIMARY KEY (user_id, reflection_id, goal_id);

ALTER TABLE ONLY app_public.reflection_habits
    ADD CONSTRAINT reflection_habits_pkey PRIMARY KEY (user_id, reflection_id, habit_id);

ALTER TABLE ONLY app_public.reflection_tasks
    ADD CONSTRAINT reflection_tasks_pkey PRIMARY KEY (user_id, reflection_id, task_id);

ALTER TABLE ONLY app_public.reflections
    ADD CONSTRAINT reflections_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY app_public.tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY app_public.user_activity
    ADD CONSTRAINT user_activity_pkey PRIMARY KEY (user_id, activity_date, id);

ALTER TABLE ONLY app_public.user_dashboard_aggregates
    ADD CONSTRAINT user_dashboard_aggregates_pkey PRIMARY KEY (user_id, agg_date);

ALTER TABLE ONLY app_public.user_settings
    ADD CONSTRAINT user_settings_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY app_public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

ALTER TABLE ONLY app_public.workspaces
    ADD CONSTRAINT workspaces_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY ops.alert_notices
    ADD CONSTRAINT alert_notices_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ops.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ops.audit_log_head
    ADD CONSTRAINT audit_log_head_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY ops.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ops.backups
    ADD CONSTRAINT backups_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ops.change_capture
    ADD CONSTRAINT change_capture_pkey PRIMARY KEY (slot_name);

ALTER TABLE ONLY ops.cron_jobs
    ADD CONSTRAINT cron_jobs_pkey PRIMARY KEY (job_name);

ALTER TABLE ONLY ops.health_checks
    ADD CONSTRAINT health_checks_pkey PRIMARY KEY (name);

ALTER TABLE ONLY ops.partition_events
    ADD CONSTRAINT partition_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ops.partition_policies
    ADD CONSTRAINT partition_policies_pkey PRIMARY KEY (parent_table);

CREATE INDEX connection_pool_stats_pool_name_recorded_at_idx ON ONLY app_private.connection_pool_stats USING btree (pool_name, recorded_at);

CREATE INDEX connection_pool_stats_recorded_at_idx ON ONLY app_private.connection_pool_stats USING btree (recorded_at);

CREATE INDEX message_schedule_scheduled_send_time_idx ON app_private.message_schedule USING btree (scheduled_send_time);

CREATE UNIQUE INDEX mv_user_weekly_summary_user_id_week_start_key ON app_private.mv_user_weekly_summary USING btree (user_id, week_start);

CREATE INDEX performance_metrics_duration_ms_idx ON ONLY app_private.performance_metrics USING btree (duration_ms);

CREATE INDEX performance_metrics_endpoint_timestamp_idx_where_known ON ONLY app_private.performance_metrics USING btree (endpoint, "timestamp") WHERE (endpoint IS NOT NULL);

CREATE INDEX performance_metrics_metric_type_timestamp_idx ON ONLY app_private.performance_metrics USING btree (metric_type, "timestamp");

CREATE INDEX performance_metrics_query_hash_timestamp_idx_where_known ON ONLY app_private.performance_metrics USING btree (query_hash, "timestamp") WHERE (query_hash IS NOT NULL);

CREATE INDEX performance_metrics_user_id_timestamp_idx_where_known ON ONLY app_private.performance_metrics USING btree (user_id, "timestamp") WHERE (user_id IS NOT NULL);

CREATE INDEX query_cache_expires_at_idx ON app_private.query_cache USING btree (expires_at);

CREATE INDEX query_cache_tags_idx ON app_private.query_cache USING gin (tags);

CREATE INDEX query_cache_user_id_idx ON app_private.query_cache USING btree (user_id);

CREATE INDEX query_performance_summary_avg_duration_ms_idx ON app_private.query_performance_summary USING btree (avg_duration_ms);

CREATE UNIQUE INDEX query_performance_summary_query_hash_idx ON app_private.query_performance_summary USING btree (query_hash);

CREATE INDEX sessions_expires_at_idx ON app_private.sessions USING btree (expires_at);

CREATE UNIQUE INDEX sessions_refresh_token_hash_key ON app_private.sessions USING btree (refresh_token_hash);

CREATE INDEX sessions_revoked_at_idx ON app_private.sessions USING btree (revoked_at) WHERE (revoked_at IS NOT NULL);

CREATE UNIQUE INDEX spent_refresh_tokens_refresh_token_hash_key ON app_private.spent_refresh_tokens USING btree (refresh_token_hash);

CREATE INDEX stripe_events_received_at_idx ON app_private.stripe_events USING btree (received_at);

CREATE INDEX stripe_events_stripe_subscription_id_occurred_at_idx ON app_private.stripe_events USING btree (stripe_subscription_id, occurred_at) WHERE applied;

CREATE UNIQUE INDEX user_activity_summary_user_id_idx ON app_private.user_activity_summary USING btree (user_id);

CREATE INDEX chat_messages_user_id_chat_id_created_at_idx ON app_public.chat_messages USING btree (user_id, chat_id, created_at);

CREATE UNIQUE INDEX chat_messages_user_id_chat_id_id_key ON app_public.chat_messages USING btree (user_id, chat_id, id);

CREATE INDEX chat_vectors_user_id_chat_id_message_id_idx ON app_public.chat_vectors USING btree (user_id, chat_id, message_id);

CREATE INDEX chats_user_id_updated_at_idx ON app_public.chats USING btree (user_id, updated_at);

CREATE INDEX goals_tasks_user_id_task_id_idx ON app_public.goals_tasks USING btree (user_id, task_id);

CREATE INDEX goals_user_id_created_at_idx ON app_public.goals USING btree (user_id, created_at);

CREATE INDEX goals_user_id_status_target_date_idx ON app_public.goals USING btree (user_id, status, target_date);

CREATE INDEX habit_logs_user_id_log_date_idx ON app_public.habit_logs USING btree (user_id, log_date);

CREATE INDEX habits_user_id_created_at_idx ON app_public.habits USING btree (user_id, created_at);

CREATE INDEX lists_user_id_created_at_idx ON app_public.lists USING btree (user_id, created_at);

CREATE INDEX lists_user_id_project_id_list_order_idx ON app_public.lists USING btree (user_id, project_id, list_order);

CREATE INDEX message_logs_message_type_status_scheduled_send_time_idx ON ONLY app_public.message_logs USING btree (message_type, status, scheduled_send_time);

CREATE INDEX message_logs_scheduled_send_time_idx_where_unsent ON ONLY app_public.message_logs USING btree (scheduled_send_time, status) WHERE (status <> 'SENT'::text);

CREATE INDEX message_logs_status_scheduled_send_time_idx_where_open ON ONLY app_public.message_logs USING btree (status, scheduled_send_time) WHERE (status = ANY (ARRAY['SCHEDULED'::text, 'QUEUED'::text, 'SENDING'::text, 'RETRYING'::text]));

CREATE INDEX message_logs_user_id_scheduled_send_time_idx ON ONLY app_public.message_logs USING btree (user_id, scheduled_send_time);

CREATE INDEX projects_user_id_created_at_idx ON app_public.projects USING btree (user_id, created_at);

CREATE INDEX projects_user_id_updated_at_idx ON app_public.projects USING btree (user_id, updated_at);

CREATE INDEX reflection_goals_user_id_goal_id_idx ON app_public.reflection_goals USING btree (user_id, goal_id);

CREATE INDEX reflection_habits_user_id_habit_id_idx ON app_public.reflection_habits USING btree (user_id, habit_id);

CREATE INDEX reflection_tasks_user_id_task_id_idx ON app_public.reflection_tasks USING btree (user_id, task_id);

CREATE INDEX reflections_user_id_reflection_date_idx ON app_public.reflections USING btree (user_id, reflection_date);

CREATE INDEX snapshots_user_id_taken_at_idx ON app_public.snapshots USING btree (user_id, taken_at);

CREATE UNIQUE INDEX subscriptions_stripe_customer_id_key ON app_public.subscriptions USING btree (stripe_customer_id);

CREATE UNIQUE INDEX subscriptions_stripe_subscription_id_key ON app_public.subscriptions USING btree (stripe_subscription_id);

CREATE INDEX subscriptions_tier_status_idx ON app_public.subscriptions USING btree (tier, status);

CREATE INDEX tasks_user_id_created_at_idx ON ONLY app_public.tasks USING btree (user_id, created_at);

CREATE INDEX tasks_user_id_due_date_idx ON ONLY app_public.tasks USING btree (user_id, due_date);

CREATE INDEX tasks_user_id_list_id_position_in_list_idx ON ONLY app_public.tasks USING btree (user_id, list_id, position_in_list) WHERE (list_id IS NOT NULL);

CREATE INDEX tasks_user_id_project_id_priority_created_at_idx ON ONLY app_public.tasks USING btree (user_id, project_id, priority, created_at) WHERE (project_id IS NOT NULL);

CREATE INDEX tasks_user_id_status_updated_at_idx ON ONLY app_public.tasks USING btree (user_id, status, updated_at);

CREATE INDEX user_activity_user_id_occurred_at_idx ON ONLY app_public.user_activity USING btree (user_id, occurred_at);

CREATE INDEX users_anniversary_idx ON app_public.users USING btree (app_hidden.month_day(anniversary_date), timezone) WHERE ((deleted_at IS NULL) AND (anniversary_date IS NOT NULL));

CREATE INDEX users_birthday_idx ON app_public.users USING btree (app_hidden.month_day(birthday_date), timezone) WHERE ((deleted_at IS NULL) AND (birthday_date IS NOT NULL));

CREATE INDEX users_created_at_idx ON app_public.users USING btree (created_at);

CREATE UNIQUE INDEX users_email_key ON app_public.users USING btree (lower(email)) WHERE (deleted_at IS NULL);

CREATE INDEX users_timezone_idx ON app_public.users USING btree (timezone);

CREATE INDEX workspaces_user_id_created_at_idx ON app_public.workspaces USING btree (user_id, created_at);

CREATE INDEX workspaces_user_id_updated_at_idx ON app_public.workspaces USING btree (user_id, updated_at);

CREATE INDEX alert_notices_alert_id_idx ON ops.alert_notices USING btree (alert_id);

CREATE INDEX alert_notices_check_name_object_id_idx ON ops.alert_notices USING btree (check_name, object, id);

CREATE INDEX alert_notices_check_name_object_idx_where_flapping ON ops.alert_notices USING btree (check_name, object) WHERE (state = 'flapping'::text);

CREATE UNIQUE INDEX alerts_check_name_object_idx_where_open ON ops.alerts USING btree (check_name, object) WHERE (resolved_at IS NULL);

CREATE INDEX alerts_raised_at_idx ON ops.alerts USING btree (raised_at);

CREATE INDEX audit_log_occurred_at_idx ON ops.audit_log USING btree (occurred_at);

CREATE INDEX backups_started_at_idx ON ops.backups USING btree (started_at);

CREATE INDEX partition_events_partition_name_id_idx ON ops.partition_events USING btree (partition_name, id);

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_private.message_templates FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.chat_vectors FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.chats FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.digests FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.goals FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.habit_logs FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.habits FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.integrations FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.lists FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.message_logs FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.project_visualizations FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.projects FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.reflections FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.subscriptions FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.tasks FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.user_settings FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.users FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _100_timestamps BEFORE INSERT OR UPDATE ON app_public.workspaces FOR EACH ROW EXECUTE FUNCTION app_private.tg__timestamps();

CREATE TRIGGER _200_release_tasks BEFORE DELETE ON app_public.lists FOR EACH ROW EXECUTE FUNCTION app_private.tg__release_tasks('list_id');

CREATE TRIGGER _200_release_tasks BEFORE DELETE ON app_public.projects FOR EACH ROW EXECUTE FUNCTION app_private.tg__release_tasks('project_id');

CREATE TRIGGER _500_close AFTER UPDATE OF deleted_at ON app_public.users FOR EACH ROW WHEN (((old.deleted_at IS NULL) AND (new.deleted_at IS NOT NULL))) EXECUTE FUNCTION app_private.tg_users__close();

CREATE TRIGGER _500_completion BEFORE INSERT OR UPDATE OF status, completed_at ON app_public.tasks FOR EACH ROW EXECUTE FUNCTION app_private.tg_tasks__completion();

CREATE TRIGGER _500_subscribe AFTER INSERT ON app_public.users FOR EACH ROW EXECUTE FUNCTION app_private.tg_users__subscribe();

CREATE TRIGGER _500_touch_chat AFTER INSERT ON app_public.chat_messages FOR EACH ROW EXECUTE FUNCTION app_private.tg_chat_messages__touch_chat();

CREATE TRIGGER _600_replan_insert AFTER INSERT ON app_public.user_settings REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_user_settings__replan();

CREATE TRIGGER _600_replan_insert AFTER INSERT ON app_public.users REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_users__replan();

CREATE TRIGGER _600_replan_update AFTER UPDATE ON app_public.user_settings REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_user_settings__replan();

CREATE TRIGGER _600_replan_update AFTER UPDATE ON app_public.users REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_users__replan();

CREATE TRIGGER _900_activity_delete AFTER DELETE ON app_public.goals REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('goal');

CREATE TRIGGER _900_activity_delete AFTER DELETE ON app_public.habit_logs REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_habit_logs__activity();

CREATE TRIGGER _900_activity_delete AFTER DELETE ON app_public.habits REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('habit');

CREATE TRIGGER _900_activity_delete AFTER DELETE ON app_public.reflections REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('reflection');

CREATE TRIGGER _900_activity_delete AFTER DELETE ON app_public.tasks REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('task');

CREATE TRIGGER _900_activity_insert AFTER INSERT ON app_public.goals REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('goal');

CREATE TRIGGER _900_activity_insert AFTER INSERT ON app_public.habit_logs REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_habit_logs__activity();

CREATE TRIGGER _900_activity_insert AFTER INSERT ON app_public.habits REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('habit');

CREATE TRIGGER _900_activity_insert AFTER INSERT ON app_public.reflections REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('reflection');

CREATE TRIGGER _900_activity_insert AFTER INSERT ON app_public.tasks REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('task');

CREATE TRIGGER _900_activity_update AFTER UPDATE ON app_public.goals REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('goal');

CREATE TRIGGER _900_activity_update AFTER UPDATE ON app_public.habit_logs REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_habit_logs__activity();

CREATE TRIGGER _900_activity_update AFTER UPDATE ON app_public.habits REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('habit');

CREATE TRIGGER _900_activity_update AFTER UPDATE ON app_public.reflections REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('reflection');

CREATE TRIGGER _900_activity_update AFTER UPDATE ON app_public.tasks REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__activity('task');

CREATE TRIGGER _900_invalidate_delete AFTER DELETE ON app_public.goals REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_delete AFTER DELETE ON app_public.habit_logs REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_delete AFTER DELETE ON app_public.habits REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_delete AFTER DELETE ON app_public.reflections REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_delete AFTER DELETE ON app_public.tasks REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_insert AFTER INSERT ON app_public.goals REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_insert AFTER INSERT ON app_public.habit_logs REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_insert AFTER INSERT ON app_public.habits REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_insert AFTER INSERT ON app_public.reflections REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_insert AFTER INSERT ON app_public.tasks REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_update AFTER UPDATE ON app_public.goals REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_update AFTER UPDATE ON app_public.habit_logs REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_update AFTER UPDATE ON app_public.habits REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_update AFTER UPDATE ON app_public.reflections REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_invalidate_update AFTER UPDATE ON app_public.tasks REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__invalidate_insights();

CREATE TRIGGER _900_notify_delete AFTER DELETE ON app_public.tasks REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_tasks__notify();

CREATE TRIGGER _900_notify_delete AFTER DELETE ON app_public.user_dashboard_aggregates REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_user_dashboard_aggregates__notify();

CREATE TRIGGER _900_notify_insert AFTER INSERT ON app_public.tasks REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_tasks__notify();

CREATE TRIGGER _900_notify_insert AFTER INSERT ON app_public.user_dashboard_aggregates REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_user_dashboard_aggregates__notify();

CREATE TRIGGER _900_notify_update AFTER UPDATE ON app_public.message_logs REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_message_logs__notify();

CREATE TRIGGER _900_notify_update AFTER UPDATE ON app_public.tasks REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_tasks__notify();

CREATE TRIGGER _900_notify_update AFTER UPDATE ON app_public.user_dashboard_aggregates REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_user_dashboard_aggregates__notify();

CREATE TRIGGER _200_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ops.audit_log FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__append_only();

ALTER TABLE ops.audit_log ENABLE ALWAYS TRIGGER _200_append_only;

CREATE TRIGGER _200_append_only BEFORE DELETE OR TRUNCATE ON ops.audit_log_head FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__append_only();

ALTER TABLE ops.audit_log_head ENABLE ALWAYS TRIGGER _200_append_only;

CREATE TRIGGER _200_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ops.partition_events FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__append_only();

CREATE TRIGGER _900_audit AFTER INSERT ON ops.partition_events FOR EACH ROW WHEN ((new.event = ANY (ARRAY['detached'::text, 'dropped'::text]))) EXECUTE FUNCTION app_private.tg_partition_events__audit();

CREATE TRIGGER _900_notify AFTER INSERT ON ops.alerts FOR EACH ROW EXECUTE FUNCTION app_private.tg_alerts__notify();

CREATE TRIGGER _900_notify_change AFTER UPDATE OF level, resolved_at ON ops.alerts FOR EACH ROW WHEN (((old.level IS DISTINCT FROM new.level) OR (old.resolved_at IS DISTINCT FROM new.resolved_at))) EXECUTE FUNCTION app_private.tg_alerts__notify();

ALTER TABLE app_private.message_ledger
    ADD CONSTRAINT message_ledger_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_private.message_schedule
    ADD CONSTRAINT message_schedule_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_private.query_cache
    ADD CONSTRAINT query_cache_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_private.sessions
    ADD CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_private.spent_refresh_tokens
    ADD CONSTRAINT spent_refresh_tokens_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES app_private.sessions(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_private.user_secrets
    ADD CONSTRAINT user_secrets_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.chat_messages
    ADD CONSTRAINT chat_messages_user_id_chat_id_fkey FOREIGN KEY (user_id, chat_id) REFERENCES app_public.chats(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.chat_messages
    ADD CONSTRAINT chat_messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.chat_vectors
    ADD CONSTRAINT chat_vectors_user_id_chat_id_fkey FOREIGN KEY (user_id, chat_id) REFERENCES app_public.chats(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.chat_vectors
    ADD CONSTRAINT chat_vectors_user_id_chat_id_message_id_fkey FOREIGN KEY (user_id, chat_id, message_id) REFERENCES app_public.chat_messages(user_id, chat_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.chat_vectors
    ADD CONSTRAINT chat_vectors_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.chats
    ADD CONSTRAINT chats_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.digests
    ADD CONSTRAINT digests_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.goals_tasks
    ADD CONSTRAINT goals_tasks_user_id_goal_id_fkey FOREIGN KEY (user_id, goal_id) REFERENCES app_public.goals(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.goals_tasks
    ADD CONSTRAINT goals_tasks_user_id_task_id_fkey FOREIGN KEY (user_id, task_id) REFERENCES app_public.tasks(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.goals
    ADD CONSTRAINT goals_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.habit_logs
    ADD CONSTRAINT habit_logs_user_id_habit_id_fkey FOREIGN KEY (user_id, habit_id) REFERENCES app_public.habits(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.habits
    ADD CONSTRAINT habits_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.integrations
    ADD CONSTRAINT integrations_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.lists
    ADD CONSTRAINT lists_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.lists
    ADD CONSTRAINT lists_user_id_project_id_fkey FOREIGN KEY (user_id, project_id) REFERENCES app_public.projects(user_id, id) ON DELETE CASCADE;

ALTER TABLE app_public.message_logs
    ADD CONSTRAINT message_logs_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.project_visualizations
    ADD CONSTRAINT project_visualizations_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.project_visualizations
    ADD CONSTRAINT project_visualizations_user_id_project_id_fkey FOREIGN KEY (user_id, project_id) REFERENCES app_public.projects(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.projects
    ADD CONSTRAINT projects_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.reflection_goals
    ADD CONSTRAINT reflection_goals_user_id_goal_id_fkey FOREIGN KEY (user_id, goal_id) REFERENCES app_public.goals(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.reflection_goals
    ADD CONSTRAINT reflection_goals_user_id_reflection_id_fkey FOREIGN KEY (user_id, reflection_id) REFERENCES app_public.reflections(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.reflection_habits
    ADD CONSTRAINT reflection_habits_user_id_habit_id_fkey FOREIGN KEY (user_id, habit_id) REFERENCES app_public.habits(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.reflection_habits
    ADD CONSTRAINT reflection_habits_user_id_reflection_id_fkey FOREIGN KEY (user_id, reflection_id) REFERENCES app_public.reflections(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.reflection_tasks
    ADD CONSTRAINT reflection_tasks_user_id_reflection_id_fkey FOREIGN KEY (user_id, reflection_id) REFERENCES app_public.reflections(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.reflection_tasks
    ADD CONSTRAINT reflection_tasks_user_id_task_id_fkey FOREIGN KEY (user_id, task_id) REFERENCES app_public.tasks(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.reflections
    ADD CONSTRAINT reflections_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.snapshots
    ADD CONSTRAINT snapshots_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.subscriptions
    ADD CONSTRAINT subscriptions_tier_fkey FOREIGN KEY (tier) REFERENCES app_private.tier_limits(tier);

ALTER TABLE ONLY app_public.subscriptions
    ADD CONSTRAINT subscriptions_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE app_public.tasks
    ADD CONSTRAINT tasks_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE app_public.tasks
    ADD CONSTRAINT tasks_user_id_list_id_fkey FOREIGN KEY (user_id, list_id) REFERENCES app_public.lists(user_id, id);

ALTER TABLE app_public.tasks
    ADD CONSTRAINT tasks_user_id_project_id_fkey FOREIGN KEY (user_id, project_id) REFERENCES app_public.projects(user_id, id);

ALTER TABLE app_public.user_activity
    ADD CONSTRAINT user_activity_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.user_dashboard_aggregates
    ADD CONSTRAINT user_dashboard_aggregates_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.user_settings
    ADD CONSTRAINT user_settings_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY app_public.users
    ADD CONSTRAINT users_timezone_fkey FOREIGN KEY (timezone) REFERENCES app_hidden.timezones(name);

ALTER TABLE ONLY app_public.workspaces
    ADD CONSTRAINT workspaces_user_id_fkey FOREIGN KEY (user_id) REFERENCES app_public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY ops.alert_notices
    ADD CONSTRAINT alert_notices_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES ops.alerts(id) ON DELETE CASCADE;

ALTER TABLE app_private.capture_expectations ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.capture_signals ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.captured_reflections ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.captured_tasks ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.captured_users ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.connection_pool_stats ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.delivery_channels ENABLE ROW LEVEL SECURITY;

CREATE POLICY everyone ON app_private.connection_pool_stats FOR SELECT TO gw_monitor USING (true);

CREATE POLICY everyone ON app_private.performance_metrics FOR SELECT TO gw_monitor USING (true);

ALTER TABLE app_private.live_users ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.message_ledger ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.message_schedule ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.message_settings ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.message_templates ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.performance_metrics ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.query_cache ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.sessions ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.spent_refresh_tokens ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.stripe_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.tier_limits ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_private.user_secrets ENABLE ROW LEVEL SECURITY;

CREATE POLICY writers ON app_private.connection_pool_stats FOR INSERT TO gw_worker, gw_authenticator WITH CHECK (true);

CREATE POLICY writers ON app_private.performance_metrics FOR INSERT TO gw_worker, gw_authenticator WITH CHECK (true);

CREATE POLICY capture ON app_public.user_dashboard_aggregates TO gw_cdc USING (true);

ALTER TABLE app_public.chat_messages ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.chat_vectors ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.chats ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.digests ENABLE ROW LEVEL SECURITY;

CREATE POLICY everyone ON app_public.chat_messages FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.chat_vectors FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.chats FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.digests FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.goals FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.goals_tasks FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.habit_logs FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.habits FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.integrations FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.lists FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.message_logs FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.project_visualizations FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.projects FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.reflection_goals FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.reflection_habits FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.reflection_tasks FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.reflections FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.snapshots FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.subscriptions FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.tasks FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.user_activity FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.user_dashboard_aggregates FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.user_settings FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.users FOR SELECT TO gw_readonly USING (true);

CREATE POLICY everyone ON app_public.workspaces FOR SELECT TO gw_readonly USING (true);

ALTER TABLE app_public.goals ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.goals_tasks ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.habit_logs ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.habits ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.integrations ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.lists ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.message_logs ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON app_public.chat_messages TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.chat_vectors TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.chats TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.digests FOR SELECT TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.goals TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.goals_tasks TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.habit_logs TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.habits TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.integrations TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.lists TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.message_logs FOR SELECT TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.project_visualizations TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.projects TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.reflection_goals TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.reflection_habits TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.reflection_tasks TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.reflections TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.snapshots TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.subscriptions TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.tasks TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.user_activity FOR SELECT TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.user_dashboard_aggregates FOR SELECT TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.user_settings TO app_user USING ((user_id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.users TO app_user USING (((id = app_hidden.current_app_user_id()) AND (deleted_at IS NULL))) WITH CHECK ((id = app_hidden.current_app_user_id()));

CREATE POLICY own ON app_public.workspaces TO app_user USING ((user_id = app_hidden.current_app_user_id()));

ALTER TABLE app_public.project_visualizations ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.projects ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.reflection_goals ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.reflection_habits ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.reflection_tasks ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.reflections ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.snapshots ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.subscriptions ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.tasks ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.user_activity ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.user_dashboard_aggregates ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.user_settings ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.users ENABLE ROW LEVEL SECURITY;

ALTER TABLE app_public.workspaces ENABLE ROW LEVEL SECURITY;

ALTER TABLE ops.alerts ENABLE ROW LEVEL SECURITY;

ALTER TABLE ops.change_capture ENABLE ROW LEVEL SECURITY;

CREATE POLICY everything ON ops.alerts FOR SELECT TO gw_monitor USING (true);

CREATE POLICY everything ON ops.change_capture FOR SELECT TO gw_cdc, gw_monitor USING (true);

CREATE PUBLICATION gw_cdc WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);

ALTER PUBLICATION gw_cdc OWNER TO gw_owner;

ALTER PUBLICATION gw_cdc ADD TABLE ONLY app_private.capture_signals;

ALTER PUBLICATION gw_cdc ADD TABLE ONLY app_public.reflections (user_id, id, reflection_date, mood_score);

ALTER PUBLICATION gw_cdc ADD TABLE ONLY app_public.tasks (user_id, id, completed_at, created_at);

ALTER PUBLICATION gw_cdc ADD TABLE ONLY app_public.users (id, timezone);

GRANT USAGE ON SCHEMA app_hidden TO app_user;
GRANT USAGE ON SCHEMA app_hidden TO app_anonymous;
GRANT USAGE ON SCHEMA app_hidden TO gw_readonly;

GRANT USAGE ON SCHEMA app_private TO gw_authenticator;
GRANT USAGE ON SCHEMA app_private TO gw_worker;
GRANT USAGE ON SCHEMA app_private TO gw_monitor;
GRANT USAGE ON SCHEMA app_private TO gw_cdc;

GRANT USAGE ON SCHEMA app_public TO app_user;
GRANT USAGE ON SCHEMA app_public TO app_anonymous;
GRANT USAGE ON SCHEMA app_public TO gw_readonly;
GRANT USAGE ON SCHEMA app_public TO gw_cdc;

GRANT USAGE ON SCHEMA ops TO gw_authenticator;
GRANT USAGE ON SCHEMA ops TO gw_monitor;
GRANT USAGE ON SCHEMA ops TO gw_worker;
GRANT USAGE ON SCHEMA ops TO gw_cdc;

REVOKE ALL ON FUNCTION app_hidden.current_app_user_id() FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.current_app_user_id() TO app_user;
GRANT ALL ON FUNCTION app_hidden.current_app_user_id() TO app_anonymous;
GRANT ALL ON FUNCTION app_hidden.current_app_user_id() TO gw_readonly;

REVOKE ALL ON FUNCTION app_hidden.current_traceparent() FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.current_traceparent() TO app_user;
GRANT ALL ON FUNCTION app_hidden.current_traceparent() TO app_anonymous;

REVOKE ALL ON FUNCTION app_hidden.earlier_instant(p_local timestamp without time zone, p_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.earlier_instant(p_local timestamp without time zone, p_zone text) TO app_user;
GRANT ALL ON FUNCTION app_hidden.earlier_instant(p_local timestamp without time zone, p_zone text) TO gw_readonly;

REVOKE ALL ON FUNCTION app_hidden.local_to_instant(p_local timestamp without time zone, p_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.local_to_instant(p_local timestamp without time zone, p_zone text) TO app_user;
GRANT ALL ON FUNCTION app_hidden.local_to_instant(p_local timestamp without time zone, p_zone text) TO gw_readonly;

REVOKE ALL ON FUNCTION app_hidden.month_day(p_date date) FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.month_day(p_date date) TO app_user;
GRANT ALL ON FUNCTION app_hidden.month_day(p_date date) TO gw_readonly;

REVOKE ALL ON FUNCTION app_hidden.occurrence_in_year(p_date date, p_year integer, p_leap_day_policy text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.occurrence_in_year(p_date date, p_year integer, p_leap_day_policy text) TO app_user;
GRANT ALL ON FUNCTION app_hidden.occurrence_in_year(p_date date, p_year integer, p_leap_day_policy text) TO gw_readonly;

REVOKE ALL ON FUNCTION app_hidden.quiet_until(p_at timestamp with time zone, p_zone text, p_from time without time zone, p_until time without time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.quiet_until(p_at timestamp with time zone, p_zone text, p_from time without time zone, p_until time without time zone) TO gw_readonly;

REVOKE ALL ON FUNCTION app_hidden.render_template(p_template text, p_values jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_hidden.sync_timezones() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_hidden.template_names(p_template text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_hidden.to_embedding(numbers double precision[], argument text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_hidden.to_embedding(numbers double precision[], argument text) TO app_user;

REVOKE ALL ON FUNCTION app_private.add_to_aggregates(p_changes app_private.capture_expectations[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.analyze_hot_tables() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.apply_changes(p_slot text, p_from pg_lsn, p_to pg_lsn, p_commit_lsn pg_lsn, p_committed_at timestamp with time zone, p_changes jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.apply_changes(p_slot text, p_from pg_lsn, p_to pg_lsn, p_commit_lsn pg_lsn, p_committed_at timestamp with time zone, p_changes jsonb) TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.apply_subscription_event(p_event jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.apply_subscription_event(p_event jsonb) TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.backfill_digests(p_user_ids uuid[], p_weeks integer, p_recompute boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.begin_capture_snapshot(p_slot text, p_plugin text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.begin_capture_snapshot(p_slot text, p_plugin text) TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.cached_insights(p_user_id uuid, p_weeks integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.capture_differences() FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.capture_differences() TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.capture_heartbeat(p_slot text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.capture_heartbeat(p_slot text) TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.capture_reflections(p_reflections jsonb, p_gone jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.capture_tasks(p_tasks jsonb, p_gone jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.capture_truncation(p_object text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.capture_users(p_users jsonb, p_gone jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.check_simulated_changes(p_changes jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.claim_messages(p_jobs jsonb, p_channel text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.claim_messages(p_jobs jsonb, p_channel text) TO gw_worker;

REVOKE ALL ON FUNCTION app_private.cleanup_expired_cache() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.compose_digests(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.compose_digests_singly(p_jobs jsonb, p_channel text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.compose_message(p_message_type text, p_delivery_date date, p_base_date date, p_first_name text, p_last_name text, p_locale text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.compute_insights(p_user_id uuid, p_weeks integer, p_time_zone text, p_today date) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.delete_expired_sessions() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.delete_old_stripe_events() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.describe_instant(p_local timestamp without time zone, p_zone text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.describe_occasion(p_message_type text, p_base_date date, p_leap_day_policy text, p_date date, OUT is_occasion boolean, OUT detail text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.digest_contents(p_user_ids uuid[], p_week_starts date[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.digest_values(p_content jsonb, p_first_name text, p_last_name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.enqueue_messages(p_user_ids uuid[], p_message_ids uuid[], p_times timestamp with time zone[], p_not_before timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.expect_aggregates() FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.expect_aggregates() TO gw_cdc;

GRANT SELECT ON TABLE app_public.message_logs TO gw_readonly;

GRANT SELECT(user_id) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(id) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(message_type) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(delivery_date) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(message_content) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(scheduled_send_time) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(actual_send_time) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(status) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(retry_count) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(created_at) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(updated_at) ON TABLE app_public.message_logs TO app_user;

GRANT SELECT(message_subject) ON TABLE app_public.message_logs TO app_user;

REVOKE ALL ON FUNCTION app_private.explain_attempts(p_message app_public.message_logs) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.explain_planned(p_message app_public.message_logs, p_instant timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.explain_unplanned(p_user_id uuid, p_message_type text, p_date date, p_instant timestamp with time zone, OUT at timestamp with time zone, OUT detail text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.fill_capture_snapshot() FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.fill_capture_snapshot() TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.find_messages(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.find_occasions(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.finish_capture_snapshot(p_slot text, p_plugin text, p_lsn pg_lsn) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.finish_capture_snapshot(p_slot text, p_plugin text, p_lsn pg_lsn) TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.hash_password(p_password text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.hold_capture(p_slot text, p_lsn pg_lsn) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.hold_capture(p_slot text, p_lsn pg_lsn) TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.insights_lock(p_user_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.invalidate_query_cache(tags text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.invalidate_query_cache(tags text[]) TO gw_authenticator;
GRANT ALL ON FUNCTION app_private.invalidate_query_cache(tags text[]) TO gw_worker;

REVOKE ALL ON FUNCTION app_private.latest_period_start(p_period_end timestamp with time zone, p_now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.live_writers() FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.live_writers() TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.monthly_limit(p_tier text, p_status text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.next_occasions(p_user_ids uuid[], p_now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.note_channel_health(p_channel text, p_reached integer, p_unreachable integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.notify_live(p_topic text, p_event text, p_user_ids uuid[], p_keys text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.plan_due_messages(p_now timestamp with time zone, p_limit integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.prune_message_ledger() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.query_cache_get(p_cache_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.query_cache_get(p_cache_key text) TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.query_cache_put(p_cache_key text, p_cached_data jsonb, p_time_to_live interval, p_generation_time_ms integer, p_tags text[], p_query_hash text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.query_cache_put(p_cache_key text, p_cached_data jsonb, p_time_to_live interval, p_generation_time_ms integer, p_tags text[], p_query_hash text) TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.queue_due_messages(p_now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.recently_revoked_sessions() FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.recently_revoked_sessions() TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.record_send_results(p_results jsonb, p_channel text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.record_send_results(p_results jsonb, p_channel text) TO gw_worker;

REVOKE ALL ON FUNCTION app_private.redrive_refusals(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_even_unknown boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.refresh_performance_views() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.refresh_weekly_summary() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.replan_messages(p_user_ids uuid[], p_now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.request_resnapshot(p_slot text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.request_resnapshot(p_slot text) TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.requeue_lost_messages() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.revoke_sessions(p_user_id uuid, p_session_id uuid, p_reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.schedule_messages(p_user_ids uuid[], p_now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.set_app_user(p_user_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.set_app_user(p_user_id uuid) TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.set_capture_state(p_slot text, p_state text, p_error text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.set_capture_state(p_slot text, p_state text, p_error text) TO gw_cdc;

REVOKE ALL ON FUNCTION app_private.sha256_hex(p_text text) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.start_session(p_user_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.take_send_permits(p_channel text, p_wanted integer) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.take_send_permits(p_channel text, p_wanted integer) TO gw_worker;

REVOKE ALL ON FUNCTION app_private.tg__activity() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg__append_only() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg__invalidate_insights() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg__release_tasks() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg__timestamps() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_alerts__notify() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_chat_messages__touch_chat() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_habit_logs__activity() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_message_logs__notify() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_partition_events__audit() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_tasks__completion() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_tasks__notify() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_tasks__truncated() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_user_dashboard_aggregates__notify() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_user_settings__replan() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_users__close() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_users__replan() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.tg_users__subscribe() FROM PUBLIC;

REVOKE ALL ON FUNCTION app_private.unsubscribe(p_user_id uuid, p_message_type text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.unsubscribe(p_user_id uuid, p_message_type text) TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.watch_live(p_user_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION app_private.watch_live(p_user_ids uuid[]) TO gw_authenticator;

REVOKE ALL ON FUNCTION app_private.without_addresses(p_text text, p_length integer) FROM PUBLIC;

GRANT SELECT,DELETE ON TABLE app_public.chat_vectors TO app_user;
GRANT SELECT ON TABLE app_public.chat_vectors TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.chat_vectors TO app_user;

GRANT INSERT(chat_id) ON TABLE app_public.chat_vectors TO app_user;

GRANT INSERT(message_id) ON TABLE app_public.chat_vectors TO app_user;

GRANT INSERT(content) ON TABLE app_public.chat_vectors TO app_user;

GRANT INSERT(embedding) ON TABLE app_public.chat_vectors TO app_user;

GRANT INSERT(metadata),UPDATE(metadata) ON TABLE app_public.chat_vectors TO app_user;

REVOKE ALL ON FUNCTION app_public.add_chat_vector(chat_id uuid, content text, embedding double precision[], message_id uuid, metadata jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.add_chat_vector(chat_id uuid, content text, embedding double precision[], message_id uuid, metadata jsonb) TO app_user;

REVOKE ALL ON FUNCTION app_public.compare_snapshots(before_id uuid, after_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.compare_snapshots(before_id uuid, after_id uuid) TO app_user;

GRANT SELECT ON TABLE app_public.subscriptions TO app_user;
GRANT SELECT ON TABLE app_public.subscriptions TO gw_readonly;

REVOKE ALL ON FUNCTION app_public.consume_usage(n integer) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.consume_usage(n integer) TO app_user;

REVOKE ALL ON FUNCTION app_public.continue_as_guest(timezone text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.continue_as_guest(timezone text) TO app_anonymous;

GRANT SELECT,DELETE ON TABLE app_public.habits TO app_user;
GRANT SELECT ON TABLE app_public.habits TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.habits TO app_user;

GRANT INSERT(name),UPDATE(name) ON TABLE app_public.habits TO app_user;

GRANT INSERT(description),UPDATE(description) ON TABLE app_public.habits TO app_user;

GRANT INSERT(archived_at),UPDATE(archived_at) ON TABLE app_public.habits TO app_user;

REVOKE ALL ON FUNCTION app_public.habits_longest_streak(habit app_public.habits) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.habits_longest_streak(habit app_public.habits) TO app_user;

REVOKE ALL ON FUNCTION app_public.habits_streak(habit app_public.habits) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.habits_streak(habit app_public.habits) TO app_user;

REVOKE ALL ON FUNCTION app_public.insights(weeks integer) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.insights(weeks integer) TO app_user;

REVOKE ALL ON FUNCTION app_public.login(email text, password text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.login(email text, password text) TO app_anonymous;
GRANT ALL ON FUNCTION app_public.login(email text, password text) TO app_user;

REVOKE ALL ON FUNCTION app_public.logout(everywhere boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.logout(everywhere boolean) TO app_user;

REVOKE ALL ON FUNCTION app_public.refresh_session(refresh_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.refresh_session(refresh_token text) TO app_anonymous;
GRANT ALL ON FUNCTION app_public.refresh_session(refresh_token text) TO app_user;

REVOKE ALL ON FUNCTION app_public.register(email text, password text, first_name text, last_name text, timezone text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.register(email text, password text, first_name text, last_name text, timezone text) TO app_anonymous;
GRANT ALL ON FUNCTION app_public.register(email text, password text, first_name text, last_name text, timezone text) TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.project_visualizations TO app_user;
GRANT SELECT ON TABLE app_public.project_visualizations TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.project_visualizations TO app_user;

GRANT INSERT(project_id) ON TABLE app_public.project_visualizations TO app_user;

GRANT INSERT(slide_number),UPDATE(slide_number) ON TABLE app_public.project_visualizations TO app_user;

GRANT INSERT(title),UPDATE(title) ON TABLE app_public.project_visualizations TO app_user;

GRANT INSERT(data),UPDATE(data) ON TABLE app_public.project_visualizations TO app_user;

GRANT INSERT(annotations),UPDATE(annotations) ON TABLE app_public.project_visualizations TO app_user;

REVOKE ALL ON FUNCTION app_public.reorder_visualizations(project_id uuid, visualization_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.reorder_visualizations(project_id uuid, visualization_ids uuid[]) TO app_user;

REVOKE ALL ON FUNCTION app_public.search_chat_vectors(query_embedding double precision[], match_count integer, chat_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.search_chat_vectors(query_embedding double precision[], match_count integer, chat_id uuid) TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.tasks TO app_user;
GRANT SELECT ON TABLE app_public.tasks TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(title),UPDATE(title) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(description),UPDATE(description) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(status),UPDATE(status) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(priority),UPDATE(priority) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(due_date),UPDATE(due_date) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(project_id),UPDATE(project_id) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(list_id),UPDATE(list_id) ON TABLE app_public.tasks TO app_user;

GRANT INSERT(position_in_list),UPDATE(position_in_list) ON TABLE app_public.tasks TO app_user;

REVOKE ALL ON FUNCTION app_public.search_tasks(query text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.search_tasks(query text) TO app_user;

REVOKE ALL ON FUNCTION app_public.subscriptions_monthly_limit(subscription app_public.subscriptions) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.subscriptions_monthly_limit(subscription app_public.subscriptions) TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.snapshots TO app_user;
GRANT SELECT ON TABLE app_public.snapshots TO gw_readonly;

REVOKE ALL ON FUNCTION app_public.take_snapshot(name text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.take_snapshot(name text) TO app_user;

GRANT SELECT ON TABLE app_public.users TO app_user;
GRANT SELECT ON TABLE app_public.users TO gw_readonly;

GRANT UPDATE(first_name) ON TABLE app_public.users TO app_user;

GRANT UPDATE(last_name) ON TABLE app_public.users TO app_user;

GRANT UPDATE(timezone) ON TABLE app_public.users TO app_user;

GRANT UPDATE(birthday_date) ON TABLE app_public.users TO app_user;

GRANT UPDATE(anniversary_date) ON TABLE app_public.users TO app_user;

GRANT UPDATE(send_time) ON TABLE app_public.users TO app_user;

GRANT UPDATE(leap_day_policy) ON TABLE app_public.users TO app_user;

GRANT UPDATE(location_city) ON TABLE app_public.users TO app_user;

GRANT UPDATE(location_country) ON TABLE app_public.users TO app_user;

REVOKE ALL ON FUNCTION app_public.upgrade_guest(email text, password text, first_name text, last_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.upgrade_guest(email text, password text, first_name text, last_name text) TO app_user;

REVOKE ALL ON FUNCTION app_public.viewer() FROM PUBLIC;
GRANT ALL ON FUNCTION app_public.viewer() TO app_user;
GRANT ALL ON FUNCTION app_public.viewer() TO app_anonymous;

REVOKE ALL ON FUNCTION ops.audit(action text, details jsonb) FROM PUBLIC;

GRANT SELECT ON TABLE ops.audit_log TO gw_monitor;

REVOKE ALL ON FUNCTION ops.audit_log_hash(p_row ops.audit_log) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.audit_log_hash(p_row ops.audit_log) TO gw_monitor;

REVOKE ALL ON FUNCTION ops.cancel_messages(p_reason text, p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_dry_run boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.check_health() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.column_widths() FROM PUBLIC;
GRANT ALL ON FUNCTION ops.column_widths() TO gw_monitor;

REVOKE ALL ON FUNCTION ops.create_next_month_partition() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.create_range_partition(p_parent regclass, p_instant timestamp with time zone, p_step interval) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.delete_cron_history() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.delete_old_alert_notices() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.drop_detached_partitions() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.ensure_partitions() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.explain_message(p_user_id uuid, p_message_type text, p_date date) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.explain_message(p_user_id uuid, p_message_type text, p_date date) TO gw_monitor;

REVOKE ALL ON FUNCTION ops.find_moved_messages(p_user_id uuid, p_timezone text, p_now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.is_backed_up(p_table regclass, p_since timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.is_backed_up(p_table regclass, p_since timestamp with time zone) TO gw_monitor;

REVOKE ALL ON FUNCTION ops.is_confirmed_by_cdc(p_position pg_lsn) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.is_confirmed_by_cdc(p_position pg_lsn) TO gw_monitor;

REVOKE ALL ON FUNCTION ops.last_migration() FROM PUBLIC;
GRANT ALL ON FUNCTION ops.last_migration() TO gw_authenticator;
GRANT ALL ON FUNCTION ops.last_migration() TO gw_monitor;
GRANT ALL ON FUNCTION ops.last_migration() TO gw_worker;

REVOKE ALL ON FUNCTION ops.limit_channel(p_channel text, p_messages_per_second double precision) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.message_status(p_from date, p_to date) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.message_status(p_from date, p_to date) TO gw_monitor;
GRANT ALL ON FUNCTION ops.message_status(p_from date, p_to date) TO gw_readonly;

REVOKE ALL ON FUNCTION ops.metrics() FROM PUBLIC;
GRANT ALL ON FUNCTION ops.metrics() TO gw_authenticator;
GRANT ALL ON FUNCTION ops.metrics() TO gw_monitor;

GRANT SELECT ON TABLE ops.alerts TO gw_monitor;

REVOKE ALL ON FUNCTION ops.notify_alert(p_alert ops.alerts, p_state text) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.overdue_messages(p_after interval) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.overdue_messages(p_after interval) TO gw_monitor;

REVOKE ALL ON FUNCTION ops.prune_old_activity_partitions() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.prune_partitions() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.raise_alert(p_check_name text, p_object text, p_level text, p_detail text, p_remediation text) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.raise_alert(p_check_name text, p_object text, p_level text, p_detail text, p_remediation text) TO gw_worker;
GRANT ALL ON FUNCTION ops.raise_alert(p_check_name text, p_object text, p_level text, p_detail text, p_remediation text) TO gw_cdc;

REVOKE ALL ON FUNCTION ops.redrive_messages(p_statuses text[], p_message_type text, p_date date, p_user_id uuid, p_since timestamp with time zone, p_message_id uuid, p_even_unknown boolean, p_dry_run boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.replan_users(p_after uuid, p_limit integer, p_timezone text, p_user_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.resolve_alert(p_check_name text, p_object text) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.resolve_alert(p_check_name text, p_object text) TO gw_worker;
GRANT ALL ON FUNCTION ops.resolve_alert(p_check_name text, p_object text) TO gw_cdc;

REVOKE ALL ON FUNCTION ops.resolve_message(p_message_id uuid, p_status text) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.settle_alerts() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.simulate_messages(p_from timestamp with time zone, p_to timestamp with time zone, p_user_id uuid, p_changes jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.sync_cron_jobs() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.sync_health_checks(p_checks jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.unknown_deliveries() FROM PUBLIC;
GRANT ALL ON FUNCTION ops.unknown_deliveries() TO gw_monitor;

REVOKE ALL ON FUNCTION ops.verify_audit_log() FROM PUBLIC;
GRANT ALL ON FUNCTION ops.verify_audit_log() TO gw_monitor;

GRANT SELECT ON TABLE app_hidden.timezones TO app_user;
GRANT SELECT ON TABLE app_hidden.timezones TO app_anonymous;
GRANT SELECT ON TABLE app_hidden.timezones TO gw_readonly;

GRANT INSERT ON TABLE app_private.connection_pool_stats TO gw_authenticator;
GRANT INSERT ON TABLE app_private.connection_pool_stats TO gw_worker;
GRANT SELECT ON TABLE app_private.connection_pool_stats TO gw_monitor;

GRANT INSERT ON TABLE app_private.performance_metrics TO gw_authenticator;
GRANT INSERT ON TABLE app_private.performance_metrics TO gw_worker;

GRANT SELECT(id) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(metric_type) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(metric_name) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(duration_ms) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(memory_usage_mb) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(cpu_usage_percent) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(request_id) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(endpoint) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(query_hash) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT("timestamp") ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT(metadata) ON TABLE app_private.performance_metrics TO gw_monitor;

GRANT SELECT ON TABLE app_public.user_activity TO app_user;
GRANT SELECT ON TABLE app_public.user_activity TO gw_readonly;

GRANT SELECT,DELETE ON TABLE app_public.reflections TO app_user;
GRANT SELECT ON TABLE app_public.reflections TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.reflections TO app_user;

GRANT INSERT(reflection_date),UPDATE(reflection_date) ON TABLE app_public.reflections TO app_user;

GRANT INSERT(mood_score),UPDATE(mood_score) ON TABLE app_public.reflections TO app_user;

GRANT INSERT(content),UPDATE(content) ON TABLE app_public.reflections TO app_user;

GRANT SELECT ON TABLE app_public.user_settings TO app_user;
GRANT SELECT ON TABLE app_public.user_settings TO gw_readonly;

GRANT UPDATE(theme) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(week_starts_on) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(default_task_priority) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(birthday_messages) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(anniversary_messages) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(weekly_digest) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(locale) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(quiet_from) ON TABLE app_public.user_settings TO app_user;

GRANT UPDATE(quiet_until) ON TABLE app_public.user_settings TO app_user;

GRANT SELECT ON TABLE app_private.query_performance_summary TO gw_monitor;

GRANT SELECT,DELETE ON TABLE app_public.lists TO app_user;
GRANT SELECT ON TABLE app_public.lists TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.lists TO app_user;

GRANT INSERT(project_id),UPDATE(project_id) ON TABLE app_public.lists TO app_user;

GRANT INSERT(name),UPDATE(name) ON TABLE app_public.lists TO app_user;

GRANT INSERT(list_order),UPDATE(list_order) ON TABLE app_public.lists TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.projects TO app_user;
GRANT SELECT ON TABLE app_public.projects TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.projects TO app_user;

GRANT INSERT(name),UPDATE(name) ON TABLE app_public.projects TO app_user;

GRANT INSERT(description),UPDATE(description) ON TABLE app_public.projects TO app_user;

GRANT INSERT(context_metadata),UPDATE(context_metadata) ON TABLE app_public.projects TO app_user;

GRANT INSERT(topics),UPDATE(topics) ON TABLE app_public.projects TO app_user;

GRANT INSERT(archived_at),UPDATE(archived_at) ON TABLE app_public.projects TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.chat_messages TO app_user;
GRANT SELECT ON TABLE app_public.chat_messages TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.chat_messages TO app_user;

GRANT INSERT(chat_id) ON TABLE app_public.chat_messages TO app_user;

GRANT INSERT(role) ON TABLE app_public.chat_messages TO app_user;

GRANT INSERT(content) ON TABLE app_public.chat_messages TO app_user;

GRANT INSERT(metadata) ON TABLE app_public.chat_messages TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.chats TO app_user;
GRANT SELECT ON TABLE app_public.chats TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.chats TO app_user;

GRANT INSERT(title),UPDATE(title) ON TABLE app_public.chats TO app_user;

GRANT SELECT ON TABLE app_public.digests TO app_user;
GRANT SELECT ON TABLE app_public.digests TO gw_readonly;

GRANT SELECT,DELETE ON TABLE app_public.goals TO app_user;
GRANT SELECT ON TABLE app_public.goals TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.goals TO app_user;

GRANT INSERT(title),UPDATE(title) ON TABLE app_public.goals TO app_user;

GRANT INSERT(description),UPDATE(description) ON TABLE app_public.goals TO app_user;

GRANT INSERT(status),UPDATE(status) ON TABLE app_public.goals TO app_user;

GRANT INSERT(target_date),UPDATE(target_date) ON TABLE app_public.goals TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.goals_tasks TO app_user;
GRANT SELECT ON TABLE app_public.goals_tasks TO gw_readonly;

GRANT INSERT(goal_id) ON TABLE app_public.goals_tasks TO app_user;

GRANT INSERT(task_id) ON TABLE app_public.goals_tasks TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.habit_logs TO app_user;
GRANT SELECT ON TABLE app_public.habit_logs TO gw_readonly;

GRANT INSERT(habit_id) ON TABLE app_public.habit_logs TO app_user;

GRANT INSERT(log_date) ON TABLE app_public.habit_logs TO app_user;

GRANT INSERT(note),UPDATE(note) ON TABLE app_public.habit_logs TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.integrations TO app_user;
GRANT SELECT ON TABLE app_public.integrations TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.integrations TO app_user;

GRANT INSERT(provider),UPDATE(provider) ON TABLE app_public.integrations TO app_user;

GRANT INSERT(credential_reference),UPDATE(credential_reference) ON TABLE app_public.integrations TO app_user;

GRANT INSERT(settings),UPDATE(settings) ON TABLE app_public.integrations TO app_user;

GRANT INSERT(is_enabled),UPDATE(is_enabled) ON TABLE app_public.integrations TO app_user;

GRANT SELECT ON TABLE app_public.my_activity_summary TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.reflection_goals TO app_user;
GRANT SELECT ON TABLE app_public.reflection_goals TO gw_readonly;

GRANT INSERT(reflection_id) ON TABLE app_public.reflection_goals TO app_user;

GRANT INSERT(goal_id) ON TABLE app_public.reflection_goals TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.reflection_habits TO app_user;
GRANT SELECT ON TABLE app_public.reflection_habits TO gw_readonly;

GRANT INSERT(reflection_id) ON TABLE app_public.reflection_habits TO app_user;

GRANT INSERT(habit_id) ON TABLE app_public.reflection_habits TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.reflection_tasks TO app_user;
GRANT SELECT ON TABLE app_public.reflection_tasks TO gw_readonly;

GRANT INSERT(reflection_id) ON TABLE app_public.reflection_tasks TO app_user;

GRANT INSERT(task_id) ON TABLE app_public.reflection_tasks TO app_user;

GRANT SELECT ON TABLE app_public.user_dashboard_aggregates TO app_user;
GRANT SELECT ON TABLE app_public.user_dashboard_aggregates TO gw_readonly;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE app_public.user_dashboard_aggregates TO gw_cdc;

GRANT SELECT ON TABLE app_public.weekly_summaries TO app_user;

GRANT SELECT,DELETE ON TABLE app_public.workspaces TO app_user;
GRANT SELECT ON TABLE app_public.workspaces TO gw_readonly;

GRANT INSERT(id) ON TABLE app_public.workspaces TO app_user;

GRANT INSERT(name),UPDATE(name) ON TABLE app_public.workspaces TO app_user;

GRANT INSERT(data),UPDATE(data) ON TABLE app_public.workspaces TO app_user;

GRANT SELECT ON TABLE ops.alert_notices TO gw_monitor;

GRANT SELECT ON TABLE ops.audit_log_head TO gw_monitor;

GRANT SELECT ON TABLE ops.backups TO gw_monitor;

GRANT SELECT ON TABLE ops.change_capture TO gw_monitor;
GRANT SELECT ON TABLE ops.change_capture TO gw_cdc;

GRANT SELECT ON TABLE ops.change_capture_status TO gw_monitor;
GRANT SELECT ON TABLE ops.change_capture_status TO gw_cdc;

GRANT SELECT ON TABLE ops.cron_jobs TO gw_monitor;

GRANT SELECT ON TABLE ops.health_checks TO gw_monitor;

GRANT SELECT ON TABLE ops.partition_events TO gw_monitor;

GRANT SELECT ON TABLE ops.partition_policies TO gw_monitor;

ALTER DEFAULT PRIVILEGES FOR ROLE gw_owner REVOKE ALL ON FUNCTIONS  FROM PUBLIC;
