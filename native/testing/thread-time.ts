// How long a test's own code takes, whatever else runs on the machine.

/** Starts measuring; each call of the result returns the milliseconds of processor time that this thread has used since. */
export function threadTime(): () => number {
  const start = process.threadCpuUsage();
  return () => {
    const { user, system } = process.threadCpuUsage(start);
    return (user + system) / 1000;
  };
}
