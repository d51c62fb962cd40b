// The manual pages contain all commands and keys, in lines that groff parses as intended.

import { expect, test } from "vitest";
import { commands } from "../cli/commands.ts";
import { pages } from "../cli/help.ts";
import { settings } from "../cli/settings.ts";
import { commandManual, configurationManual } from "./manual.ts";

const requests = /^\.(TH|SH|SS|TP|PP|B|I|nf|fi|br)( |$)/;

test("keelson(8) has a section for each help page, with its full text", () => {
  const manual = commandManual("1.2.3");
  for (const command of pages.keys()) expect(manual).toContain(`\n.SS keelson ${command}\n`);
  const text = manual.replaceAll("\\-", "-").replaceAll("\\&", "").replaceAll("\\e", "\\");
  for (const { summary } of commands) expect(text).toContain(summary);
  for (const page of pages.values()) {
    for (const line of page.split("\n").slice(3)) if (!/^[A-Z][\w ]*:$/.test(line)) expect(text).toContain(line);
  }
});

test("keelson.toml(5) has each key with its effect", () => {
  const manual = configurationManual("1.2.3").replaceAll("\\-", "-");
  for (const { key, effect } of Object.values(settings)) {
    expect(manual).toContain(`\n.TP\n.B ${key.replace("*", "NAME")}\n${effect} `);
  }
});

test.each([commandManual("1.2.3"), configurationManual("1.2.3")])(
  "no line is an accidental groff request",
  (manual) => {
    for (const line of manual.split("\n")) if (/^[.']/.test(line)) expect(line).toMatch(requests);
  },
);
