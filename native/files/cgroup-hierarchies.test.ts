// Which lines of a mount table, including hostile ones, are the host's cgroup hierarchies.

import { expect, test } from "vitest";
import { findHierarchies, hostCgroupOptions } from "./cgroup-hierarchies.ts";
import { parseMountTable } from "./mount-table.ts";

/** The v1 mount of a controller, as the kernel writes it. */
const v1 = (mountPoint: string, options: string, root = "/", optional = "") =>
  `33 31 0:30 ${root} ${mountPoint} rw,relatime ${optional}- cgroup cgroup rw,${options}`;

const cases: readonly [string, readonly string[], { unified: boolean; v2: string; v1: Record<string, string> }][] = [
  [
    "a v2 host",
    ["30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"],
    { unified: true, v2: "/sys/fs/cgroup", v1: {} },
  ],
  [
    "several controllers in one hierarchy, a named one, and options that are not controllers",
    [v1("/c/cpu,cpuacct", "cpu,cpuacct,xattr,clone_children,release_agent=/x"), v1("/c/systemd", "xattr,name=systemd")],
    { unified: false, v2: "", v1: { cpu: "/c/cpu,cpuacct", cpuacct: "/c/cpu,cpuacct", "name=systemd": "/c/systemd" } },
  ],
  [
    "escaped blanks, tabs, newlines and backslashes, and bytes beyond ASCII",
    [v1("/a\\040b\\011c\\012d\\134e", "memory"), v1("/gr\u00fcn", "pids")],
    { unified: false, v2: "", v1: { memory: "/a b\tc\nd\\e", pids: "/gr\u00fcn" } },
  ],
  [
    "text that only looks like an escape",
    [v1("/a\\0", "memory"), v1("/b\\9999", "pids")],
    { unified: false, v2: "", v1: { memory: "/a\\0", pids: "/b\\9999" } },
  ],
  [
    "no optional field, one, and three",
    [
      v1("/none", "memory"),
      v1("/one", "pids", "/", "shared:12 "),
      v1("/three", "cpuset", "/", "shared:12 master:3 propagate_from:2 "),
    ],
    { unified: false, v2: "", v1: { memory: "/none", pids: "/one", cpuset: "/three" } },
  ],
  [
    "a controller that is mounted more than once: the first mount counts",
    [v1("/first", "memory"), v1("/second", "memory"), v1("/third", "memory")],
    { unified: false, v2: "", v1: { memory: "/first" } },
  ],
  [
    "bind mounts of a subtree, before and after the full mount",
    [
      v1("/part", "memory", "/kubepods/x"),
      v1("/whole", "memory"),
      v1("/after", "memory", "/kubepods"),
      "41 31 0:38 /keelson /part2 rw - cgroup2 none rw",
      "42 31 0:38 / /unified rw - cgroup2 none rw",
    ],
    { unified: false, v2: "/unified", v1: { memory: "/whole" } },
  ],
  [
    "other file systems that mention cgroups, truncated lines, and an empty source",
    [
      "50 23 0:50 / /sys/fs/cgroup rw - tmpfs cgroup rw,memory",
      "51 23 0:51 / /decoy - rw - ext4 cgroup2 rw,memory",
      "52 23 0:52 / /cut rw - cgroup",
      "53 23 0:53 / /cut rw",
      "",
      "54 23 0:54 / /empty rw -  cgroup cgroup rw,memory",
      "55 23 0:55 / /right rw - cgroup  rw,memory",
    ],
    { unified: false, v2: "", v1: { memory: "/right" } },
  ],
  [
    "a long file, the hierarchies at its end",
    [
      ...Array.from(
        { length: 2000 },
        (_, n) => `${100 + n} 31 0:${n} / /run/keelson/pods/${"a".repeat(64)}/${n} rw - tmpfs shm rw`,
      ),
      v1("/late", "memory"),
    ],
    { unified: false, v2: "", v1: { memory: "/late" } },
  ],
];

test.each(cases)("%s", (_, lines, expected) => {
  const text = `${lines.join("\n")}\n`;
  const { v1: found, ...rest } = findHierarchies(parseMountTable(Buffer.from(text).toString("latin1")));
  expect({ ...rest, v1: Object.fromEntries(found) }).toEqual(expected);
});

test.each([
  ["rw,seclabel,nsdelegate,memory_recursiveprot", [], ["nsdelegate", "memory_recursiveprot"]],
  ["rw", [], []],
  ["rw,nsdelegate", [v1("/c/memory", "memory")], []],
])("for cgroup v2 options %s next to v1 mounts %j, a new mount repeats %j", (options, others, repeated) => {
  const v2 = `30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 ${options}`;
  expect(hostCgroupOptions(parseMountTable([v2, ...others].join("\n")))).toEqual(repeated);
});
