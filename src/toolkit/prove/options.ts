import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { projectRoot } from '../../project.ts';

const declaration = z.object({
  /** The object that is allowed to: schema.name, or Mutation.field. */
  object: z.string(),
  /** Through what: the constraint, the table that changes, or the error code. */
  by: z.string(),
  reason: z.string().min(1),
});

/** Something that one user may learn of or do to another, and why that is intended. */
export type Declaration = z.infer<typeof declaration>;

/** What `gw prove` has to know of a schema; the defaults are ours. */
export interface ProveOptions {
  /** The column that says whose a row is. */
  ownerColumn: string;
  /** The table of users; its primary key is its owner column. */
  usersTable: string;
  roles: { user: string; anonymous: string };
  /** The setting that the policies compare with. */
  userSetting: string;
  /** Schemas whose objects are not looked at. */
  ignoredSchemas: string[];
  declared: Declaration[];
  /** Only objects whose names match are tried; undefined tries all. */
  objects?: RegExp | undefined;
}

/** The one place in which intended exceptions are declared, each with its reason. */
export const declaredFile = join(projectRoot, 'sql', 'prove', 'declared.json');

/** Reads declarations. */
export function readDeclared(path = declaredFile): Declaration[] {
  return z.array(declaration).parse(JSON.parse(readFileSync(path, 'utf8')));
}

/** The options for our own schema, or for another that is said to differ. */
export function proveOptions(changes: Partial<ProveOptions> = {}): ProveOptions {
  return {
    ownerColumn: 'user_id',
    usersTable: 'app_public.users',
    roles: { user: 'app_user', anonymous: 'app_anonymous' },
    userSetting: 'app.current_user_id',
    ignoredSchemas: ['pg_catalog', 'information_schema', 'pg_toast'],
    declared: readDeclared(),
    ...changes,
  };
}
