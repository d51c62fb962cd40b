// Prometheus metrics: measured and served.

import type { Log } from "../../native/index.ts";
import type { HostAndPort } from "../host-and-port.ts";
import { serveMetrics } from "./http-server.ts";
import { type Measured, MetricsRegistry } from "./metrics-registry.ts";

export interface Metrics {
  readonly port: number;
  close(): void;
}

/** Starts measuring, and serves the metrics on HOST:PORT. Rejects with FailedPrecondition if it cannot listen there. */
export async function openMetrics(address: HostAndPort, measured: Measured, log: Log): Promise<Metrics> {
  const registry = new MetricsRegistry(measured);
  try {
    const server = await serveMetrics(address, registry, log);
    return {
      port: server.port,
      close: () => {
        server.close();
        registry.close();
      },
    };
  } catch (error) {
    registry.close();
    throw error;
  }
}
