// The order of turns: every participant takes part in each round, and each round starts with a different one.

/** The participants in the round's order: each of them is first, second and so on equally often. */
export function rotated<Participant>(participants: readonly Participant[], round: number): readonly Participant[] {
  const first = participants.length === 0 ? 0 : round % participants.length;
  return [...participants.slice(first), ...participants.slice(0, first)];
}

/**
 * Runs `turn` for all participants in each of `rounds` rounds, one at a time, after `warmUps` rounds that do not count,
 * because page caches, connections and just-in-time compilers are cold at first.
 */
export async function takeTurns<Participant>(
  participants: readonly Participant[],
  rounds: number,
  turn: (participant: Participant, round: number, counts: boolean) => Promise<void>,
  warmUps = 1,
): Promise<void> {
  for (let round = 0; round < rounds + warmUps; round += 1)
    for (const participant of rotated(participants, round)) await turn(participant, round, round >= warmUps);
}
