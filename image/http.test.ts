// The modules that a pull's HTTP client loads, and its connections over a bad network.

import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";

test("loads only undici's agent, requests and errors, not the complete package", () => {
  const script = `
    const { createRequire } = await import("node:module");
    await import(${JSON.stringify(join(import.meta.dirname, "http.ts"))});
    console.log(JSON.stringify(Object.keys(createRequire("/").cache)));
  `;
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8" });
  const loaded = printed.match(/(?<=\/undici\/)[^"]+/g);
  expect(loaded).toContain("lib/dispatcher/agent.js");
  expect(loaded).not.toContain("index.js");
  expect(loaded?.filter((path) => /fetch|websocket|mock|cache/i.test(path))).toEqual([]);
});

test("a name with many addresses is reached although the first packet is lost and the last address is unreachable", async () => {
  const directory = await mkdtemp(join(tmpdir(), "keelson-http-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const addresses = ["127.0.0.2", "127.0.0.3", "2001:db8::1", "2001:db8::2"];
  await writeFile(join(directory, "hosts"), addresses.map((address) => `${address} registry.test\n`).join(""));
  // The first packet of each connection is dropped; Linux retransmits after a second.
  const rules = `table inet lossy {
    set seen { type inet_service; flags dynamic,timeout; timeout 1m; }
    chain input {
      type filter hook input priority 0;
      tcp dport 5000 tcp flags & (syn|ack) == syn tcp sport @seen accept
      tcp dport 5000 tcp flags & (syn|ack) == syn add @seen { tcp sport } drop
    }
  }`;
  const program = `
    import { createServer } from "node:http";
    import { HttpConnections } from ${JSON.stringify(join(import.meta.dirname, "http.ts"))};
    createServer((_request, response) => response.end("reached")).listen(5000, "0.0.0.0");
    const timeouts = { connectMs: 10_000, responseMs: 5000, stallMs: 5000, documentMs: 5000 };
    const connections = new HttpConnections(timeouts, () => undefined);
    const signal = new AbortController().signal;
    const url = new URL("http://registry.test:5000/");
    const response = await connections.send({ method: "GET", url, headers: new Map(), tls: {}, signal });
    console.log((await connections.readBody(response, 100, signal)).toString());
    process.exit();`;
  // If the host had no IPv6 address, the resolver would return none.
  const setup = `set -e
    mount --bind ${directory}/hosts /etc/hosts
    ip link set lo up
    ip link add up type veth peer name peer
    ip link set up up && ip link set peer up && ip -6 addr add fe80::1/64 dev up nodad
    nft -f -
    exec "$0" --input-type=module --eval "$1"`;
  const words = ["-nm", "--propagation", "private", "sh", "-c", setup, process.execPath, program];
  expect(execFileSync("unshare", words, { input: rules, encoding: "utf8", timeout: 30_000 })).toBe("reached\n");
});
