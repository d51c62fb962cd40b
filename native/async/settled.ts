// Runs several pieces of work concurrently, none of which is still running when a failure is reported.

/**
 * As Promise.all, but rejects only once all have settled, so that the caller can roll back without racing with the
 * rest. Rejects with the first failure in argument order.
 */
export async function settled<const Work extends readonly Promise<unknown>[]>(work: Work) {
  await Promise.allSettled(work);
  return await Promise.all(work);
}
