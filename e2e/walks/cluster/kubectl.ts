// The real kubectl, over WebSocket and over SPDY.

import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { until } from "../../fixtures/steps.ts";
import { idle, type Scene, shell, web } from "./scene.ts";

const transports = { WebSocket: "true", SPDY: "false" };

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export async function kubectl(scene: Scene): Promise<void> {
  const { check, cluster, namespace } = scene;
  await scene.create("pod", {
    containers: [
      shell("main", idle),
      shell("echo", 'while read line; do echo "said $line"; done', { stdin: true }),
      web("web"),
    ],
  });
  await scene.ready("pod");

  for (const [transport, on] of Object.entries(transports)) {
    const start = (words: readonly string[]) =>
      spawn(
        join(cluster.programs, "kubectl"),
        [`--kubeconfig=${cluster.controlPlane.kubeConfigFile}`, `--namespace=${namespace}`, ...words],
        { env: { ...process.env, KUBECTL_REMOTE_COMMAND_WEBSOCKETS: on, KUBECTL_PORT_FORWARD_WEBSOCKETS: on } },
      );
    const run = async (words: readonly string[], input = ""): Promise<Outcome> => {
      const child = start(words);
      child.stdin.end(input);
      const output = { stdout: "", stderr: "" };
      child.stdout.on("data", (data) => (output.stdout += data));
      child.stderr.on("data", (data) => (output.stderr += data));
      const [status] = await once(child, "close");
      return { status, ...output };
    };
    await check(`exec over ${transport}`, async () => {
      const shown = await run(
        ["exec", "-i", "pod", "-c", "main", "--", "sh", "-c", "cat; echo err >&2; exit 7"],
        "input",
      );
      assert.equal(shown.stdout, "input");
      assert.match(shown.stderr, /^err$/m);
      assert.equal(shown.status, 7);
    });
    await check(`attach over ${transport}`, async () => {
      const child = start(["attach", "-i", "pod", "-c", "echo"]);
      child.stdin.write(`${transport}\n`);
      await shows(child, new RegExp(`said ${transport}\n`));
      child.kill();
    });
    await check(`cp over ${transport}`, async () => {
      const file = join(cluster.directory, `kubectl-${transport}`);
      await writeFile(file, "copied");
      assert.equal((await run(["cp", "-c", "main", file, "pod:/tmp/copied"])).status, 0);
      assert.equal((await run(["exec", "pod", "-c", "main", "--", "cat", "/tmp/copied"])).stdout, "copied");
    });
    await check(`port-forward over ${transport}`, async () => {
      const child = start(["port-forward", "--address=127.0.0.1", "pod/pod", ":8080"]);
      const text = await shows(child, /->/);
      const port = /127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      const answers = await Promise.all(
        Array.from({ length: 10 }, async (_, n) => (await fetch(`http://127.0.0.1:${port}/echo?msg=${n}`)).text()),
      );
      child.kill();
      assert.deepEqual(
        answers,
        Array.from({ length: 10 }, (_, n) => String(n)),
      );
    });
    await check(`run --attach and debug over ${transport}`, async () => {
      const image = "--image=walk.test/tools:1";
      const name = `run-${transport.toLowerCase()}`;
      const words = [
        "run",
        name,
        image,
        "--restart=Never",
        "--rm",
        "--attach",
        "--quiet",
        "--",
        "sh",
        "-c",
        "sleep 1; echo from a pod",
      ];
      assert.equal((await run(words)).stdout, "from a pod\n");
      const debug = ["debug", "pod", image, "--profile=general", "--target=main", "--attach", "--quiet", "--", "ps"];
      assert.match((await run(debug)).stdout, /sleep 3600/);
    });
  }
  await scene.remove("pod");
}

/** Returns the program's output once it matches; the program may print more. */
async function shows(child: ChildProcessWithoutNullStreams, pattern: RegExp): Promise<string> {
  let text = "";
  child.stdout.on("data", (data) => (text += data));
  return await until(`kubectl shows ${pattern}`, 20_000, async () => (pattern.test(text) ? text : undefined));
}
