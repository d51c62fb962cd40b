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
  expect(effective({})).toHaveLength(14);
  expect(effective({})).toContain("CAP_CHOWN");
  expect(effective({})).not.toContain("CAP_SYS_ADMIN");
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
  const ambient = capabilitiesFor({ ...plainSecurity, addAmbientCapabilities: ["NET_BIND_SERVICE"] }, everything);
  expect(ambient).toMatchObject({ inheritable: ["CAP_NET_BIND_SERVICE"], ambient: ["CAP_NET_BIND_SERVICE"] });
});

test("an ambient capability that the host cannot grant is left out, as in all other sets", () => {
  const security = { ...plainSecurity, addAmbientCapabilities: ["SYS_RESOURCE", "NET_BIND_SERVICE"] };
  const { ambient, inheritable, effective } = capabilitiesFor(security, withoutSysResource);
  expect([ambient, inheritable]).toEqual([["CAP_NET_BIND_SERVICE"], ["CAP_NET_BIND_SERVICE"]]);
  expect(effective).not.toContain("CAP_SYS_RESOURCE");
});

test("an unknown name is an error", () => {
  expect(() => effective({ addCapabilities: ["FLY"] })).toThrow("capability FLY is unknown");
});
