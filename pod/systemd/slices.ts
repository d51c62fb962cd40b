// Slice names and their cgroups: a-b.slice is inside a.slice. Source: systemd.slice(5).

const suffix = ".slice";
/** The maximum length of a unit name (systemd.unit(5)). */
const longestName = 255;

/** The slice's cgroup; undefined for an invalid slice name. `-.slice` is the root. */
export function sliceCgroup(name: string): string | undefined {
  if (name === "-.slice") return "";
  if (!name.endsWith(suffix) || name.length > longestName) return undefined;
  const parts = name.slice(0, -suffix.length).split("-");
  if (!parts.every((part) => /^[A-Za-z0-9:_.\\]+$/.test(part))) return undefined;
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join("-")}${suffix}`).join("");
}

/** The slice and its ancestors, outermost first; empty for the root. */
export function slicesAround(name: string): string[] {
  return (sliceCgroup(name) ?? "").split("/").slice(1);
}

/**
 * The slice for a CRI cgroup parent: a slice name, as from podman and crictl, or a full cgroup, as from the kubelet.
 */
export function sliceOfParent(parent: string): string | undefined {
  const name = parent.slice(parent.lastIndexOf("/") + 1);
  const cgroup = sliceCgroup(name);
  if (cgroup === undefined) return undefined;
  return parent === name || parent === cgroup || `/${parent}` === cgroup ? name : undefined;
}

/** The slice for a cgroup in cgroupfs form: /keelson/test becomes keelson-test.slice. */
export function sliceOfCgroup(cgroup: string): string | undefined {
  const name = `${cgroup.split("/").filter(Boolean).join("-")}${suffix}`;
  return sliceCgroup(name) === undefined ? undefined : name;
}
