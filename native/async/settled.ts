// Several pieces of work at once, of which none is still under way when one has failed.

/**
 * As Promise.all, but a failure waits for the others to end: what is then undone is not made again behind its back.
 * Rejects with the first failure in the order given.
 */
export async function settled<const Work extends readonly Promise<unknown>[]>(work: Work) {
  await Promise.allSettled(work);
  return await Promise.all(work);
}
