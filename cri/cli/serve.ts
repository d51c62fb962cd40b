// `keelson serve`: assembles the daemon.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openNetwork } from "../../cni/network.ts";
import { hostPlatform } from "../../image/platform.ts";
import { proxiesOf } from "../../image/proxy.ts";
import { openImageStore, storeDefaults } from "../../image/store.ts";
import {
  firstLine,
  giveBackWhenGrown,
  isDoneWithin,
  type Log,
  loadHost,
  nativePaths,
  settled,
  unpackLayer,
} from "../../native/index.ts";
import { chooseCgroupDriver, openPods } from "../../pod/index.ts";
import { service, startGrpcServer } from "../api/grpc-server.ts";
import { imageService, keelsonImageService } from "../api/image-service.ts";
import { imageMethods, keelsonImageMethods, keelsonNodeMethods, runtimeMethods } from "../api/methods.ts";
import { keelsonNodeService } from "../api/node-service.ts";
import { runtimeService } from "../api/runtime-service.ts";
import { criErrors } from "../errors.ts";
import { startStreamingServer } from "../streaming/http-server.ts";
import type { Config } from "./config.ts";
import { lockDirectory } from "./directory-lock.ts";
import { openFilesAtStart } from "./open-files.ts";
import type { ServiceManager } from "./service-manager.ts";
import type { WorkList } from "./work-list.ts";

/** How long in-flight calls may run after SIGTERM. Their progress is recorded, so the next daemon completes it. */
const graceMilliseconds = 700;
/** How long each part may take to close, and all of them together: the daemon exits within 2 s of SIGTERM. */
const closeMilliseconds = 1000;
const stopMilliseconds = 1700;

/**
 * Recovers running pods, serves until `stop` aborts, then closes its parts; pods keep running. Work that does not
 * finish in time ends when the caller exits the process, which holds the locks until then. Rejects with a KeelsonError
 * if a part cannot be opened, after closing the others.
 */
export async function serve(
  config: Config,
  version: string,
  log: Log,
  work: Pick<WorkList, "list" | "total">,
  manager: ServiceManager,
  stop: AbortSignal,
): Promise<void> {
  const started = performance.now();
  const inherited = manager.socket;
  if (inherited !== undefined && inherited.path !== config.socket) {
    throw criErrors.socketElsewhere({ inherited: inherited.path, configured: config.socket });
  }
  const paths = nativePaths();
  await using parts = new AsyncDisposableStack();
  const closing = (part: string, close: () => unknown) => parts.defer(() => bounded(part, close, log));

  const host = loadHost(paths);
  for (const directory of [config.root, config.state]) {
    await lockDirectory(host, directory);
  }

  const opened = async <Part extends { close(): unknown }>(name: string, opening: Promise<Part>): Promise<Part> => {
    const part = await opening;
    closing(name, () => part.close());
    return part;
  };
  const platform = hostPlatform(process.arch, await readFile("/proc/cpuinfo", "utf8"));
  const [images, network] = await settled([
    opened(
      "image store",
      openImageStore({
        ...storeDefaults,
        root: join(config.root, "image"),
        host,
        unpack: (options) => unpackLayer(paths.unpacker, options),
        hostsDirectory: config.registriesDir,
        proxyFor: proxiesOf(process.env),
        platform,
        now: Date.now,
        onProblem: (sentence) => log("warn", sentence),
      }),
    ),
    opened(
      "network",
      openNetwork({
        confDir: config.cniConfDir,
        binDirs: config.cniBinDirs,
        stateDir: config.root,
        runDir: config.state,
        host,
        log,
      }),
    ),
  ]);

  const cgroupDriver = await chooseCgroupDriver(config.cgroupDriver, config.cgroupRoot);
  const pods = await openPods({
    host,
    images,
    network,
    log,
    root: config.root,
    runDirectory: config.state,
    cgroupRoot: config.cgroupRoot,
    cgroupDriver,
    hostResolvConf: "/etc/resolv.conf",
    monitorPath: paths.monitor,
    ociHandlers: config.handlers,
    defaultHandler: config.defaultHandler,
    openFiles: await openFilesAtStart(process.env),
    clock: nanoseconds,
  });
  closing("pods", () => pods.close());

  const streaming = await startStreamingServer({
    pods,
    log,
    address: config.streamingAddress,
    port: config.streamingPort,
  });
  closing("streaming server", () => streaming.close());

  if (config.metricsAddress !== undefined) {
    // Imported here because its library takes memory that a daemon without metrics can save.
    const { openMetrics } = await import("../metrics/metrics.ts");
    const metrics = await openMetrics(config.metricsAddress, { pods, network, images, version }, log);
    closing("metrics", () => metrics.close());
    log("info", "serving metrics", { host: config.metricsAddress.host, port: metrics.port, path: "/metrics" });
  }

  const server = await startGrpcServer(
    inherited ?? config.socket,
    [
      service(
        "runtime.v1.RuntimeService",
        runtimeMethods,
        runtimeService({
          pods,
          network,
          streaming,
          version,
          cgroupDriver,
          config,
          cniFromPodCidr: config.cniFromPodCidr,
          cniConfDir: config.cniConfDir,
          dataDir: join(config.root, "host-local"),
          now: nanoseconds,
        }),
        version,
      ),
      service("runtime.v1.ImageService", imageMethods, imageService(images), version),
      service("keelson.v1.Images", keelsonImageMethods, keelsonImageService(images), version),
      service(
        "keelson.v1.Node",
        keelsonNodeMethods,
        keelsonNodeService({ pods, images, network, version, work }),
        version,
      ),
    ],
    log,
  );
  closing("server", () => server.close(graceMilliseconds));

  log("info", "serving", {
    version,
    socket: config.socket,
    pid: process.pid,
    sandboxes: pods.sandboxes({ labels: new Map() }).length,
    images: images.list().length,
    milliseconds: Math.round(performance.now() - started),
  });
  await manager.serving(`Serving ${config.socket}`);
  using _watchdog = manager.watch(config.socket);
  using _memory = giveBackWhenGrown(host);
  void pods.tidy();
  if (!stop.aborted) await once(stop, "abort");
  log("info", "stopping; pods keep running");
  void manager.stopping();
  const closed = parts.disposeAsync();
  if (!(await isDoneWithin(closed, stopMilliseconds))) log("warn", "stopping took too long and was interrupted");
}

/** Nanoseconds since the epoch, by the system clock. */
function nanoseconds(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

/** Closes a part; a failure or a timeout is only logged, so that the stop always completes. */
async function bounded(part: string, close: () => unknown, log: Log): Promise<void> {
  try {
    if (!(await isDoneWithin((async () => close())(), closeMilliseconds)))
      log("error", "closing took too long and was abandoned", { part });
  } catch (error) {
    log("error", "closing failed", { part, error: firstLine(error) });
  }
}
