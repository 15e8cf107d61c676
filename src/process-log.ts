import type { Log } from './log.ts';

let processLog: Log | undefined;

/** Says which log this process has. */
export const setProcessLog = (log: Log): void => {
  processLog = log;
};

/** The log of this process, when it has one. */
export const logOfProcess = (): Log | undefined => processLog;
