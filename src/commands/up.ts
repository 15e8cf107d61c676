import type { Command } from 'commander'; export function registerUp(_p: Command): void {}
