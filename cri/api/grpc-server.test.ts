// The gRPC server: all RPCs registered, error codes and messages, limits, deadlines, streams, the log, the stop.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectSocket } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { KeelsonError } from "../../native/index.ts";
import { withItsServers } from "../../native/testing/servers.ts";
import { EventHub } from "../../pod/events.ts";
import { podErrors } from "../../pod/index.ts";
import type { PodEvent } from "../../pod/types.ts";
import { failure } from "./testing/client.ts";
import { serveEdge } from "./testing/edge.ts";
import { memoryPods } from "./testing/memory-pods.ts";
import { sandboxConfig } from "./testing/requests.ts";

const working = new Set(
  [
    "Version, Status, RuntimeConfig, RunPodSandbox, StopPodSandbox, RemovePodSandbox, PodSandboxStatus, ListPodSandbox",
    "CreateContainer, StartContainer, StopContainer, RemoveContainer, ContainerStatus, ListContainers, ExecSync",
    "ReopenContainerLog, ContainerStats, ListContainerStats, PodSandboxStats, ListPodSandboxStats, GetContainerEvents",
    "StreamPodSandboxes, StreamContainers, StreamContainerStats, StreamPodSandboxStats, StreamImages",
    "Exec, Attach, PortForward, CheckpointContainer",
    "ListMetricDescriptors, ListPodSandboxMetrics, StreamPodSandboxMetrics",
    "UpdateContainerResources, UpdatePodSandboxResources, UpdateRuntimeConfig",
    "ListImages, ImageStatus, PullImage, RemoveImage, ImageFsInfo",
  ].flatMap((line) => line.split(", ")),
);

test("every RPC of CRI is implemented or returns Unimplemented", async () => {
  await using edge = await serveEdge(memoryPods());
  const rpcs = readFileSync(join(import.meta.dirname, "testdata/cri-v1.tsv"), "utf8")
    .split("\n")
    .map((line) => line.split("\t"))
    .filter(([kind]) => kind === "rpc");
  expect(rpcs).toHaveLength(43);
  for (const [, service, name = ""] of rpcs) {
    const answer = await edge.client.callBytes(`/runtime.v1.${service}/${name}`, new Uint8Array()).then(
      () => undefined,
      (error) => error,
    );
    if (working.has(name)) expect(answer?.details ?? "", name).not.toContain("implement");
    else expect(answer?.details, name).toContain(`Keelson 1.2.3 does not implement ${name}.`);
  }
  // Malformed paths must not reach an implementation (CVE-2026-33186 in grpc-go).
  for (const path of ["runtime.v1.RuntimeService/Version", "//runtime.v1.RuntimeService/Version", "/Version"]) {
    await failure(edge.client.callBytes(path, new Uint8Array()));
  }
  expect(edge.lines).toHaveLength(43);
});

test("a client that connected before a stop can still send its call during the stop, and is answered", async () => {
  await using edge = await serveEdge(memoryPods());
  const socket = connectSocket(edge.socket);
  await once(socket, "connect");
  const closed = edge.server.close(1000);
  await sleep(10);
  const session = connectHttp2("http://keelson", { createConnection: () => socket });
  const call = session.request({
    ":method": "POST",
    ":path": "/runtime.v1.RuntimeService/Version",
    "content-type": "application/grpc",
    te: "trailers",
  });
  call.end(Buffer.alloc(5));
  call.resume();
  const [trailers] = await once(call, "trailers");
  expect(trailers).toMatchObject({ "grpc-status": "0" });
  session.close();
  await closed;
});

test("only root and its group may use the socket", async () => {
  await using edge = await serveEdge(memoryPods());
  const socket = await stat(edge.socket);
  expect((socket.mode & 0o7777).toString(8)).toBe("660");
  expect([socket.uid, socket.gid]).toEqual([0, 0]);
  expect(((await stat(dirname(edge.socket))).mode & 0o777).toString(8)).toBe("711");
});

