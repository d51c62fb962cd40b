// A served API edge for tests: the real server and services on a separate socket, over pods provided by the test.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ImageStore } from "../../../image/types.ts";
import type { Pods } from "../../../pod/types.ts";
import { type GrpcServer, service, startGrpcServer } from "../grpc-server.ts";
import { imageService, keelsonImageService } from "../image-service.ts";
import { imageMethods, keelsonImageMethods, runtimeMethods } from "../methods.ts";
import { runtimeService } from "../runtime-service.ts";
import { connect, type TestClient } from "./client.ts";

export interface Edge extends AsyncDisposable {
  readonly socket: string;
  readonly client: TestClient;
  readonly server: GrpcServer;
  /** Every line logged so far. */
  readonly lines: { level: string; message: string; fields: Readonly<Record<string, unknown>> }[];
}

export async function serveEdge(pods: Pods, images: Partial<ImageStore> = {}): Promise<Edge> {
  const directory = await mkdtemp(join(tmpdir(), "keelson-cri-"));
  const socket = join(directory, "run/keelson.sock");
  const lines: Edge["lines"] = [];
  const network = { readiness: () => ({ ready: true }) as const, info: () => ({ name: "test" }) };
  const runtime = runtimeService({
    pods,
    network,
    version: "1.2.3",
    cgroupDriver: "systemd",
    config: { root: "/r" },
    streaming: { url: ({ kind }) => `http://127.0.0.1:1/${kind}/token` },
    cniFromPodCidr: false,
    cniConfDir: "/nonexistent",
    dataDir: "/nonexistent",
    now: () => 1n,
  });
  const store = Object.assign(Object.create(null), images);
  const server = await startGrpcServer(
    socket,
    [
      service("runtime.v1.RuntimeService", runtimeMethods, runtime, "1.2.3"),
      service("runtime.v1.ImageService", imageMethods, imageService(store), "1.2.3"),
      service("keelson.v1.Images", keelsonImageMethods, keelsonImageService(store), "1.2.3"),
    ],
    (level, message, fields = {}) => lines.push({ level, message, fields }),
  );
  const client = connect(socket);
  return {
    socket,
    client,
    server,
    lines,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.close(0);
      await rm(directory, { recursive: true });
    },
  };
}
