// Who comes after whom: everybody in each round, and each round begins with another.

/** The participants in the round's order: every one is first, second and so on equally often. */
export function rotated<Participant>(participants: readonly Participant[], round: number): readonly Participant[] {
  const first = participants.length === 0 ? 0 : round % participants.length;
  return [...participants.slice(first), ...participants.slice(0, first)];
}

/**
 * Runs `turn` for all participants in each of so many rounds, one at a time. A round goes before that does not count, unless
 * told otherwise: page caches, connections and just-in-time compilers are cold then.
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