test("catalogue errors keep their code and sentence, others become Internal with their stack in the log alone", async () => {
  const pods = memoryPods({
    startContainer: async (id) => {
      throw podErrors.containerNotFound({ id });
    },
    stopContainer: async () => {
      throw new TypeError("cannot read\nsecond line");
    },
    removeContainer: async (id) => {
      throw new KeelsonError("long", "NotFound", `\ud800${id}${"😀".repeat(50_000)}`);
    },
  });
  await using edge = await serveEdge(pods);
  const known = await failure(edge.client.call("StartContainer", { containerId: "abc" }));
  expect(known.code).toBe(status.NOT_FOUND);
  expect(known.details).toContain("Container abc does not exist. List the containers");
  const unknown = await failure(edge.client.call("StopContainer", { containerId: "abc" }));
  expect(unknown.code).toBe(status.INTERNAL);
  expect(unknown.details).toContain("StopContainer failed with an unexpected error: cannot read.");
  expect(unknown.details).not.toMatch(/second line|at .*\.ts/);
  expect(edge.lines.at(-1)).toMatchObject({
    level: "error",
    fields: {
      method: "StopContainer",
      container: "abc",
      code: "Internal",
      stack: expect.stringContaining("server.test.ts"),
    },
  });
  // Neither a lone surrogate nor a long message may break the trailers, wherever the message is truncated.
  for (const containerId of ["abc", "abcd"]) {
    const { code, details } = await failure(edge.client.call("RemoveContainer", { containerId }));
    expect(code).toBe(status.NOT_FOUND);
    expect(details.length).toBeLessThan(4200);
  }
});

test("bytes that are not a CRI message are an InvalidArgument", async () => {
  await using edge = await serveEdge(memoryPods());
  const cut = await failure(
    edge.client.callBytes("/runtime.v1.RuntimeService/RunPodSandbox", Buffer.from([10, 200, 1])),
  );
  expect(cut.code).toBe(status.INVALID_ARGUMENT);
  expect(cut.details).toContain("The request of RunPodSandbox is not a valid protobuf message");
  const notUtf8 = Buffer.from([10, 1, 0xff]);
  expect((await failure(edge.client.callBytes("/runtime.v1.RuntimeService/StopPodSandbox", notUtf8))).code).toBe(
    status.INVALID_ARGUMENT,
  );
});

test("messages are limited to 16 MiB in both directions", async () => {
  const pods = memoryPods({
    execSync: async (_id, [size = "0"]) => ({
      stdout: Buffer.alloc(Number(size)),
      stderr: Buffer.alloc(0),
      exitCode: 0,
    }),
  });
  await using edge = await serveEdge(pods);
  const large = 16 * 1024 * 1024;
  const fits = await edge.client.call("ExecSync", { containerId: "a", cmd: [String(large - 100)] });
  expect(fits).toMatchObject({ stdout: { length: large - 100 } });
  const answer = await failure(edge.client.call("ExecSync", { containerId: "a", cmd: [String(large)] }));
  expect(answer.code).toBe(status.RESOURCE_EXHAUSTED);
  expect(answer.details).toContain("The response to ExecSync is 167772");
  const request = await failure(edge.client.call("ExecSync", { containerId: "a", cmd: ["x".repeat(large)] }));
  expect(request.code).toBe(status.RESOURCE_EXHAUSTED);
});

test("a client's deadline and its cancellation abort the implementation, each with its own code", async () => {
  const reasons: string[] = [];
  const pods = memoryPods({
    execSync: (_id, _command, _timeout, { signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          reasons.push(signal.reason.code);
          reject(new DOMException("aborted", "AbortError"));
        });
      }),
  });
  await using edge = await serveEdge(pods);
  const request = { containerId: "a", cmd: ["sleep"] };
  const late = await failure(edge.client.call("ExecSync", request, { deadline: Date.now() + 100 }));
  expect(late.code).toBe(status.DEADLINE_EXCEEDED);
  await until(() => edge.server.callsInFlight() === 0);
  const caller = new AbortController();
  const call = failure(edge.client.call("ExecSync", request, { signal: caller.signal }));
  await until(() => edge.server.callsInFlight() === 1);
  caller.abort();
  expect((await call).code).toBe(status.CANCELLED);
  await until(() => reasons.length === 2);
  expect(reasons).toEqual(["DeadlineExceeded", "Cancelled"]);
  await until(() => edge.lines.length === 2);
  expect(edge.lines.map(({ fields }) => fields.code)).toEqual(reasons);
});

