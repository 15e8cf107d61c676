import {
  atLeast,
  type Borders,
  lengths,
  locale,
  matches,
  of,
  oneOf,
  only,
  range,
  text,
} from '../../helpers/borders.ts';

const bytes = (length: number): string => `decode(repeat('00', ${length}), 'hex')`;

/** A layout with something in its body. */
const layout = (inside: string): string =>
  `'<html {{language}}><title>{{subject}}</title><body>${inside}{{content}}{{footer}}</body></html>'`;

/** The CHECKs of what surrounds messages: verdicts, feedback, holds, types that are added. */
export const borders: Record<string, Borders> = {
  address_key_key_check: of('key', [bytes(32)], [bytes(31), bytes(33)]),
  address_key_only_row_check: only('only_row'),
  address_states_address_hash_check: of('address_hash', [bytes(32)], [bytes(31), bytes(33)]),
  address_optouts_address_hash_check: of('address_hash', [bytes(32)], [bytes(31), bytes(33)]),
  address_states_lifted_at_check: {
    inside: [{ state: "'bounced'" }, { lifted_at: 'now()' }],
    outside: [{}],
  },
  address_states_reason_check: text('reason', 1, 300),
  address_states_state_check: oneOf('state', 'unsubscribed', 'bounced', 'complained', 'blocked'),
  answer_rules_code_check: {
    inside: [
      {},
      { lowest_code: '100', highest_code: '100' },
      { lowest_code: '999', highest_code: '999' },
    ],
    outside: [
      { lowest_code: '99', highest_code: '200' },
      { lowest_code: '200', highest_code: '199' },
      { lowest_code: '500', highest_code: '1000' },
      { lowest_code: '500' },
      { highest_code: '500' },
    ],
  },
  answer_rules_enhanced_code_check: matches(
    'enhanced_code',
    ['5.7.%', '4.1.999', '5.%', '5.%.1'],
    ['', '2.1.1', '5', '5.1.1000', '5.1.1.1', '%'],
  ),
  answer_rules_note_check: text('note', 1, 200),
  answer_rules_pattern_check: of(
    'pattern',
    ["'a'", "repeat('a', 500)"],
    ["''", "'a*'", "repeat('a', 501)"],
  ),
  answer_rules_stage_check: text('stage', 1, 40),
  answer_rules_verdict_check: oneOf('verdict', 'message', 'address', 'later', 'channel'),
  delivery_channels_opened_because_check: oneOf(
    'opened_because',
    'unanswered',
    'sender',
    'refusals',
  ),
  delivery_channels_probes_to_close_check: range('probes_to_close', 1, 100),
  delivery_channels_recent_outcomes_check: of(
    'recent_outcomes',
    ["''", "'01'", "repeat('1', 50)"],
    ["'2'", "repeat('1', 51)"],
  ),
  delivery_channels_refusals_to_open_check: range('refusals_to_open', 1, 50),
  delivery_events_detail_check: text('detail', 0, 301),
  delivery_events_event_id_check: text('event_id', 1, 250),
  delivery_events_kind_check: oneOf(
    'kind',
    ...['delivered', 'deferred', 'soft_bounced', 'bounced', 'refused', 'complained'],
    'unsubscribed',
  ),
  delivery_events_vendor_check: matches(
    'vendor',
    ['a', 'our-relay_2', `a${'9'.repeat(39)}`],
    ['', 'A', '9', 'a.b', `a${'9'.repeat(40)}`],
  ),
  message_holds_reason_check: text('reason', 1, 200),
  message_holds_released_check: {
    inside: [{}, { released_at: 'now()', released_by: "'x'" }],
    outside: [{ released_at: 'now()' }, { released_by: "'x'" }],
  },
  message_keys_key_check: text('key', 1, 200),
  approvals_approved_check: {
    inside: [
      {},
      {
        approved_by: "'one'",
        approved_at: 'now()',
        requested_by: "'other'",
        requested_at: 'now()',
      },
    ],
    outside: [
      { approved_by: "'one'", approved_at: 'now()', requested_by: "'one'", requested_at: 'now()' },
      { approved_by: "'one'" },
      { approved_at: 'now()' },
    ],
  },
  approvals_requested_check: {
    inside: [{}, { requested_by: "'one'", requested_at: 'now()' }],
    outside: [{ requested_by: "'one'" }, { requested_at: 'now()' }],
  },
  approvals_used_check: {
    inside: [
      {},
      {
        ...{ approved_by: "'one'", approved_at: 'now()', used_at: 'now()' },
        ...{ requested_by: "'other'", requested_at: 'now()' },
      },
    ],
    outside: [{ used_at: 'now()' }],
  },
  message_settings_approval_above_check: atLeast('approval_above', 1),
  message_settings_soft_bounce_window_check: lengths(
    'soft_bounce_window',
    '1 hour',
    '1 year',
    '1 ms',
  ),
  message_settings_soft_bounces_check: range('soft_bounces', 1, 1000),
  message_type_labels_label_check: text('label', 1, 100),
  message_type_labels_locale_check: locale('locale'),
  message_layouts_html_check: of(
    'html',
    [layout('x'), layout('x'.repeat(50_000 - 86))],
    [layout('{{name}}'), layout('x'.repeat(50_001 - 86))],
  ),
  message_layouts_name_check: matches(
    'name',
    ['a', `a${'9'.repeat(39)}`, 'a-b_c'],
    ['', 'A', '9', `a${'9'.repeat(40)}`],
  ),
  message_templates_html_length_check: text('html', 1, 20_000),
  template_versions_layout_check: {
    inside: [{}, { html: "'x'", layout_id: '1' }],
    outside: [{ html: "'x'" }, { layout_id: '1' }],
  },
  message_types_base_column_check: {
    inside: [{ repeats: "'event'" }, { repeats: "'once'", base_column: "'x'" }],
    outside: [{ repeats: "'event'", base_column: "'x'" }, { repeats: "'once'" }],
  },
  message_types_cap_days_check: {
    inside: [
      { repeats: "'yearly'", cap_days: '0' },
      { repeats: "'yearly'", cap_days: '50' },
      { repeats: "'weekly'", cap_days: '6' },
    ],
    outside: [
      { repeats: "'yearly'", cap_days: '-1' },
      { repeats: "'yearly'", cap_days: '51' },
      { repeats: "'weekly'", cap_days: '7' },
    ],
  },
  message_types_late_policy_check: oneOf('late_policy', 'window', 'day'),
  message_types_offset_days_check: {
    inside: [
      { repeats: "'yearly'", offset_days: '0' },
      { repeats: "'once'", offset_days: '-366' },
      { repeats: "'once'", offset_days: '366' },
    ],
    outside: [
      { repeats: "'yearly'", offset_days: '1' },
      { repeats: "'once'", offset_days: '-367' },
      { repeats: "'once'", offset_days: '367' },
    ],
  },
  message_types_payload_schema_check: {
    inside: [{ repeats: "'event'", payload_schema: "'{}'" }, { repeats: "'once'" }],
    outside: [{ repeats: "'once'", payload_schema: "'{}'" }],
  },
  template_releases_percent_check: range('percent', 1, 100),
  template_trials_percent_check: range('percent', 1, 99),
  template_versions_version_check: atLeast('version', 1),
};
