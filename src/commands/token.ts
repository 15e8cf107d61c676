import type { Command } from 'commander'; export function registerToken(_p: Command): void {}
