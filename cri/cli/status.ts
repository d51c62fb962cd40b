// `keelson status`: what is running, in progress and left over, on one screen.

import type { keelson } from "../api/generated/messages.js";
import { connectDaemon } from "./daemon-client.ts";
import { columns, duration, json, type Output, size } from "./print.ts";

/** The text to print. Rejects with Unavailable if no daemon answers. */
export async function nodeStatus(socket: string, output: Output, signal: AbortSignal): Promise<string> {
  using daemon = connectDaemon(socket);
  const view = viewOf(socket, await daemon.status({}, signal));
  return output === "json" ? json(view) : screen(view);
}

function viewOf(socket: string, status: keelson.v1.NodeStatusResponse) {
  return {
    socket,
    version: status.version,
    upSeconds: Number(status.upSeconds),
    residentBytes: Number(status.residentBytes),
    networkProblem: status.networkProblem,
    sandboxes: { ready: status.sandboxesReady, notReady: status.sandboxesNotReady },
    containers: {
      created: status.containersCreated,
      running: status.containersRunning,
      exited: status.containersExited,
    },
    images: status.images,
    imageBytes: Number(status.imageBytes),
    containerBytes: Number(status.containerBytes),
    work: status.work.map(({ kind, what, milliseconds }) => ({
      kind: kind ?? "",
      what: what ?? "",
      seconds: Number(milliseconds ?? 0) / 1000,
    })),
    workTotal: status.workTotal,
    leftoversTotal: status.leftoversTotal,
    leftovers: status.leftovers.map(({ sandboxId, pod, problem }) => ({
      sandboxId: sandboxId ?? "",
      pod: pod ?? "",
      problem: problem ?? "",
    })),
  };
}

function screen(view: ReturnType<typeof viewOf>): string {
  const { sandboxes, containers, work, leftovers } = view;
  const facts = [
    ["keelson", `${view.version}, up ${duration(view.upSeconds)}, ${size(view.residentBytes)}, ${view.socket}`],
    ["network", view.networkProblem === "" ? "ready" : `not ready: ${view.networkProblem}`],
    ["pods", `${sandboxes.ready} ready, ${sandboxes.notReady} not ready`],
    ["containers", `${containers.running} running, ${containers.created} created, ${containers.exited} exited`],
    ["images", `${view.images}, ${size(view.imageBytes)}; writable layers ${size(view.containerBytes)}`],
    ["in progress", view.workTotal === 0 ? "nothing" : String(view.workTotal)],
    ["left over", view.leftoversTotal === 0 ? "nothing" : String(view.leftoversTotal)],
  ];
  const listed = work.map(({ kind, what, seconds }) => [`  ${duration(seconds)}`, kind, what]);
  const left = leftovers.map(({ sandboxId, pod, problem }) => [`  ${sandboxId.slice(0, 13)}`, pod, problem]);
  return [facts.slice(0, 6), listed, facts.slice(6), left]
    .filter((rows) => rows.length > 0)
    .map((rows) => columns(rows.length === 1 ? [[(rows[0]?.[0] ?? "").padEnd(11), ...(rows[0] ?? []).slice(1)]] : rows))
    .join("");
}
