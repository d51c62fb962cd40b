// The output of a play, on a terminal and elsewhere. The terminal is created by script(1): ora only writes to real
// ones.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { Report } from "./report.ts";

const module = join(import.meta.dirname, "report.ts");
const talk = `
  const { Report } = await import(${JSON.stringify(module)});
  const report = await Report.to(process.stderr);
  const pull = report.pulling("registry.example/a:1");
  await new Promise((resolve) => setTimeout(resolve, 200));
  report.line("web", "started");
  pull[Symbol.dispose]();
  report.line("web", "over");
`;

/** The output on a terminal with this many columns. */
async function onTerminal(columns: number, { words = talk, noColor = "" } = {}): Promise<string> {
  const node = `stty cols ${columns} rows 24; exec ${process.execPath} --input-type=module --eval '${words}'`;
  const options = { env: { ...process.env, TERM: "xterm", NO_COLOR: noColor, CI: undefined }, timeout: 20_000 };
  const { stdout } = await promisify(execFile)(
    "script",
    ["--quiet", "--return", "--command", node, "/dev/null"],
    options,
  );
  return stdout;
}

test("without a terminal there are only lines, which untrusted text cannot break", () => {
  const lines: string[] = [];
  const report = Report.plain({ write: (text) => lines.push(text) });
  report.pulling("a:1")[Symbol.dispose]();
  report.line("web", "one\r\ntwo\n\nthree");
  expect(lines).toEqual(["a:1: pulling\n", "web: one two three\n"]);
});

test("text from a container or a registry cannot control the terminal (CVE-2021-25743)", () => {
  const lines: string[] = [];
  Report.plain({ write: (text) => lines.push(text) }).line("web", "\u001b]0;root\u0007 a\tb \u009b2J \u007f \u2028é");
  expect(lines).toEqual(["web: \\x1b]0;root\\x07 a\tb \\x9b2J \\x7f \u2028é\n"]);
});

test("on a terminal a spinner shows pulls, with complete lines above it", async () => {
  const shown = await onTerminal(80);
  expect(shown).toContain("pulling registry.example/a:1 (0 s)");
  expect(shown).toContain("web: started\r\n");
  expect(shown).toMatch(/web: over\r\n\S*$/);
});

test("on a terminal, loading an image is shown as loading", async () => {
  const words = talk.replace('"registry.example/a:1"', '"a.tar", "loading"');
  expect(await onTerminal(80, { words })).toContain("loading a.tar (0 s)");
});

test("on a terminal with NO_COLOR there are no colours", async () => {
  const colour = "\u001b[36m";
  expect(await onTerminal(80)).toContain(colour);
  expect(await onTerminal(80, { noColor: "1" })).not.toContain(colour);
});

test("on a terminal without a size there are only lines", async () => {
  expect(await onTerminal(0)).toBe("registry.example/a:1: pulling\r\nweb: started\r\nweb: over\r\n");
});
