// Names of slices and the cgroups that systemd gives them: a-b.slice lies in a.slice. Source: systemd.slice(5).

const suffix = ".slice";
/** The longest name of a unit (systemd.unit(5)). */
const longestName = 255;

/** The slice's cgroup; undefined for what is no slice's name. `-.slice` is the root. */
export function sliceCgroup(name: string): string | undefined {
  if (name === "-.slice") return "";
  if (!name.endsWith(suffix) || name.length > longestName) return undefined;
  const parts = name.slice(0, -suffix.length).split("-");
  if (!parts.every((part) => /^[A-Za-z0-9:_.\\]+$/.test(part))) return undefined;
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join("-")}${suffix}`).join("");
}

/** The slice and those that it lies in, outer ones first: a-b.slice is in a.slice. Of the root, none. */
export function slicesAround(name: string): string[] {
  return (sliceCgroup(name) ?? "").split("/").slice(1);
}

/** The slice that a CRI client means: its name, as podman and crictl give it, or its whole cgroup, as the kubelet does. */
export function sliceOfParent(parent: string): string | undefined {
  const name = parent.slice(parent.lastIndexOf("/") + 1);
  const cgroup = sliceCgroup(name);
  if (cgroup === undefined) return undefined;
  return parent === name || parent === cgroup || `/${parent}` === cgroup ? name : undefined;
}

/** The slice for a cgroup of the cgroupfs driver: /keelson/test is keelson-test.slice. */
export function sliceOfCgroup(cgroup: string): string | undefined {
  const name = `${cgroup.split("/").filter(Boolean).join("-")}${suffix}`;
  return sliceCgroup(name) === undefined ? undefined : name;
}
