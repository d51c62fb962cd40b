// Waits for work that continues after its caller has given up.

/**
 * Settles as the work does, or rejects with `gone()` as soon as the signal aborts. The work itself is not cancelled;
 * work that can be cancelled must get the signal itself.
 */
export async function orAborted<Result>(
  work: Promise<Result>,
  signal: AbortSignal,
  gone: () => unknown = () => signal.reason,
): Promise<Result> {
  // After an abort nobody handles the work's failure.
  work.catch(() => undefined);
  if (signal.aborted) throw gone();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(gone());
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
