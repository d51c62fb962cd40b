// Containers that start from an empty mount namespace are the same as those that start from a copy of the host's.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type PodOptions, type TestPod, until, withPod } from "./monitor-pod.ts";

/** A container's mounts as it sees them, without what differs between containers. */
function mountsOf(pid: number, pod: TestPod): string[] {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, "utf8").trim().split("\n");
  return lines.map((line) => {
    const [, , , root = "", at, options, ...rest] = line.replaceAll(pod.directory, "POD").split(" ");
    const [type, , superOptions = ""] = rest.slice(rest.indexOf("-") + 1);
    const shared = rest.slice(0, rest.indexOf("-")).map((field) => field.split(":")[0]);
    const id = /[0-9a-f]{12,64}/g;
    return [root.replaceAll(id, "ID"), at, options, shared, type, superOptions.replaceAll(id, "ID")].join(" ");
  });
}

/** A container with the usual mounts, masked paths, and a directory of the host. */
async function start(pod: TestPod) {
  const shared = join(pod.directory, "shared");
  mkdirSync(shared);
  writeFileSync(join(shared, "file"), "");
  const request = pod.prepare("a", { log: true, args: ["sh", "-c", "cat /proc/keys; ls /; echo there; sleep 1000"] });
  const file = join(pod.directory, "containers/a/config.json");
  const config = JSON.parse(readFileSync(file, "utf8"));
  config.mounts.push(
    { destination: "/shared", type: "bind", source: shared, options: ["rbind", "rslave"] },
    { destination: "/shared-file", type: "bind", source: join(shared, "file"), options: ["bind", "ro"] },
  );
  config.linux.maskedPaths = ["/proc/keys", "/proc/timer_list", "/proc/acpi"];
  config.linux.readonlyPaths = ["/proc/sys", "/proc/irq"];
  writeFileSync(file, JSON.stringify(config));
  const state = await pod.ask("start", request);
  await until("it is there", () => pod.logLines("a").includes("stdout F there"));
  return { pid: Number(state.pid), said: pod.logLines("a") };
}

test("the mounts of a container are the same with both mount namespaces, with no additional ones", async () => {
  const seen: string[][] = [];
  const said: string[][] = [];
  const ways: readonly PodOptions[] = [{}, { descriptor4: "nothing" }, { descriptor4: "another file" }];
  for (const options of ways) {
    await withPod(options, async (pod) => {
      const container = await start(pod);
      seen.push(mountsOf(container.pid, pod));
      said.push(container.said);
    });
  }
  expect(seen[0]?.length).toBeGreaterThan(8);
  expect(seen[1]).toEqual(seen[0]);
  expect(seen[2]).toEqual(seen[0]);
  expect(said[1]).toEqual(said[0]);
});

test("a later mount on the host, at a directory that a container has with rslave, is visible in the container", async () => {
  await withPod({}, async (pod) => {
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", mkdir(pod, "volume")]);
    execFileSync("mount", ["--make-rshared", join(pod.directory, "volume")]);
    try {
      const request = pod.prepare("a", { args: ["sleep", "1000"] });
      const file = join(pod.directory, "containers/a/config.json");
      const config = JSON.parse(readFileSync(file, "utf8"));
      const source = join(pod.directory, "volume");
      config.mounts.push({ destination: "/volume", type: "bind", source, options: ["rbind", "rslave"] });
      writeFileSync(file, JSON.stringify(config));
      const { pid } = await pod.ask("start", request);
      mkdirSync(join(source, "later"));
      execFileSync("mount", ["-t", "tmpfs", "tmpfs", join(source, "later")]);
      expect(readFileSync(`/proc/${pid}/mountinfo`, "utf8")).toContain(" /volume/later ");
    } finally {
      execFileSync("umount", ["--recursive", "--lazy", join(pod.directory, "volume")]);
    }
  });
});

function mkdir(pod: TestPod, name: string): string {
  mkdirSync(join(pod.directory, name));
  return join(pod.directory, name);
}
