// Reads the result of ADD: the pod's addresses.
//
// The forms of CNI spec 0.3.0 to 1.1.0 differ in members that do not matter here (`ips[].version`
// went with 1.0.0): `interfaces` and `ips` read alike in all of them.

import { Address4, Address6 } from "ip-address";
import { asArray, asInteger, asObject, asString, type JsonObject, member, parseObject } from "../native/index.ts";

export type ParsedResult =
  | { readonly kind: "result"; readonly result: JsonObject }
  | { readonly kind: "garbage"; readonly reason: string };

/** What a plugin printed for ADD, whole, as later plugins must get it; of `cniVersion` where it says none, as with libcni. */
export function parseResult(output: string, cniVersion: string): ParsedResult {
  if (output.trim() === "") return { kind: "garbage", reason: "it printed nothing" };
  const result = parseObject(output);
  if (result === undefined)
    return { kind: "garbage", reason: `${JSON.stringify(output.slice(0, 200))} is not a JSON object` };
  const message = asString(member(result, "msg"));
  const isError = message !== undefined && asInteger(member(result, "code")) !== undefined;
  if (isError && member(result, "ips") === undefined)
    return { kind: "garbage", reason: `it is an error, and exit code 0: ${message.slice(0, 2000)}` };
  return { kind: "result", result: { ...result, cniVersion: asString(member(result, "cniVersion")) || cniVersion } };
}

export type ParsedAddresses =
  | { readonly kind: "addresses"; readonly ips: readonly string[] }
  | { readonly kind: "garbage"; readonly reason: string };

/**
 * Addresses of the pod's own interface in the result's order, so the first is the primary one;
 * textual, shortest form, without prefix length, each once.
 */
export function podAddresses(result: JsonObject, interfaceName: string): ParsedAddresses {
  const interfaces = asArray(member(result, "interfaces")) ?? [];
  // Terway and others say no sandbox of the pod's interface: its name is all that tells it then.
  const byName = !claimsInterface(result, interfaceName);
  const ips = new Set<string>();
  for (const value of asArray(member(result, "ips")) ?? []) {
    const entry = asObject(value);
    const text = entry && asString(member(entry, "address"));
    const address = text === undefined ? undefined : plainAddress(text);
    if (entry === undefined || address === undefined)
      return { kind: "garbage", reason: `${JSON.stringify(value)} in "ips" has no "address" in CIDR form` };
    const index = member(entry, "interface");
    // `interface` is optional: an address of no interface in particular is the pod's.
    if (index === undefined || index === null) ips.add(address);
    else {
      const position = asInteger(index);
      const owner = position === undefined ? undefined : asObject(interfaces[position]);
      if (owner === undefined)
        return { kind: "garbage", reason: `"interface" ${JSON.stringify(index)} in "ips" is not one of "interfaces"` };
      if (isPodInterface(owner, interfaceName) || (byName && hasName(owner, interfaceName))) ips.add(address);
    }
  }
  return { kind: "addresses", ips: [...ips] };
}

/** Whether the result says that the pod has this interface: not every plugin makes one that the kernel knows. */
export function claimsInterface(result: JsonObject, interfaceName: string): boolean {
  return (asArray(member(result, "interfaces")) ?? []).some((value) => {
    const owner = asObject(value);
    return owner !== undefined && isPodInterface(owner, interfaceName);
  });
}

/** `sandbox` is what tells an interface of the pod from one of the host. */
function isPodInterface(owner: JsonObject, interfaceName: string): boolean {
  return (asString(member(owner, "sandbox")) ?? "") !== "" && hasName(owner, interfaceName);
}

function hasName(owner: JsonObject, interfaceName: string): boolean {
  return asString(member(owner, "name")) === interfaceName;
}

function plainAddress(cidr: string): string | undefined {
  if (!cidr.includes("/")) return undefined;
  if (Address4.isValid(cidr)) return new Address4(cidr).correctForm();
  if (Address6.isValid(cidr)) return new Address6(cidr).correctForm();
  return undefined;
}
