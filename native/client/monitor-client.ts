// The daemon's client for a pod's monitor: implements each call in PROTOCOL.md.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Monitor } from "./monitor.ts";
import { ask } from "./monitor-call.ts";
import { MonitorConnections } from "./monitor-connection.ts";
import { execSync } from "./monitor-exec-sync.ts";
import { execMessage, parseExited, parseHello, parseRun, parseState, startMessage } from "./monitor-messages.ts";
import { openPort, openSession } from "./monitor-session.ts";
import { watch } from "./monitor-watch.ts";

/** The monitor whose socket is in this directory (absolute, any length). Connects when a call is made. */
export function connectMonitor(podDirectory: string): Monitor {
  const connections = new MonitorConnections(podDirectory);
  const nothing = () => undefined;
  return {
    hello: (deadline) => ask(connections, { op: "hello" }, deadline, parseHello),
    state: (deadline) => ask(connections, { op: "state" }, deadline, parseState),
    start: (request, deadline) => ask(connections, startMessage(request), deadline, parseRun),
    stop: (id, signal, timeoutMs, deadline) =>
      ask(connections, { op: "stop", id, signal, timeout_ms: timeoutMs }, deadline, parseExited),
    kill: (id, signal, deadline) => ask(connections, { op: "kill", id, signal }, deadline, nothing),
    delete: (id, deadline) => ask(connections, { op: "delete", id }, deadline, nothing),
    exec: (request, deadline) => openSession(connections, execMessage(request), request.stdin, deadline),
    execSync: (request, deadline) => execSync(connections, request, deadline),
    attach: (id, stdin, deadline) => openSession(connections, { op: "attach", id, stdin }, stdin, deadline),
    reopenLog: (id, deadline) => ask(connections, { op: "reopen_log", id }, deadline, nothing),
    setNetworkSysctls: (sysctls, deadline) => ask(connections, { op: "network_sysctls", sysctls }, deadline, nothing),
    update: (id, resources, deadline) => ask(connections, { op: "update", id, resources }, deadline, nothing),
    portForward: (port, deadline) => openPort(connections, { op: "port_forward", port }, deadline),
    watch: (signal) => watch(connections, signal),
    shutdown: (graceMs, deadline) => ask(connections, { op: "shutdown", grace_ms: graceMs }, deadline, nothing),
  };
}

/** Whether the monitor sets a missing HOME to the user's; a monitor from before an upgrade may not. */
export function findsHome(podDirectory: string): boolean {
  return existsSync(join(podDirectory, "finds-home"));
}
