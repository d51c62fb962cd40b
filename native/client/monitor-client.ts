// The client of a pod's monitor: each call of PROTOCOL.md from the daemon's side.

import type { Monitor } from "./monitor.ts";
import { ask } from "./monitor-call.ts";
import { execSync } from "./monitor-exec-sync.ts";
import { execMessage, parseExited, parseHello, parseRun, parseState, startMessage } from "./monitor-messages.ts";
import { openPort, openSession } from "./monitor-session.ts";
import { watch } from "./monitor-watch.ts";

/** The monitor whose socket stands in this directory (absolute, any length). Connects at each call only. */
export function connectMonitor(podDirectory: string): Monitor {
  const nothing = () => undefined;
  return {
    hello: (deadline) => ask(podDirectory, { op: "hello" }, deadline, parseHello),
    state: (deadline) => ask(podDirectory, { op: "state" }, deadline, parseState),
    start: (request, deadline) => ask(podDirectory, startMessage(request), deadline, parseRun),
    stop: (id, signal, timeoutMs, deadline) =>
      ask(podDirectory, { op: "stop", id, signal, timeout_ms: timeoutMs }, deadline, parseExited),
    kill: (id, signal, deadline) => ask(podDirectory, { op: "kill", id, signal }, deadline, nothing),
    delete: (id, deadline) => ask(podDirectory, { op: "delete", id }, deadline, nothing),
    exec: (request, deadline) => openSession(podDirectory, execMessage(request), request.stdin, deadline),
    execSync: (request, deadline) => execSync(podDirectory, request, deadline),
    attach: (id, stdin, deadline) => openSession(podDirectory, { op: "attach", id, stdin }, stdin, deadline),
    resize: (id, columns, rows, deadline) => ask(podDirectory, { op: "resize", id, columns, rows }, deadline, nothing),
    reopenLog: (id, deadline) => ask(podDirectory, { op: "reopen_log", id }, deadline, nothing),
    update: (id, resources, deadline) => ask(podDirectory, { op: "update", id, resources }, deadline, nothing),
    portForward: (port, deadline) => openPort(podDirectory, { op: "port_forward", port }, deadline),
    watch: (signal) => watch(podDirectory, signal),
    shutdown: (graceMs, deadline) => ask(podDirectory, { op: "shutdown", grace_ms: graceMs }, deadline, nothing),
  };
}
