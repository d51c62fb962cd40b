// Exec, attach, port-forward, cp and logs with the client library, over WebSocket.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { Attach, Cp, Exec, Log, PortForward } from "@kubernetes/client-node";
import { until } from "../../fixtures/steps.ts";
import { collector, idle, type Scene, shell, web } from "./scene.ts";

export async function streams(scene: Scene): Promise<void> {
  const { check, namespace } = scene;
  const { kubeConfig } = scene.cluster;
  await scene.create("streams", {
    containers: [
      shell("main", idle),
      shell("echo", 'while read line; do echo "said $line"; done', { stdin: true }),
      web("web"),
    ],
  });
  await scene.ready("streams");

  await Promise.all([
    check("exec: both streams and the exit code", async () => {
      const { stdout, stderr, failure } = await scene.exec(
        "streams",
        "main",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
      );
      assert.deepEqual([stdout, stderr], ["out\n", "err\n"]);
      assert.match(failure ?? "", /exit code 7/);
    }),
    check("exec: input and its end", async () => {
      const [stdout, stderr] = [collector(), collector()];
      const ended = Promise.withResolvers<string | undefined>();
      const input = Readable.from([Buffer.from("one\n"), Buffer.from("two\n")]);
      await new Exec(kubeConfig).exec(
        namespace,
        "streams",
        "main",
        ["wc", "-l"],
        stdout.stream,
        stderr.stream,
        input,
        false,
        ({ status }) => ended.resolve(status),
      );
      assert.equal(await ended.promise, "Success");
      assert.equal(stdout.text().trim(), "2");
    }),
    check("attach: input is answered", async () => {
      const [stdout, stdin] = [collector(), new PassThrough()];
      const socket = await new Attach(kubeConfig).attach(
        namespace,
        "streams",
        "echo",
        stdout.stream,
        null,
        stdin,
        false,
      );
      stdin.write("hello\n");
      await until("an answer", 10_000, async () => (stdout.text() === "said hello\n" ? true : undefined));
      socket.close();
    }),
    check("port-forward", async () => {
      const [answer, errors, request] = [collector(), collector(), new PassThrough()];
      const socket = await new PortForward(kubeConfig).portForward(
        namespace,
        "streams",
        [8080],
        answer.stream,
        errors.stream,
        request,
      );
      request.write("GET /echo?msg=forwarded HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
      await until("an answer", 10_000, async () => (answer.text().endsWith("forwarded") ? true : undefined));
      assert.equal(errors.text(), "");
      if (typeof socket !== "function") socket.close();
    }),
    check("files are copied in and out", async () => {
      const local = join(scene.cluster.directory, `copies-${namespace}`);
      await Promise.all([
        mkdir(join(local, "in"), { recursive: true }),
        mkdir(join(local, "out"), { recursive: true }),
      ]);
      const content = "line\n".repeat(50_000);
      await writeFile(join(local, "in", "file"), content);
      const cp = new Cp(kubeConfig);
      // It does not report when it is done.
      await cp.cpToPod(namespace, "streams", "main", join(local, "in"), "/tmp");
      const sum = async () => (await scene.exec("streams", "main", "wc", "-c", "/tmp/file")).stdout;
      await until("the file is there", 10_000, async () => ((await sum()).startsWith("250000 ") ? true : undefined));
      await cp.cpFromPod(namespace, "streams", "main", "file", join(local, "out"), "/tmp");
      await until("the file is back", 10_000, async () => {
        const back = await readFile(join(local, "out", "file"), "utf8").catch(() => "");
        return back === content ? true : undefined;
      });
    }),
    check("logs -f across rotations, no line lost or duplicated", () => followed(scene)),
  ]);
  await scene.remove("streams");
}

/** Writes several times containerLogMaxSize, at a pace that the kubelet's rotations can keep up with. */
async function followed(scene: Scene): Promise<void> {
  const lines = 2400;
  const script = `n=0; while [ $n -lt ${lines} ]; do echo "line $n of a log that is long enough to be rotated"; n=$((n + 1)); [ $((n % 20)) -eq 0 ] && sleep 0.1; done`;
  await scene.create("logged", { restartPolicy: "Never", containers: [shell("main", script)] });
  const pod = await scene.ready("logged");
  const log = collector();
  const ended = once(log.stream, "finish", { signal: AbortSignal.timeout(90_000) });
  await new Log(scene.cluster.kubeConfig).log(scene.namespace, "logged", "main", log.stream, { follow: true });
  await ended;
  const numbers = [...log.text().matchAll(/^line (\d+) /gm)].map(([, number]) => Number(number));
  assert.deepEqual(
    numbers,
    Array.from({ length: lines }, (_, number) => number),
  );
  const directory = join(
    scene.node.directory,
    "var/log/pods",
    `${scene.namespace}_logged_${pod.metadata?.uid}`,
    "main",
  );
  const files = await readdir(directory);
  assert.ok(files.length > 1, `never rotated: ${files}`);
  scene.say(`the log is spread over ${files.length} files`);
  await scene.remove("logged");
}
