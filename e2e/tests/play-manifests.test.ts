// keelson play on a real node: manifests and their outcomes.

import { get } from "node:http";
import { join } from "node:path";
import { expect, test } from "vitest";
import { outcomes } from "../fixtures/manifests/outcomes.ts";
import { usePlays } from "../fixtures/plays.ts";
import { until } from "../fixtures/steps.ts";

const manifests = join(import.meta.dirname, "../fixtures/manifests");

const { node, play, manifest, pod, expectNothingLeft } = usePlays();

test.each(outcomes)(
  "$file has the same outcome as with a kubelet",
  { timeout: 120_000 },
  async ({ file, pods, until: words }) => {
    const { player, printed, exit, said } = play("--logs", join(manifests, file));
    if (words !== undefined) {
      await said(words);
      player.kill("SIGINT");
    }
    const all = Object.values(pods);
    expect(await exit, printed.stderr).toBe(
      all.every(({ phase }) => phase === "Succeeded" || phase === "Running") ? 0 : 1,
    );
    for (const [name, { phase, reason, containers }] of Object.entries(pods)) {
      const [line = ""] = printed.stderr.match(new RegExp(`^Pod default/${name}: .*$`, "m")) ?? [];
      expect(line).toContain(`: ${phase}${reason === undefined ? ";" : ` (${reason});`}`);
      for (const [container, { exitCode, restarts, log }] of Object.entries(containers)) {
        expect(line).toMatch(new RegExp(`; ${container} [^;]*, ${restarts} restarts`));
        if (exitCode !== undefined) expect(line).toContain(`; ${container} exit ${exitCode}, `);
        const prefix = `default/${name}/${container} | `;
        const lines = printed.stdout.split("\n").filter((text) => text.startsWith(prefix));
        if (log !== undefined) expect(lines.map((text) => text.slice(prefix.length))).toEqual(log);
      }
    }
    await expectNothingLeft();
  },
);

test("a host port is answered", async () => {
  const file = await manifest(
    pod("port", "echo hello > /index.html; exec httpd -f -p 80 -h /").replace(
      "name: app,",
      "name: app, ports: [{containerPort: 80, hostPort: 18433}],",
    ),
  );
  const { player, exit, said } = play(file);
  await said(/app: started/);
  const page = await until(
    "a page",
    10_000,
    async () => await fetchPage("http://127.0.0.1:18433/").catch(() => undefined),
  );
  expect(page).toBe("hello\n");
  player.kill("SIGINT");
  expect(await exit).toBe(0);
  await expectNothingLeft();
});

async function fetchPage(url: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    get(url, { agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString())).on("end", () => resolve(text));
    }).on("error", reject);
  });
}

test("a pod's files are readable by its users, whatever the shell's umask", async () => {
  const script = "cat /etc/hosts >/dev/null && cat /files/below/key";
  const text = `{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {key: read}},
    {apiVersion: v1, kind: Pod, metadata: {name: reader}, spec: {restartPolicy: Never,
      securityContext: {runAsUser: 1000, runAsGroup: 1000},
      volumes: [{name: files, configMap: {name: c, items: [{key: key, path: below/key}]}}],
      containers: [{name: app, image: "${node().image}", command: [sh, -c, "${script}"],
        volumeMounts: [{name: files, mountPath: /files}]}]}}]}`;
  const file = await manifest(text);
  const before = process.umask(0o077);
  const { printed, exit } = play("--logs", file);
  process.umask(before);
  expect(await exit, printed.stderr + printed.stdout).toBe(0);
  expect(printed.stdout).toContain("reader/app | read");
  await expectNothingLeft();
});
