// Controls the scripted parts of a test node, and records the calls to them in order.
//
// Calls are named "monitor start", "network attach", "images removeSnapshot", "host removeTree". Unless the test
// intervenes, a call takes effect at once.

export interface Bounds {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly late: () => Error;
  readonly cancelled: () => Error;
}

/** A call whose answer is held back until the test releases it. */
export class Held {
  readonly #arrival = Promise.withResolvers<void>();
  readonly #answer = Promise.withResolvers<void>();
  #act: () => void = () => undefined;

  constructor() {
    this.#answer.promise.catch(() => undefined);
  }

  get arrived(): Promise<void> {
    return this.#arrival.promise;
  }

  /** Lets the call take effect, without an answer. */
  act(): void {
    this.#act();
  }

  release(): void {
    this.#answer.resolve();
  }

  fail(error: Error): void {
    this.#answer.reject(error);
  }

  /** Called by the scripted part. */
  async take<Result>(work: () => Result, bounds: Bounds | undefined): Promise<Result> {
    let done: { readonly result: Result } | undefined;
    const once = () => {
      done ??= { result: work() };
      return done.result;
    };
    this.#act = once;
    this.#arrival.resolve();
    await within(this.#answer.promise, bounds);
    return once();
  }
}

interface Call {
  readonly name: string;
  readonly subject: string;
}

export class Script {
  readonly #calls: Call[] = [];
  readonly #plans = new Map<string, Held[]>();

  /** Holds the next call of that name; calls that are already held stay held. */
  hold(name: string): Held {
    const held = new Held();
    this.#plans.set(name, [...(this.#plans.get(name) ?? []), held]);
    return held;
  }

  fail(name: string, error: Error): void {
    this.hold(name).fail(error);
  }

  /** Names of the calls so far, for one subject (an id) or for all. */
  calls(subject?: string): string[] {
    return this.#calls.filter((call) => subject === undefined || call.subject === subject).map(({ name }) => name);
  }

  count(name: string, subject?: string): number {
    return this.calls(subject).filter((one) => one === name).length;
  }

  /** Called by the scripted parts. */
  async call<Result>(name: string, subject: string, work: () => Result, bounds?: Bounds): Promise<Result> {
    this.#calls.push({ name, subject });
    const plan = this.#plans.get(name)?.shift();
    if (bounds?.signal?.aborted) throw bounds.cancelled();
    return plan === undefined ? work() : await plan.take(work, bounds);
  }
}

async function within(answer: Promise<void>, bounds: Bounds | undefined): Promise<void> {
  if (bounds === undefined) return await answer;
  const { timeoutMs, signal, late, cancelled } = bounds;
  const end = Promise.withResolvers<never>();
  const timer = setTimeout(() => end.reject(late()), timeoutMs);
  const onAbort = () => end.reject(cancelled());
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([answer, end.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
