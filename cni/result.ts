// Reads the result of ADD: the pod's addresses.
//
// The result formats of CNI spec 0.3.0 to 1.1.0 differ only in members that do not matter here (`ips[].version`
// was removed in 1.0.0): `interfaces` and `ips` are the same in all of them.

import { Address4, Address6 } from "ip-address";
import { asArray, asInteger, asObject, asString, type JsonObject, member, parseObject } from "../native/index.ts";

export type ParsedResult =
  | { readonly kind: "result"; readonly result: JsonObject }
  | { readonly kind: "garbage"; readonly reason: string };

/** Parses the whole output of ADD, as later plugins must get it; `cniVersion` is the default, as in libcni. */
export function parseResult(output: string, cniVersion: string): ParsedResult {
  if (output.trim() === "") return { kind: "garbage", reason: "it printed nothing" };
  const result = parseObject(output);
  if (result === undefined)
    return { kind: "garbage", reason: `${JSON.stringify(output.slice(0, 200))} is not a JSON object` };
  const message = asString(member(result, "msg"));
  const isError = message !== undefined && asInteger(member(result, "code")) !== undefined;
  if (isError && member(result, "ips") === undefined)
    return { kind: "garbage", reason: `it is an error object, but the exit code is 0: ${message.slice(0, 2000)}` };
  return { kind: "result", result: { ...result, cniVersion: asString(member(result, "cniVersion")) || cniVersion } };
}

export type ParsedAddresses =
  | { readonly kind: "addresses"; readonly ips: readonly string[] }
  | { readonly kind: "garbage"; readonly reason: string };

/**
 * Addresses of the pod's own interface in the result's order, so that the first is the primary one;
 * as text in the shortest form, without prefix length, without duplicates.
 */
export function podAddresses(result: JsonObject, interfaceName: string): ParsedAddresses {
  const interfaces = asArray(member(result, "interfaces")) ?? [];
  // Terway and others give no sandbox for the pod's interface; it can only be identified by name then.
  const byName = !claimsInterface(result, interfaceName);
  const ips = new Set<string>();
  for (const value of asArray(member(result, "ips")) ?? []) {
    const entry = asObject(value);
    const text = entry && asString(member(entry, "address"));
    const address = text === undefined ? undefined : plainAddress(text);
    if (entry === undefined || address === undefined)
      return { kind: "garbage", reason: `${JSON.stringify(value)} in "ips" has no "address" in CIDR form` };
    const index = member(entry, "interface");
    // `interface` is optional: an address without one belongs to the pod.
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

/** Whether the result claims that the pod has this interface: not every plugin creates one in the kernel. */
export function claimsInterface(result: JsonObject, interfaceName: string): boolean {
  return (asArray(member(result, "interfaces")) ?? []).some((value) => {
    const owner = asObject(value);
    return owner !== undefined && isPodInterface(owner, interfaceName);
  });
}

/** `sandbox` distinguishes an interface of the pod from one of the host. */
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
