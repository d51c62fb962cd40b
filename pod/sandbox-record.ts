// Converts sandboxes and containers to records, and back.

import { join } from "node:path";
import { Container } from "./container.ts";
import type { RuntimeHandler } from "./handlers.ts";
import type { ContainerRecord, SandboxRecord } from "./records.ts";
import { Sandbox } from "./sandbox.ts";

export function sandboxRecord(sandbox: Sandbox): SandboxRecord {
  return {
    kind: "sandbox",
    id: sandbox.id,
    config: sandbox.config,
    handler: sandbox.handler.name,
    createdAt: sandbox.createdAt,
    life: sandbox.life,
    ips: sandbox.ips,
    monitorPid: sandbox.monitorPid,
    netnsPath: sandbox.netnsPath,
    cgroup: sandbox.cgroup,
    hostname: sandbox.hostname,
    ...(sandbox.labels === undefined ? {} : { labels: sandbox.labels }),
    resources: sandbox.resources,
    timeline: sandbox.timeline,
  };
}

export function containerRecord(container: Container): ContainerRecord {
  const { resources } = container.view();
  return {
    kind: "container",
    id: container.id,
    sandboxId: container.sandbox.id,
    config: container.config,
    createdAt: container.createdAt,
    imageId: container.imageId,
    shownImage: container.shownImage,
    user: container.user,
    stopSignal: container.stopSignal,
    ...(container.seccompFilter === undefined ? {} : { seccompFilter: container.seccompFilter }),
    phase: container.phase,
    removing: container.removing,
    ...(resources === undefined ? {} : { resources }),
  };
}

/** Its phase is still `starting`; recovery determines the actual one. */
export function sandboxFromRecord(record: SandboxRecord, handler: RuntimeHandler, runDirectory: string): Sandbox {
  const sandbox = new Sandbox({ ...record, handler, podDirectory: join(runDirectory, "pods", record.id) });
  sandbox.resources = record.resources;
  return sandbox;
}

export function containerFromRecord(record: ContainerRecord, sandbox: Sandbox): Container {
  const container = new Container(record, sandbox);
  container.setPhase(record.phase);
  container.removing = record.removing;
  if (record.resources !== undefined) container.setResources(record.resources);
  return container;
}
