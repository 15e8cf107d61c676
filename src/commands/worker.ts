import type { Command } from 'commander'; export function registerWorker(_p: Command): void {}
