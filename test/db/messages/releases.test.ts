import { expect, test } from 'vitest';
import { transactionsOf, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

test('a release that cannot be published raises an alert, and the others are published', async () => {
  await asOwner(async (sql) => {
    await sql`
      insert into app_private.message_types (type, label, repeats, payload_schema)
      values ('VISIT', 'a visit', 'event',
        '{"type": "object", "properties": {"time": {}, "place": {}}}')`;
    await sql`
      insert into app_private.message_templates (message_type, locale, subject, body)
      values ('VISIT', 'en', 'A visit', 'At {{time}}.')`;
    const draft = async (type: string, body: string) => {
      const [row] = await sql`
        select ops.draft_template(${type}, 'en', 'A subject', ${body}) as version`;
      await sql`
        select ops.publish_template(${type}, 'en', ${row?.version}, 100,
          now() + interval '1 hour')`;
      return row?.version as number;
    };
    await draft('VISIT', 'In {{place}}, at {{time}}.');
    const birthday = await draft('BIRTHDAY', 'All the best, {{first_name}}.');
    await sql`
      update app_private.message_types
      set payload_schema = '{"type": "object", "properties": {"time": {}}}' where type = 'VISIT'`;

    const [done] = await sql`
      select app_private.publish_due_templates(now() + interval '2 hours') as count`;
    expect(done).toEqual({ count: 1 });
    const texts = await sql`
      select message_type, body, version from app_private.message_templates
      where message_type in ('VISIT', 'BIRTHDAY') and locale = 'en' order by message_type`;
    expect(texts).toEqual([
      { message_type: 'BIRTHDAY', body: 'All the best, {{first_name}}.', version: birthday },
      { message_type: 'VISIT', body: 'At {{time}}.', version: 1 },
    ]);
    const alerts = await sql`
      select level, detail, remediation from ops.alerts
      where check_name = 'template-release' and resolved_at is null`;
    expect(alerts).toEqual([
      {
        level: 'warning',
        detail:
          'version 2 of VISIT in en could not be published: a template of VISIT cannot fill in: place',
        remediation: 'gw templates publish, with another version',
      },
    ]);
    // It is not tried again each minute.
    const [again] = await sql`
      select app_private.publish_due_templates(now() + interval '3 hours') as count`;
    expect(again).toEqual({ count: 0 });
  });
});
