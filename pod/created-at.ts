// Creation times of sandboxes and containers, which kubelets order them by.

/**
 * The creation time for a new object: the clock's time, but later than that of all earlier attempts. A kubelet takes
 * the attempt with the latest creation time for the current one, and numbers the next one after it. If the clock was
 * set back (as at boot, before the time is synchronized), it would take an old attempt for the current one, kill the
 * real one, and request an attempt that already exists, until the clock catches up.
 */
export function createdAfter(before: Iterable<{ readonly createdAt: bigint }>, now: bigint): bigint {
  let createdAt = now;
  for (const each of before) if (each.createdAt >= createdAt) createdAt = each.createdAt + 1n;
  return createdAt;
}
