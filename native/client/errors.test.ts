import { expect, test } from "vitest";
import { catalogue } from "./errors.ts";

test("a placeholder's value from an image or plugin is truncated: it goes into the log and to the client", () => {
  const errors = catalogue({
    odd: { code: "Internal", sentence: "The user {user} is odd, {user} is.", remedy: "Fix {user}." },
  });
  const { message } = errors.odd({ user: "u".repeat(4_000_000) });
  expect(message).toMatch(/^The user u{2000}… is odd, u{2000}… is. Fix u{2000}…$/);
  expect(errors.odd({ user: "u".repeat(2000) }).message).not.toContain("…");
});

test("a lone UTF-16 surrogate is replaced, whether it is in the value or created by truncation", () => {
  const errors = catalogue({ odd: { code: "Internal", sentence: "{what}.", remedy: "" } });
  const message = (what: string) => errors.odd({ what }).message.trim();
  expect(message(`u${"\u{1f600}".repeat(1000)}`)).toBe(`u${"\u{1f600}".repeat(999)}\ufffd…`);
  expect(message("a\ud800b")).toBe("a\ufffdb.");
});
