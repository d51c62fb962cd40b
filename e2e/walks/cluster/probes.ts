// Probes of every kind and purpose, and lifecycle hooks.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { V1Container, V1Probe } from "@kubernetes/client-node";
import { agnhost, idle, isReady, type Scene, shell, statusOf } from "./scene.ts";

const often = { periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 1 };

export async function probes(scene: Scene): Promise<void> {
  const { check } = scene;
  await Promise.all([
    check("readiness by exec, HTTP, TCP and gRPC", async () => {
      const server = (name: string, port: number, probe: V1Probe): V1Container =>
        agnhost(name, ["netexec", `--http-port=${port}`, `--udp-port=${port + 1000}`], {
          readinessProbe: { ...often, ...probe },
        });
      await scene.create("ready", {
        containers: [
          shell("exec", `echo yes > /tmp/ready; ${idle}`, {
            readinessProbe: { ...often, exec: { command: ["test", "-e", "/tmp/ready"] } },
          }),
          server("http", 8081, { httpGet: { path: "/healthz", port: 8081 } }),
          server("tcp", 8082, { tcpSocket: { port: 8082 } }),
          agnhost("grpc", ["grpc-health-checking", "--port=5000", "--http-port=8083"], {
            readinessProbe: { ...often, grpc: { port: 5000 } },
          }),
        ],
      });
      await scene.ready("ready");
      await scene.exec("ready", "exec", "rm", "/tmp/ready");
      const pod = await scene.when("ready", "no longer ready", (found) => (isReady(found) ? undefined : found));
      assert.equal(statusOf(pod, "exec")?.ready, false);
      for (const name of ["http", "tcp", "grpc"]) assert.equal(statusOf(pod, name)?.ready, true, name);
      await scene.exec("ready", "exec", "touch", "/tmp/ready");
      await scene.ready("ready");
      await scene.remove("ready");
    }),
    check("a failing liveness probe of each kind restarts the container", async () => {
      const dead = (name: string, probe: V1Probe) => shell(name, idle, { livenessProbe: { ...often, ...probe } });
      const containers = [
        dead("exec", { exec: { command: ["false"] } }),
        dead("slow", { exec: { command: ["sleep", "60"] }, timeoutSeconds: 1 }),
        dead("http", { httpGet: { path: "/", port: 9 } }),
        dead("tcp", { tcpSocket: { port: 9 } }),
        dead("grpc", { grpc: { port: 9 } }),
      ];
      await scene.create("alive", { containers });
      await scene.when("alive", "each restarted", (pod) =>
        containers.every(({ name }) => (statusOf(pod, name)?.restartCount ?? 0) >= 1) ? true : undefined,
      );
      await scene.remove("alive");
    }),
    check("a startup probe delays the liveness probe", async () => {
      await scene.create("starting", {
        containers: [
          shell("main", `sleep 4; touch /tmp/up; ${idle}`, {
            startupProbe: { exec: { command: ["test", "-e", "/tmp/up"] }, periodSeconds: 1, failureThreshold: 60 },
            livenessProbe: { ...often, exec: { command: ["test", "-e", "/tmp/up"] } },
          }),
        ],
      });
      const pod = await scene.ready("starting");
      assert.equal(statusOf(pod, "main")?.started, true);
      assert.equal(statusOf(pod, "main")?.restartCount, 0);
      await scene.remove("starting");
    }),
    check("postStart and preStop hooks, and their output", async () => {
      const seen = join(scene.node.directory, `hooks-${scene.namespace}`);
      await scene.create("hooks", {
        terminationGracePeriodSeconds: 20,
        volumes: [{ name: "host", hostPath: { path: seen, type: "DirectoryOrCreate" } }],
        containers: [
          shell("main", `trap 'echo ended >> /host/order; exit 0' TERM; while true; do sleep 3600 & wait $!; done`, {
            volumeMounts: [{ name: "host", mountPath: "/host" }],
            lifecycle: {
              postStart: { exec: { command: ["sh", "-c", "echo started >> /host/order"] } },
              preStop: { exec: { command: ["sh", "-c", "sleep 1; echo stopping >> /host/order"] } },
            },
          }),
        ],
      });
      await scene.ready("hooks");
      await scene.remove("hooks");
      assert.equal(await readFile(join(seen, "order"), "utf8"), "started\nstopping\nended\n");
    }),
    check("a failing postStart hook kills the container", async () => {
      await scene.create("hook-fails", {
        restartPolicy: "Never",
        containers: [shell("main", "sleep 3600", { lifecycle: { postStart: { exec: { command: ["false"] } } } })],
      });
      assert.equal(await scene.ended("hook-fails"), "Failed");
    }),
  ]);
}
