// Splits what is read of many pods or containers, so that several threads read it.

/** How many one thread reads sequentially. */
const batch = 25;

/** Calls `read` with at most 25 of `items` at a time, concurrently, and returns all results in order. */
export async function inBatches<Item, Read>(
  items: readonly Item[],
  read: (items: readonly Item[]) => Promise<readonly Read[]>,
): Promise<Read[]> {
  const batches: Promise<readonly Read[]>[] = [];
  for (let first = 0; first < items.length; first += batch) batches.push(read(items.slice(first, first + batch)));
  return (await Promise.all(batches)).flat();
}
