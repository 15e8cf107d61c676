--! Previous: sha1:731c3d0e2f3ba6276ee33611bc4aa0d875206adc
--! Hash: sha1:6489bbb5674d367d37f2c6353bdd0a47d58a4413
--! Message: integrations
--! Baseline: topics/17-integrations.sql

/*
 * Integrations: connections to other services.
 */

-- Integrations. The credential itself is in a secret store; the row holds only a
-- reference to it. CHECKs refuse values that look like credentials, also in settings,
-- because a user may paste one.
create table app_public.integrations (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  provider text not null,
  credential_reference text not null,
  settings jsonb not null default '{}',
  is_enabled boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint integrations_pkey primary key (user_id, id),
  constraint integrations_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint integrations_user_id_provider_key unique (user_id, provider),
  constraint integrations_provider_check check (provider ~ '^[a-z][a-z0-9_-]{1,49}$'),
  constraint integrations_credential_reference_check check (
    credential_reference
      ~ '^(vault|env|aws-sm|gcp-sm|azure-kv)://[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$'
    -- A token is a long run of letters and digits, or has a known prefix of its issuer.
    and credential_reference !~ '[A-Za-z0-9]{24,}'
    and credential_reference
      !~* '(sk|pk|rk)_(live|test)_|gh[pousr]_|github_pat|xox[abprs]-|akia|eyj'),
  constraint integrations_settings_check check (
    jsonb_typeof(settings) = 'object'
    and settings::text !~* ('"[^"]*(password|passwd|secret|token|api_?key|private_?key'
      || '|access_?key|credential)[^"]*" *:'))
);

alter table app_public.integrations enable row level security;

create policy own on app_public.integrations
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.integrations
  for select to gw_readonly
  using (true);

grant select, delete,
  insert (id, provider, credential_reference, settings, is_enabled),
  update (provider, credential_reference, settings, is_enabled)
  on app_public.integrations to app_user;

grant select on app_public.integrations to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.integrations
  for each row execute function app_private.tg__timestamps();

comment on table app_public.integrations is
  E'@defaultOrder provider\n'
  'A connection to another service. A user has at most one for each provider.';
comment on column app_public.integrations.user_id is 'The user who owns the integration.';
comment on column app_public.integrations.id is
  'Id of the integration, unique among the user''s integrations. A client may choose it '
  'when it creates the integration, to make retries safe.';
comment on column app_public.integrations.provider is
  'Name of the provider, such as google_calendar: 2 to 50 lower-case letters, digits, '
  'underscores or hyphens, with a letter first.';
comment on column app_public.integrations.credential_reference is
  'Where the credential is stored, such as vault://users/calendar; the scheme is vault, '
  'env, aws-sm, gcp-sm or azure-kv. A value that looks like a credential is refused '
  '(CHECK_VIOLATION).';
comment on column app_public.integrations.settings is
  'Settings of the integration, a JSON object; empty by default. A key that names a '
  'secret, such as password or token, is refused (CHECK_VIOLATION).';
comment on column app_public.integrations.is_enabled is
  'Whether the integration is in use; true by default.';
comment on column app_public.integrations.created_at is
  'When the integration was created.';
comment on column app_public.integrations.updated_at is
  'When the integration last changed.';
comment on constraint integrations_pkey on app_public.integrations is
  'you have an integration with this id already';
comment on constraint integrations_user_id_provider_key on app_public.integrations is
  'you have an integration of this provider already';
comment on constraint integrations_provider_check on app_public.integrations is
  'a provider has 2 to 50 of a to z, 0 to 9, _ and -, and begins with a letter';
comment on constraint integrations_credential_reference_check on app_public.integrations is
  'a credential is a reference such as vault://team/google, never the secret itself';
comment on constraint integrations_settings_check on app_public.integrations is
  'settings are a JSON object without keys that name a secret';
