import { type Borders, matches, of, range, text } from '../../helpers/borders.ts';

const names = { good: ['a', 'our-relay_2', `a${'9'.repeat(39)}`], bad: ['', '1', 'A', 'a b'] };
const yearly = { repeats: "'yearly'" };

/** The CHECKs of channels, routes and endpoints. */
export const borders: Record<string, Borders> = {
  delivery_channels_address_kind_check: matches('address_kind', names.good, [
    ...names.bad,
    `a${'9'.repeat(40)}`,
  ]),
  delivery_channels_name_check: matches('name', names.good, [...names.bad, `a${'9'.repeat(40)}`]),
  delivery_channels_protocol_check: {
    inside: [{ name: "'a'", protocol: "'b'" }, { name: "'a'" }],
    outside: [{ name: "'a'", protocol: "'a'" }],
  },
  delivery_channels_public_key_check: matches(
    'public_key',
    [`${'A-_9'.repeat(21)}abc`],
    ['A'.repeat(86), 'A'.repeat(88), `${'A'.repeat(86)}=`],
  ),
  delivery_channels_warm_up_check: {
    inside: [
      { warm_up_growth: '1' },
      { warm_up_from: "'2026-01-01'", warm_up_messages: '1', warm_up_growth: '10' },
    ],
    outside: [
      { warm_up_from: "'2026-01-01'", warm_up_growth: '2' },
      { warm_up_messages: '1', warm_up_growth: '2' },
      { warm_up_from: "'2026-01-01'", warm_up_messages: '0', warm_up_growth: '2' },
      { warm_up_growth: '0.9' },
      { warm_up_growth: '10.1' },
    ],
  },
  domain_limits_domain_check: matches(
    'domain',
    ['a', 'mail.example.com', `a${'b'.repeat(251)}c`],
    ['', '.com', 'example.', 'Example.com', 'a b', 'a@b', `a${'b'.repeat(252)}c`],
  ),
  domain_limits_messages_per_second_check: of(
    'messages_per_second',
    ['0.01', '1000000'],
    ['0', '0.009', '1000000.1'],
  ),
  message_routes_step_check: range('step', 1, 9),
  message_routes_weight_check: range('weight', 1, 1000),
  message_types_belated_as_check: {
    inside: [
      { ...yearly, type: "'A'", belated_as: "'B'", late_policy: "'window'" },
      { repeats: "'weekly'", type: "'A'", late_policy: "'day'" },
    ],
    outside: [
      { ...yearly, type: "'A'", belated_as: "'A'", late_policy: "'window'" },
      { ...yearly, type: "'A'", belated_as: "'B'", late_policy: "'day'" },
      { repeats: "'weekly'", type: "'A'", belated_as: "'B'", late_policy: "'window'" },
      { repeats: "'event'", type: "'A'", belated_as: "'B'", late_policy: "'window'" },
    ],
  },
  message_types_combined_as_check: {
    inside: [{ type: "'A'", combined_as: "'B'", day_group: "'g'" }, { type: "'A'" }],
    outside: [
      { type: "'A'", combined_as: "'A'", day_group: "'g'" },
      { type: "'A'", combined_as: "'B'" },
    ],
  },
  message_types_day_group_check: {
    inside: [
      { repeats: "'event'" },
      { ...yearly, day_group: "'a'" },
      { repeats: "'once'", day_group: `'a${'_'.repeat(39)}'` },
    ],
    outside: [
      { ...yearly, day_group: "''" },
      { ...yearly, day_group: "'A'" },
      { ...yearly, day_group: `'a${'_'.repeat(40)}'` },
      { repeats: "'weekly'", day_group: "'a'" },
      { repeats: "'event'", day_group: "'a'" },
    ],
  },
  push_services_note_check: text('note', 1, 200),
  push_services_origin_check: matches(
    'origin',
    ['https://a.example', 'http://127.0.0.1:8080', 'https://*.example.com'],
    [
      'a.example',
      'ftp://a',
      'https://',
      'https://A',
      'https://a/',
      'https://a.*.b',
      'https://a:123456',
    ],
  ),
  user_endpoints_address_check: text('address', 1, 1000),
  user_endpoints_keys_check: of(
    'keys',
    [`'{}'`, `jsonb_build_object('a', repeat('x', 991))`],
    [`'[]'`, `'1'`, `jsonb_build_object('a', repeat('x', 992))`],
  ),
  user_endpoints_kind_check: matches('kind', names.good, [
    ...names.bad,
    'email',
    `a${'9'.repeat(40)}`,
  ]),
  user_endpoints_label_check: text('label', 0, 100),
};
