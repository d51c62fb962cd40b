// Waiting for work that goes on when its caller is gone.

/**
 * Settles as the work does, or rejects with `gone()` as soon as the signal aborts. The work itself is not touched:
 * whatever can end it has the signal too.
 */
export async function orAborted<Result>(
  work: Promise<Result>,
  signal: AbortSignal,
  gone: () => unknown = () => signal.reason,
): Promise<Result> {
  // Nobody may be there any more to hear of its failure.
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
