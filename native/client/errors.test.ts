import { expect, test } from "vitest";
import { catalogue } from "./errors.ts";

test("what an image or a plugin puts into an error's blanks is cut: it goes into the log and to the client", () => {
  const errors = catalogue({
    odd: { code: "Internal", sentence: "The user {user} is odd, {user} is.", remedy: "Mend {user}." },
  });
  const { message } = errors.odd({ user: "u".repeat(4_000_000) });
  expect(message).toMatch(/^The user u{2000}… is odd, u{2000}… is. Mend u{2000}…$/);
  expect(errors.odd({ user: "u".repeat(2000) }).message).not.toContain("…");
});

test("no half of a UTF-16 pair is left where a blank is cut, or comes in with it", () => {
  const errors = catalogue({ odd: { code: "Internal", sentence: "{what}.", remedy: "" } });
  const message = (what: string) => errors.odd({ what }).message.trim();
  expect(message(`u${"\u{1f600}".repeat(1000)}`)).toBe(`u${"\u{1f600}".repeat(999)}\ufffd…`);
  expect(message("a\ud800b")).toBe("a\ufffdb.");
});