test("a deadline beyond the longest timer does not end the call", async () => {
  const pods = memoryPods({ stopContainer: async (_id, _timeout, signal) => await sleep(50, undefined, { signal }) });
  await using edge = await serveEdge(pods);
  // A kubelet's deadline with a terminationGracePeriodSeconds of a year, and the longest in gRPC: 99,999,999 h.
  for (const days of [25, 365, 4_166_666]) {
    const deadline = Date.now() + days * 24 * 3600 * 1000;
    await edge.client.call("StopContainer", { containerId: "a" }, { deadline });
  }
});

test("each call is logged as one line: method, subject, duration, code", async () => {
  await using edge = await serveEdge(memoryPods());
  const { podSandboxId } = await edge.client.call("RunPodSandbox", { config: sandboxConfig() });
  await failure(edge.client.call("StopPodSandbox", {}));
  expect(edge.lines).toHaveLength(2);
  expect(edge.lines[0]).toEqual({
    level: "info",
    message: "call",
    fields: { method: "RunPodSandbox", sandbox: podSandboxId, milliseconds: expect.any(Number), code: "OK" },
  });
  expect(edge.lines[1]?.fields).toMatchObject({
    method: "StopPodSandbox",
    code: "InvalidArgument",
    error: "pod_sandbox_id is missing. Set it to a sandbox's id.",
  });
});

test("accept errors do not stop the server, and are logged once a minute", async () => {
  const [edge, servers] = await withItsServers(() => serveEdge(memoryPods()));
  await using _ = edge;
  expect(servers).toHaveLength(1);
  for (let n = 0; n < 3; n += 1) servers[0]?.emit("error", new Error("accept ENFILE"));
  await edge.client.call("Version", {});
  const said = {
    level: "warn",
    message: "the CRI server could not accept a connection",
    fields: { error: "accept ENFILE" },
  };
  expect(edge.lines.filter(({ level }) => level === "warn")).toEqual([said]);
});

test("a stalled reader applies backpressure to the events, and its disconnect ends them", async () => {
  let sent = 0;
  let ended = false;
  const pods = memoryPods({
    async *events() {
      try {
        for (;;) {
          sent += 1;
          yield eventOf("x".repeat(64 * 1024));
          await sleep(0);
        }
      } finally {
        ended = true;
      }
    },
  });
  await using edge = await serveEdge(pods);
  const reader = new AbortController();
  const events = edge.client.stream("GetContainerEvents", {}, reader.signal)[Symbol.asyncIterator]();
  await events.next();
  // HTTP/2 windows and stream buffers are some hundred KiB, which may fill slowly on a busy machine. Without
  // backpressure everything is sent within one or two turns of the event loop.
  let held = 0;
  while (sent !== held) {
    held = sent;
    expect(held).toBeLessThan(200);
    for (let turn = 0; turn < 300; turn += 1) await sleep(0);
  }
  reader.abort();
  const rest = async () => {
    while (!(await events.next()).done);
  };
  expect((await failure(rest())).code).toBe(status.CANCELLED);
  await until(() => ended);
  await until(() => edge.lines.length === 1);
  expect(edge.lines[0]?.fields).toMatchObject({ method: "GetContainerEvents", code: "Cancelled" });
});

test("a stream of events that is never read ends with ResourceExhausted, after a complete first part", async () => {
  const hub = new EventHub();
  await using edge = await serveEdge(memoryPods({ events: (signal, end) => hub.subscribe(signal, end) }));
  const events = edge.client.stream("GetContainerEvents", {}, new AbortController().signal)[Symbol.asyncIterator]();
  const first = events.next();
  await until(() => edge.server.callsInFlight() === 1);
  for (let n = 0; n < 12_000; n += 1) {
    hub.publish(eventOf(`${n} ${"x".repeat(2000)}`));
    if (n % 10 === 0) await sleep(0);
  }
  const got = [await first];
  const rest = async () => {
    for (;;) got.push(await events.next());
  };
  expect(await failure(rest())).toEqual({
    code: status.RESOURCE_EXHAUSTED,
    details: expect.stringContaining("10000 events behind"),
  });
  expect(got.length).toBeLessThan(1400);
  expect(got.map(({ value }) => parseInt(String(value?.containerId), 10))).toEqual([...got.keys()]);
  expect(edge.server.callsInFlight()).toBe(0);
});

