// The reference of all packages' errors. `npm run build:errors` writes it to ERRORS.md.

import { cniErrors } from "../cni/errors.ts";
import { imageErrors } from "../image/errors.ts";
import {
  type CatalogueEntry,
  hostErrors,
  monitorErrors,
  monitorRefusalErrors,
  unpackerErrors,
} from "../native/index.ts";
import { podErrors } from "../pod/errors.ts";
import { criErrors } from "./errors.ts";
import { playErrors } from "./play/errors.ts";

/** A monitor's refusals are one error, distinguished by kind. */
const refusals = Object.fromEntries(
  Object.entries<CatalogueEntry>(monitorRefusalErrors).map(([kind, entry]) => [`monitorRefused (${kind})`, entry]),
);

/** Catalogues by the part of Keelson that they belong to. */
export const catalogues: ReadonlyMap<string, Readonly<Record<string, CatalogueEntry>>> = new Map<
  string,
  Readonly<Record<string, CatalogueEntry>>
>([
  ["The API edge, configuration and startup (cri/)", criErrors],
  ["Playing manifests (cri/play/)", playErrors],
  ["Sandboxes and containers (pod/)", podErrors],
  ["Images (image/)", imageErrors],
  ["Network (cni/)", cniErrors],
  ["The native side (native/)", { ...hostErrors, ...monitorErrors, ...refusals, ...unpackerErrors }],
]);

/** The reference as Markdown. */
export function errorReference(): string {
  const parts = [...catalogues].map(([part, entries]) => {
    const rows = Object.entries(entries).map(
      ([name, { code, sentence, remedy }]) => `| ${name} | ${code} | ${cell(sentence)} | ${cell(remedy)} |`,
    );
    return `## ${part}\n\n| Error | gRPC code | What happened | What to do |\n| --- | --- | --- | --- |\n${rows.join("\n")}\n`;
  });
  return `# Errors

Every error that Keelson returns; words in braces are placeholders. This page is generated from the packages' catalogues
by \`npm run build:errors\`; a test compares the two.

${parts.join("\n")}`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

if (import.meta.main) process.stdout.write(errorReference());
