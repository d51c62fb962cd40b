// One host of a registry did not deliver; registry.ts decides whether another one may.

export type FailureKind = "unavailable" | "refused" | "unauthenticated" | "forbidden" | "missing";

export interface FetchFailureOptions extends ErrorOptions {
  /** From when on another try may end well, in milliseconds of performance.now(); none may when absent. */
  readonly againAt?: number | undefined;
}

export class FetchFailure extends Error {
  readonly kind: FailureKind;
  /** Host and port as in the URL. */
  readonly host: string;
  readonly againAt: number | undefined;

  constructor(kind: FailureKind, host: string, problem: string, options: FetchFailureOptions = {}) {
    super(problem, options);
    this.kind = kind;
    this.host = host;
    this.againAt = options.againAt;
  }
}
