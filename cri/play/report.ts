// The output of a play while it runs: a line per event on stderr, and on a terminal the progress of pulls.

import type { Ora } from "ora";
import { plainLine } from "../plain-text.ts";

export interface ReportStream {
  write(text: string): unknown;
}

export class Report {
  readonly #stream: ReportStream;
  readonly #spinner: Ora | undefined;
  readonly #pulls = new Map<string, { readonly verb: string; readonly began: number; progress: string }>();
  #tick: NodeJS.Timeout | undefined;

  private constructor(stream: ReportStream, spinner: Ora | undefined) {
    this.#stream = stream;
    this.#spinner = spinner;
  }

  static async to(stream: NodeJS.WriteStream): Promise<Report> {
    // A terminal whose size was never set has 0 columns, which makes ora clear lines endlessly.
    if (!stream.isTTY || !(stream.columns > 0) || process.env.TERM === "dumb") return new Report(stream, undefined);
    const { default: ora } = await import("ora");
    // no-color.org
    const color = process.env.NO_COLOR ? false : "cyan";
    // stdin is left unchanged, so that the terminal turns Ctrl-C into a signal.
    return new Report(stream, ora({ stream, discardStdin: false, isEnabled: true, color }));
  }

  /** Prints only lines, for tests and pipes. */
  static plain(stream: ReportStream): Report {
    return new Report(stream, undefined);
  }

  /** `about` is the subject of the event. */
  line(about: string, text: string): void {
    this.#stream.write(`${plainLine(about)}: ${plainLine(text)}\n`);
  }

  /** Shows a pull until disposed. CRI does not report the bytes of a pull; `progress` is for callers that know them. */
  pulling(reference: string, verb = "pulling"): Disposable & { progress(text: string): void } {
    const pull = { verb, began: performance.now(), progress: "" };
    this.#pulls.set(reference, pull);
    if (this.#spinner === undefined) this.line(reference, verb);
    this.#show();
    return {
      progress: (text) => {
        pull.progress = text;
        this.#show();
      },
      [Symbol.dispose]: () => {
        this.#pulls.delete(reference);
        this.#show();
      },
    };
  }

  #show(): void {
    if (this.#spinner === undefined) return;
    const shown = [...this.#pulls].map(
      ([reference, { verb, began, progress }]) =>
        `${verb} ${reference} (${progress}${Math.round((performance.now() - began) / 1000)} s)`,
    );
    clearInterval(this.#tick);
    if (shown.length === 0) {
      this.#spinner.stop();
      return;
    }
    this.#spinner.start(plainLine(shown.join(", ")));
    this.#tick = setInterval(() => this.#show(), 1000);
  }
}
