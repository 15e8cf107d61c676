import type { Command } from 'commander'; export function registerSeed(_p: Command): void {}
