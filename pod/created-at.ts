// When sandboxes and containers were created, as kubelets order them by.

/**
 * When what is made now was made, by the clock, but after all that was made before it. A kubelet takes the one that was
 * created last for the present one and gives the next that one's attempt plus one: where the clock was set back meanwhile,
 * as at a boot until its time is right, it would take an old one for it, kill the present one, and ask for an attempt that
 * there is already, for as long as the clock was set back.
 */
export function createdAfter(before: Iterable<{ readonly createdAt: bigint }>, now: bigint): bigint {
  let createdAt = now;
  for (const each of before) if (each.createdAt >= createdAt) createdAt = each.createdAt + 1n;
  return createdAt;
}
