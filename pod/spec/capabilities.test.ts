import { expect, test } from "vitest";
import { plainSecurity } from "../testing/configs.ts";
import type { ContainerSecurity } from "../types.ts";
import { capabilitiesFor, capabilityNames } from "./capabilities.ts";

const everything = (1n << BigInt(capabilityNames.length)) - 1n;
const withoutSysResource = everything & ~(1n << 24n);

function effective(change: Partial<ContainerSecurity>, host = everything): readonly string[] {
  return capabilitiesFor({ ...plainSecurity, ...change }, host).effective;
}

test("without a request, a container gets the usual fourteen", () => {
  const usual =
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP";
  const names = usual.split(" ").map((name) => `CAP_${name}`);
  const sets = capabilitiesFor(plainSecurity, everything);
  expect([sets.bounding, sets.permitted, sets.effective]).toEqual([names, names, names]);
});

test("add and drop work with and without the prefix, in any case", () => {
  expect(effective({ addCapabilities: ["net_admin", "CAP_SYS_TIME"] })).toEqual(
    expect.arrayContaining(["CAP_NET_ADMIN", "CAP_SYS_TIME"]),
  );
  expect(effective({ dropCapabilities: ["CHOWN"] })).not.toContain("CAP_CHOWN");
  expect(effective({ addCapabilities: ["NET_ADMIN"], dropCapabilities: ["NET_ADMIN"] })).not.toContain("CAP_NET_ADMIN");
});

test("ALL means all that the host can grant", () => {
  expect(effective({ addCapabilities: ["ALL"] }, withoutSysResource)).toHaveLength(capabilityNames.length - 1);
  expect(effective({ addCapabilities: ["ALL"], dropCapabilities: ["SYS_ADMIN"] })).not.toContain("CAP_SYS_ADMIN");
  expect(effective({ dropCapabilities: ["ALL"] })).toEqual([]);
  expect(effective({ dropCapabilities: ["all"], addCapabilities: ["NET_BIND_SERVICE"] })).toEqual([
    "CAP_NET_BIND_SERVICE",
  ]);
  expect(effective({ privileged: true }, withoutSysResource)).not.toContain("CAP_SYS_RESOURCE");
});

test("the inheritable set contains only ambient capabilities (CVE-2022-24769)", () => {
  expect(capabilitiesFor(plainSecurity, everything)).toMatchObject({ inheritable: [], ambient: [] });
  const sets = capabilitiesFor({ ...plainSecurity, addAmbientCapabilities: ["SYS_TIME"] }, everything);
  expect(sets).toMatchObject({ inheritable: ["CAP_SYS_TIME"], ambient: ["CAP_SYS_TIME"] });
  // An ambient capability must be in the other sets too (capabilities(7)).
  for (const set of [sets.bounding, sets.permitted, sets.effective]) expect(set).toContain("CAP_SYS_TIME");
});

test("an ambient capability that the host cannot grant is left out, as in all other sets", () => {
  const security = { ...plainSecurity, addAmbientCapabilities: ["SYS_RESOURCE", "NET_BIND_SERVICE"] };
  const { ambient, inheritable, effective } = capabilitiesFor(security, withoutSysResource);
  expect([ambient, inheritable]).toEqual([["CAP_NET_BIND_SERVICE"], ["CAP_NET_BIND_SERVICE"]]);
  expect(effective).not.toContain("CAP_SYS_RESOURCE");
});

test("ambient ALL means all that the host can grant", () => {
  const { ambient } = capabilitiesFor({ ...plainSecurity, addAmbientCapabilities: ["ALL"] }, withoutSysResource);
  expect(ambient).toHaveLength(capabilityNames.length - 1);
});

test("an unknown name is an error", () => {
  expect(() => effective({ addCapabilities: ["FLY"] })).toThrow("capability FLY is unknown");
});
