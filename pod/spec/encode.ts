// config.json as bytes: JSON, but with environment values as the bytes they are.

import { randomUUID } from "node:crypto";
import type { OciResources, OciSpec } from "./oci.ts";

/**
 * Everything but the environment is UTF-8 JSON. An environment value that is not UTF-8 stands in the
 * file byte for byte (as crun reads it); keelson-monitor takes it as it is.
 */
export function encodeSpec(spec: OciSpec): Buffer {
  const mark = randomUUID();
  const text = JSON.stringify({ ...spec, process: { ...spec.process, env: mark } });
  const [before, after] = text.split(`"${mark}"`);
  if (before === undefined || after === undefined)
    throw new TypeError("the environment's place in config.json is gone");
  const environment = spec.process.env.flatMap((entry, index) => [
    Buffer.from(index === 0 ? '"' : ',"'),
    jsonBytes(entry),
    quote,
  ]);
  return Buffer.concat([Buffer.from(before), Buffer.from("["), ...environment, Buffer.from("]"), Buffer.from(after)]);
}

/**
 * A config.json with other resources (its device rules stay) and another OOM score. Read and written as
 * Latin-1, so that every byte outside them stays what it is.
 */
export function withResources(configJson: Buffer, resources: OciResources, oomScoreAdj: number): Buffer {
  const spec: { readonly process: object; readonly linux: { readonly resources: OciResources } } = JSON.parse(
    configJson.toString("latin1"),
  );
  const { devices } = spec.linux.resources;
  const linux = { ...spec.linux, resources: { ...resources, devices } };
  return Buffer.from(JSON.stringify({ ...spec, linux, process: { ...spec.process, oomScoreAdj } }), "latin1");
}

const quote = Buffer.from('"');

function jsonBytes(bytes: Buffer): Buffer {
  if (!bytes.some(needsEscape)) return bytes;
  const parts: Buffer[] = [];
  for (const byte of bytes)
    parts.push(needsEscape(byte) ? Buffer.from(`\\u${byte.toString(16).padStart(4, "0")}`) : Buffer.of(byte));
  return Buffer.concat(parts);
}

function needsEscape(byte: number): boolean {
  return byte < 0x20 || byte === 0x22 || byte === 0x5c;
}
