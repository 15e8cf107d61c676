import { expect, test } from 'vitest';
import type { Transaction } from '../../src/postgres/connect.ts';
import { become, createUser, expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';
import { Guide } from '../helpers/guide.ts';
import { explain, said } from '../helpers/message-stages.ts';
import { joinedAt } from '../helpers/past.ts';
import { plan, plannedFor } from '../helpers/planner.ts';

const guide = new Guide('add-a-message-type');
const type = guide.at('migrations/current/0001-membership.sql');
const ownSwitch = guide.at('migrations/current/0001-switch.sql');
const db = useDatabase();

/** Works with the type of the guide, whose file ran twice, as on a save. */
const withType = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local role gw_owner`;
    for (const _ of [1, 2]) await sql.unsafe(type);
    await sql`set local role none`;
    await work(sql);
  });

async function createMember(sql: Transaction, locale = 'en') {
  const user = await createUser(sql, { first_name: 'Ann', timezone: 'Europe/Berlin' });
  await sql`update app_public.user_settings set locale = ${locale} where user_id = ${user.id}`;
  await joinedAt(sql, user.id, '2020-06-15T12:00Z');
  return user.id;
}

const texts = (sql: Transaction, id: string) => sql`
  select message_subject as subject, message_content as content
  from app_public.message_logs where user_id = ${id} and message_type = 'MEMBERSHIP'`;

test('the type of the guide is planned for its time and composed in the language of the user', async () => {
  await withType(async (sql) => {
    const [ann, uwe] = [await createMember(sql), await createMember(sql, 'de-AT')];
    await plan(sql, '2027-06-15T00:00Z');
    for (const id of [ann, uwe]) {
      expect((await plannedFor(sql, id)).filter((each) => each.type === 'MEMBERSHIP')).toEqual([
        { type: 'MEMBERSHIP', date: '2027-06-15', at: '2027-06-15T08:30:00Z' },
      ]);
    }
    expect(await texts(sql, ann)).toEqual([
      { subject: 'Thank you, Ann!', content: 'You have been with us for 7 years. Thank you!' },
    ]);
    expect(await texts(sql, uwe)).toMatchObject([{ subject: 'Danke, Ann!' }]);
    expect(said(await explain(sql, ann, '2027-03-04', 'MEMBERSHIP'), 'occasion')).toEqual([
      "this is not the user's membership day: that of 2027 is on 2027-06-15",
    ]);
  });
});

test('a changed template reaches what is planned with the next tick, as the guide says', async () => {
  await withType(async (sql) => {
    const id = await createMember(sql);
    await plan(sql, '2027-06-15T00:00Z');
    await sql`
      update app_private.message_templates set subject = 'New'
      where message_type = 'MEMBERSHIP' and locale = 'en'`;
    await sql`select app_private.plan_due_messages('2027-06-15T00:01Z')`;
    expect(await texts(sql, id)).toMatchObject([{ subject: 'New' }]);
  });
});

test('the switch of the guide turns off this type alone, and a user may set it', async () => {
  await withType(async (sql) => {
    await sql`set local role gw_owner`;
    for (const _ of [1, 2]) await sql.unsafe(ownSwitch);
    await sql`set local role none`;
    const id = await createMember(sql);
    await become(sql, id);
    await sql`update app_public.user_settings set membership_messages = false`;
    await sql`set local role none`;
    const wish = async (name: string) => said(await explain(sql, id, '2027-06-15', name), 'wish');
    expect((await wish('MEMBERSHIP')).join()).toMatch(/has opted out/);
    expect(await wish('ANNIVERSARY')).toEqual(['the user wants messages of this type']);
  });
});

test('what can go wrong is refused with the codes of the guide', async () => {
  await withType(async (sql) => {
    await expectRefusal(
      sql,
      '23514',
      (inner) => inner`
      update app_private.message_templates set body = 'Hi {{nickname}}'
      where message_type = 'MEMBERSHIP'`,
    );
    await expectRefusal(
      sql,
      'GW042',
      (inner) => inner`
      update app_private.message_types set base_column = 'first_name'
      where type = 'MEMBERSHIP'`,
    );
    await sql`delete from app_private.message_templates
      where message_type = 'MEMBERSHIP' and locale = 'en'`;
    await expectRefusal(sql, 'GW011', (inner) => inner`set constraints all immediate`);
  });
});
