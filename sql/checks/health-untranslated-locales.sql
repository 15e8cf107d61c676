-- untranslated-locales: languages of users that messages have no text in
-- Params:
--   untranslated_locales_users integer = 100: how many users a language needs to count
-- Needs: function ops.untranslated_locales
-- Columns: level, object (the locale), detail, remediation.
-- Read: These users get the English text. A text for pt serves pt-BR too.
-- Cost: A few pages of an index for each language.
select
  'warning' as level,
  locale as object,
  format('users with %s get these in English: %s', locale,
    array_to_string(message_types, ', ')) as detail,
  format('gw templates draft <type> %s --subject … --body …, then gw templates publish',
    locale) as remediation
from ops.untranslated_locales(
  coalesce(nullif(current_setting('health.untranslated_locales_users', true), ''),
    '100')::integer);