test("a reader that keeps up gets all events", async () => {
  const hub = new EventHub();
  await using edge = await serveEdge(memoryPods({ events: (signal, end) => hub.subscribe(signal, end) }));
  const events = edge.client.stream("GetContainerEvents", {}, new AbortController().signal)[Symbol.asyncIterator]();
  const ids = async () => {
    const got: string[] = [];
    while (got.length < 2400) got.push(String((await events.next()).value?.containerId));
    return got;
  };
  const read = ids();
  await until(() => edge.server.callsInFlight() === 1);
  for (let n = 0; n < 2400; n += 1) {
    hub.publish(eventOf(String(n)));
    await sleep(0);
  }
  expect(await read).toEqual(Array.from({ length: 2400 }, (_, n) => String(n)));
});

test("a reader gets all events of a burst, as when hundreds of pods start at once", async () => {
  const hub = new EventHub();
  await using edge = await serveEdge(memoryPods({ events: (signal, end) => hub.subscribe(signal, end) }));
  const events = edge.client.stream("GetContainerEvents", {}, new AbortController().signal)[Symbol.asyncIterator]();
  const first = events.next();
  await until(() => edge.server.callsInFlight() === 1);
  for (let n = 0; n < 5000; n += 1) hub.publish(eventOf(String(n)));
  const got = [String((await first).value?.containerId)];
  while (got.length < 5000) got.push(String((await events.next()).value?.containerId));
  expect(got).toEqual(Array.from({ length: 5000 }, (_, n) => String(n)));
});

test("calls that change state are logged at info, reads at debug, failures at info or above", async () => {
  await using edge = await serveEdge(memoryPods());
  const { podSandboxId } = await edge.client.call("RunPodSandbox", { config: sandboxConfig() });
  await edge.client.call("PodSandboxStatus", { podSandboxId });
  await all(edge.client.stream("StreamPodSandboxes", {}, new AbortController().signal));
  await failure(edge.client.call("PodSandboxStatus", { podSandboxId: "unknown" }));
  await until(() => edge.lines.length === 4);
  expect(edge.lines.map(({ level, fields }) => [fields.method, level])).toEqual([
    ["RunPodSandbox", "info"],
    ["PodSandboxStatus", "debug"],
    ["StreamPodSandboxes", "debug"],
    ["PodSandboxStatus", "info"],
  ]);
});

test("events arrive complete and in order", async () => {
  const pods = memoryPods({
    async *events() {
      yield { ...eventOf("a"), type: "created" };
      yield { ...eventOf("a"), type: "deleted" };
      yield { ...eventOf("a"), type: "confirmed" };
    },
  });
  await using edge = await serveEdge(pods);
  const events = await all(edge.client.stream("GetContainerEvents", {}, new AbortController().signal));
  expect(events).toMatchObject([
    { containerId: "a", containerEventType: "CONTAINER_CREATED_EVENT", createdAt: "1795223900123456789" },
    { containerId: "a", containerEventType: "CONTAINER_DELETED_EVENT" },
    // From this event a kubelet takes only the statuses.
    { containerId: "a", containerEventType: "CONTAINER_CREATED_EVENT" },
  ]);
});

test("a stop ends streams at once, lets calls finish within the grace period, and removes the socket", async () => {
  const quickly = Promise.withResolvers<void>();
  const pods = memoryPods({
    startContainer: () => quickly.promise,
    stopContainer: (_id, _timeout, signal) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    async *events(signal) {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
  });
  await using edge = await serveEdge(pods);
  const quick = edge.client.call("StartContainer", { containerId: "a" });
  const endless = failure(edge.client.call("StopContainer", { containerId: "a" }));
  const stream = failure(all(edge.client.stream("GetContainerEvents", {}, new AbortController().signal)));
  await until(() => edge.server.callsInFlight() === 3);
  const stopping = Date.now();
  const closed = edge.server.close(2000);
  // While calls are in progress.
  expect((await stream).code).toBe(status.UNAVAILABLE);
  quickly.resolve();
  await quick;
  const ended = await endless;
  expect(ended).toEqual({
    code: status.UNAVAILABLE,
    details: expect.stringContaining("Keelson is stopping, so StopContainer was interrupted."),
  });
  await closed;
  expect(Date.now() - stopping).toBeLessThan(4000);
  await expect(stat(edge.socket)).rejects.toMatchObject({ code: "ENOENT" });
});

function eventOf(containerId: string): PodEvent {
  return { containerId, type: "started", createdAt: 1_795_223_900_123_456_789n, containers: [] };
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${condition} was not met within 5 s`);
    await sleep(5);
  }
}
