// Prometheus metrics: measured and served.

import type { Log } from "../../native/index.ts";
import type { HostAndPort } from "../host-and-port.ts";
import { Figures, type Measured } from "./figures.ts";
import { serveMetrics } from "./http-server.ts";

export interface Metrics {
  readonly port: number;
  close(): void;
}

/** Starts measuring, and serves the metrics on HOST:PORT. Rejects with FailedPrecondition if it cannot listen there. */
export async function openMetrics(address: HostAndPort, measured: Measured, log: Log): Promise<Metrics> {
  const figures = new Figures(measured);
  try {
    const server = await serveMetrics(address, figures, log);
    return {
      port: server.port,
      close: () => {
        server.close();
        figures.close();
      },
    };
  } catch (error) {
    figures.close();
    throw error;
  }
}
