// One host of a registry did not deliver; registry.ts decides whether another one may.

export type FailureKind = "unavailable" | "refused" | "unauthenticated" | "forbidden" | "missing";

export class FetchFailure extends Error {
  readonly kind: FailureKind;
  readonly host: string;
  /** From when on another try may end well, by performance.now(); undefined when none may. */
  readonly againAt: number | undefined;

  constructor(kind: FailureKind, host: string, problem: string, cause?: unknown, againAt?: number) {
    super(problem, { cause });
    this.kind = kind;
    this.host = host;
    this.againAt = againAt;
  }
}
