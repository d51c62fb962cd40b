// One host of a registry did not deliver; registry.ts decides whether another one may.

export type FailureKind = "unavailable" | "refused" | "unauthenticated" | "forbidden" | "missing";

export class FetchFailure extends Error {
  readonly kind: FailureKind;
  readonly host: string;

  constructor(kind: FailureKind, host: string, problem: string, cause?: unknown) {
    super(problem, { cause });
    this.kind = kind;
    this.host = host;
  }
}
