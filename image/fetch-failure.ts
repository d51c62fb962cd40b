// The failure of one host of a registry; registry.ts decides whether another host is tried.

export type FailureKind = "unavailable" | "refused" | "unauthenticated" | "forbidden" | "missing";

export interface FetchFailureOptions extends ErrorOptions {
  /** The earliest time for a retry, in milliseconds of performance.now(); no retry when absent. */
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
