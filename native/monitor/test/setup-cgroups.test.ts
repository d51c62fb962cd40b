// A container's cgroup: limits are enforced, updates are all or nothing, device programs of v2.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { builds, TestPod } from "./setup-pod.ts";

const hierarchies = "/sys/fs/cgroup";
const hybrid = existsSync(join(hierarchies, "memory"));

describe.each(builds)("cgroups, $build build", ({ program }) => {
  let pod: TestPod;
  beforeEach(() => {
    pod = new TestPod(program);
  });
  afterEach(async () => {
    expect(await pod.remove()).toEqual([]);
  });

  describe.runIf(hybrid)("on v1", () => {
    const file = (name: string) =>
      join(hierarchies, name.slice(0, name.indexOf("/")), pod.containerCgroup, name.slice(name.indexOf("/") + 1));
    const read = (name: string) => readFileSync(file(name), "utf8").trim();

    test("every resource is written to its file", async () => {
      const megabytes = 64 * 1024 * 1024;
      pod.write({
        args: ["sh", "-c", "echo ready; read go"],
        linux: {
          resources: {
            memory: { limit: megabytes, swap: megabytes },
            cpu: { shares: 512, quota: 50_000, period: 100_000, cpus: "0", mems: "0" },
          },
        },
      });
      const running = pod.start();
      await running.output("ready\n");
      expect(read("memory/memory.limit_in_bytes")).toBe(String(megabytes));
      expect(read("memory/memory.memsw.limit_in_bytes")).toBe(String(megabytes));
      expect(read("cpu/cpu.shares")).toBe("512");
      expect(read("cpu/cpu.cfs_quota_us")).toBe("50000");
      expect(read("cpuset/cpuset.cpus")).toBe("0");
      expect(read("cpuset/cgroup.procs")).toContain(String(await running.pid()));
      running.say("\n");
      await running.end();
    });

    test("the process, and an exec's, is in the container's cgroup of every hierarchy", async () => {
      pod.write({ args: ["sh", "-c", "echo ready; exec sleep 20"] });
      const outcome = await pod.start(["cat", "/proc/self/cgroup"]).end();
      const rows = outcome.stdout.split("\n").filter((row) => row.includes(":"));
      expect(rows.length).toBeGreaterThan(8);
      // The container's own cgroup is the root of its cgroup namespace.
      for (const row of rows) expect(row).toMatch(/:\/$/);
    });

    test("the memory limit kills", async () => {
      const outcome = await pod.run({
        args: ["sh", "-c", "/bin/busybox dd if=/dev/zero of=/dev/null bs=64M count=1"],
        linux: { resources: { memory: { limit: 16 * 1024 * 1024, swap: 16 * 1024 * 1024 } } },
      });
      expect(outcome.news.find((line) => line.event === "exited")).toMatchObject({ exit_code: 137 });
    });

    test("an empty cpuset of a parent directory, just created by another pod, is filled", async () => {
      const above = join(hierarchies, "cpuset", pod.cgroup);
      mkdirSync(above);
      expect(readFileSync(join(above, "cpuset.cpus"), "utf8").trim()).toBe("");
      pod.write({ args: ["sh", "-c", "echo ready; read go"] });
      const running = pod.start();
      await running.output("ready\n");
      const whole = readFileSync(join(hierarchies, "cpuset/cpuset.cpus"), "utf8").trim();
      for (const path of ["cpuset/cpuset.cpus"]) expect(read(path)).toBe(whole);
      running.say("\n");
      await running.end();
    });

    test("one invalid resource undoes all others and leaves no cgroup", async () => {
      const outcome = await pod.run({
        linux: { resources: { cpu: { shares: 700 }, memory: { limit: 2 ** 26, swap: 2 ** 25 } } },
      });
      expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
      const cpus = await pod.run({ linux: { resources: { cpu: { cpus: "4000" } } } });
      expect(cpus.news.at(-1)?.message).toContain("cpuset.cpus");
    });

    test.runIf(availableParallelism() > 1)(
      "a processor that the parent cgroup lacks is reported as an invalid request",
      async () => {
        const above = join(hierarchies, "cpuset", pod.cgroup);
        mkdirSync(above);
        for (const name of ["cpuset.cpus", "cpuset.mems"]) writeFileSync(join(above, name), "0");
        const outcome = await pod.run({ linux: { resources: { cpu: { cpus: "1" } } } });
        expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
      },
    );

    test("cgroups that the container created inside its own are removed with it", async () => {
      pod.write({ args: ["sh", "-c", "echo ready; read go"] });
      const running = pod.start();
      await running.output("ready\n");
      mkdirSync(file("memory/a/b"), { recursive: true });
      writeFileSync(file("memory/a/b/cgroup.procs"), String(await running.pid()));
      running.say("\n");
      await running.end();
    });
  });

  test("a device program on a v2 cgroup enforces the rules and can be replaced", () => {
    const root = hybrid ? join(hierarchies, "unified") : hierarchies;
    const directory = join(root, `${pod.cgroup.slice(1)}-devices`);
    const news = join(pod.base, "news");
    const put = (rules: object[]) =>
      execFileSync("sh", [
        "-c",
        '"$0" device-filter "$1" "$2" 3>"$3"',
        program,
        directory,
        JSON.stringify(rules),
        news,
      ]);
    const opens = (device: string, how = "<") =>
      spawnSync("sh", ["-c", `echo $$ > ${directory}/cgroup.procs; : ${how} ${device}`]).status === 0;
    mkdirSync(directory);
    try {
      expect(opens("/dev/kmsg")).toBe(true);
      put([{ allow: false, access: "rwm" }]);
      expect(opens("/dev/kmsg")).toBe(false);
      expect(opens("/dev/null")).toBe(true);
      put([
        { allow: false, access: "rwm" },
        { allow: true, type: "c", major: 1, minor: 11, access: "r" },
      ]);
      expect(opens("/dev/kmsg")).toBe(true);
      expect(opens("/dev/kmsg", ">")).toBe(false);
      put([{ allow: false, type: "c", major: 1, minor: 11, access: "w" }]);
      expect(opens("/dev/kmsg")).toBe(true);
      expect(opens("/dev/kmsg", ">")).toBe(false);
    } finally {
      rmdirSync(directory);
    }
  });
});
