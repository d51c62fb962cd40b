import { describe, expect, test } from "vitest";
import { formatReference, nameOf, parseReference } from "./reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

describe("normalises", () => {
  test.each([
    ["busybox", "docker.io/library/busybox:latest"],
    ["busybox:1.36", "docker.io/library/busybox:1.36"],
    ["user/app", "docker.io/user/app:latest"],
    ["docker.io/busybox", "docker.io/library/busybox:latest"],
    ["docker.io/library/busybox", "docker.io/library/busybox:latest"],
    ["index.docker.io/busybox", "docker.io/library/busybox:latest"],
    ["quay.io/a/b/c:x", "quay.io/a/b/c:x"],
    ["localhost/app", "localhost/app:latest"],
    ["localhost:5000/app", "localhost:5000/app:latest"],
    ["127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1"],
    ["[::1]:5000/app", "[::1]:5000/app:latest"],
    ["REGISTRY/app", "REGISTRY/app:latest"],
    ["reg.io:443/app", "reg.io:443/app:latest"],
    [`busybox@${digest}`, `docker.io/library/busybox@${digest}`],
    [`busybox:1@${digest}`, `docker.io/library/busybox@${digest}`],
    ["a.b-c/d__e/f-----g:T_a.g-1", "a.b-c/d__e/f-----g:T_a.g-1"],
    [`x:${"t".repeat(128)}`, `docker.io/library/x:${"t".repeat(128)}`],
    ["beef", "docker.io/library/beef:latest"],
  ])("%s", (text, normal) => {
    expect(formatReference(parseReference(text))).toBe(normal);
    expect(formatReference(parseReference(normal))).toBe(normal);
  });
});

test("names its parts", () => {
  const reference = parseReference(`reg.io:5000/team/app:1@${digest}`);
  expect(reference).toEqual({ registry: "reg.io:5000", repository: "team/app", tag: undefined, digest });
  expect(nameOf(reference)).toBe("reg.io:5000/team/app");
});

describe("refuses", () => {
  test.each([
    [""],
    ["a".repeat(64)],
    [digest],
    ["Busybox"],
    ["user/App"],
    ["-a"],
    ["a..b"],
    ["a___b"],
    ["a/"],
    ["/a"],
    ["a//b"],
    ["reg.io/"],
    ["reg.io/../etc"],
    ["../../etc/passwd"],
    ["a b"],
    ["a\n"],
    ["a:"],
    ["a:-x"],
    [`a:${"t".repeat(129)}`],
    ["a@"],
    ["a@sha256:abc"],
    [`a@sha256:${"A".repeat(64)}`],
    ["a@sha256:../../x"],
    [`a@${digest}@${digest}`],
    ["a@md5:d41d8cd98f00b204e9800998ecf8427e"],
    ["reg.io:0/a"],
    ["reg.io:65536/a"],
    ["reg.io:x/a"],
    ["-reg.io/a"],
    ["reg_x.io/a"],
    ["[:1]:5000/a"],
    ["[fe80::1%eth0]/a"],
    ["1.2.3.400/a"],
    ["user:pass@reg.io/a"],
    ["https://reg.io/a"],
    [`reg.io/${"a".repeat(250)}`],
    ["é"],
  ])("%j", (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "InvalidArgument" }));
  });
});
