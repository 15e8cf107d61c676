import type { Command } from 'commander'; export function registerSchema(_p: Command): void {}
