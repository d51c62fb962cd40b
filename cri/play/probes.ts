// Probes of a running container: startup first, then liveness and readiness, each with its own period.
//
// Bounds: each attempt has its timeoutSeconds, enforced here as well as in the runtime.

import { connect } from "node:net";
import Long from "long";
import { Agent, request } from "undici";
import { messageOf, orAborted } from "../../native/index.ts";
import { formatHostAndPort } from "../host-and-port.ts";
import { type Cri, isDeadline, sentenceOf } from "./cri-client.ts";
import { type Environment, expand } from "./environment.ts";
import type { Container } from "./supported.ts";
import { sleep, timerMs } from "./wait.ts";

type Probe = NonNullable<Container["livenessProbe"]>;

/** Time in addition to timeoutSeconds for the runtime to report the timeout. */
const execMarginMs = 5_000;
const redirectLimit = 10;

export interface ProbeTarget {
  readonly container: Container;
  readonly containerId: string;
  readonly podIp: string;
  /** Literal values of env: a probe's command can refer to no other variables. */
  readonly environment: Environment;
}

export interface ProbeEvents {
  started(): void;
  ready(ready: boolean): void;
  failed(probe: string, answer: string): void;
}

/** Why a container must be stopped. */
export interface ProbeVerdict {
  readonly probe: "startup" | "liveness";
  readonly graceSeconds: number | undefined;
}

interface Answer {
  /** Undefined if the probe could not be run, which says nothing about the container. */
  readonly healthy: boolean | undefined;
  readonly detail: string;
}

/** Called when the container starts. Resolves when it must be stopped because of a probe; rejects when the signal aborts. */
export async function probe(
  cri: Pick<Cri, "execSync">,
  target: ProbeTarget,
  events: ProbeEvents,
  signal: AbortSignal,
): Promise<ProbeVerdict> {
  const { startupProbe, livenessProbe, readinessProbe } = target.container;
  const started = performance.now();
  const rounds = async (spec: Probe, name: string, onTurn: (healthy: boolean) => boolean) =>
    await askRepeatedly(spec, started, signal, onTurn, async () => {
      const answer = await ask(cri, spec, target, signal);
      if (!answer.healthy) events.failed(name, answer.detail);
      return answer;
    });
  const verdict = ({ terminationGracePeriodSeconds }: Probe, probe: ProbeVerdict["probe"]) => ({
    probe,
    graceSeconds: terminationGracePeriodSeconds,
  });
  if (startupProbe && !(await rounds(startupProbe, "startup", () => false))) return verdict(startupProbe, "startup");
  events.started();
  if (readinessProbe === undefined) events.ready(true);
  else
    rounds(readinessProbe, "readiness", (healthy) => {
      events.ready(healthy);
      return true;
    }).catch(() => undefined);
  if (livenessProbe === undefined) return await forever(signal);
  await rounds(livenessProbe, "liveness", (healthy) => healthy);
  return verdict(livenessProbe, "liveness");
}

async function forever(signal: AbortSignal): Promise<never> {
  return await orAborted(Promise.withResolvers<never>().promise, signal);
}

/**
 * Probes until `onTurn`, called after enough equal results in a row, returns false; returns the last state. The initial
 * delay counts from the container's start, as with a kubelet, and not from the end of the startup probe.
 */
async function askRepeatedly(
  { initialDelaySeconds = 0, periodSeconds = 10, successThreshold = 1, failureThreshold = 3 }: Probe,
  started: number,
  signal: AbortSignal,
  onTurn: (healthy: boolean) => boolean,
  question: () => Promise<Answer>,
): Promise<boolean> {
  await sleep(started + initialDelaySeconds * 1000 - performance.now(), signal);
  let last: boolean | undefined;
  let inARow = 0;
  for (;;) {
    const asked = performance.now();
    const { healthy } = await question();
    if (healthy !== undefined) {
      inARow = healthy === last ? inARow + 1 : 1;
      last = healthy;
      if (inARow >= (last ? successThreshold : failureThreshold) && !onTurn(last)) return last;
    }
    await sleep(asked + periodSeconds * 1000 - performance.now(), signal);
  }
}

async function ask(cri: Pick<Cri, "execSync">, spec: Probe, target: ProbeTarget, signal: AbortSignal): Promise<Answer> {
  const ms = (spec.timeoutSeconds ?? 1) * 1000;
  if (spec.exec) return await askExec(cri, spec.exec.command ?? [], target, ms, signal);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timerMs(ms))]);
  try {
    if (spec.httpGet) return await askHttp(spec.httpGet, target, limit);
    if (spec.tcpSocket)
      return await askTcp(spec.tcpSocket.host ?? target.podIp, portOf(spec.tcpSocket.port, target), limit);
    return { healthy: undefined, detail: "no handler" };
  } catch (error) {
    signal.throwIfAborted();
    return {
      healthy: false,
      detail: limit.aborted ? `no answer within ${ms / 1000} s` : messageOf(error),
    };
  }
}

async function askExec(
  cri: Pick<Cri, "execSync">,
  command: readonly string[],
  target: ProbeTarget,
  ms: number,
  signal: AbortSignal,
): Promise<Answer> {
  const cmd = command.map((word) => expand(word, target.environment));
  try {
    const { exitCode, stdout, stderr } = await cri.execSync(
      { containerId: target.containerId, cmd, timeout: Long.fromNumber(ms / 1000) },
      { ms: ms + execMarginMs, signal },
    );
    const output = Buffer.concat([stdout, stderr]).toString().trim().slice(0, 200);
    return { healthy: exitCode === 0, detail: `exit ${exitCode}${output === "" ? "" : `: ${output}`}` };
  } catch (error) {
    signal.throwIfAborted();
    if (isDeadline(error)) return { healthy: false, detail: `no answer within ${ms / 1000} s` };
    return { healthy: undefined, detail: sentenceOf(error) };
  }
}

type HttpGet = NonNullable<Probe["httpGet"]>;

/** Certificates are not verified. A redirect to another host counts as healthy and is not followed. */
async function askHttp(
  { host, path = "/", port, scheme = "HTTP", httpHeaders = [] }: HttpGet,
  target: ProbeTarget,
  signal: AbortSignal,
): Promise<Answer> {
  const authority = formatHostAndPort({ host: host ?? target.podIp, port: portOf(port, target) });
  await using dispatcher = closing(new Agent({ connect: { rejectUnauthorized: false } }));
  // Not resolved as a reference: //host/path would be on that host.
  let url = new URL(`${scheme.toLowerCase()}://${authority}${path.startsWith("/") ? "" : "/"}${path}`);
  // A repeated header name overrides the earlier one.
  const headers = Object.fromEntries(
    [{ name: "User-Agent", value: "kube-probe/keelson" }, { name: "Accept", value: "*/*" }, ...httpHeaders].map(
      (header) => [header.name.toLowerCase(), header.value],
    ),
  );
  for (let hops = 0; hops <= redirectLimit; hops++) {
    const {
      statusCode,
      headers: answered,
      body,
    } = await request(url, { headers, signal, dispatcher: dispatcher.agent });
    await body.dump({ limit: 10 << 10, signal });
    const { location } = answered;
    if (statusCode < 300 || statusCode >= 400 || typeof location !== "string")
      return { healthy: statusCode >= 200 && statusCode < 400, detail: `HTTP status ${statusCode}` };
    const next = new URL(location, url);
    if (next.hostname !== url.hostname) return { healthy: true, detail: `redirect to ${next.hostname}` };
    url = next;
  }
  return { healthy: false, detail: `more than ${redirectLimit} redirects` };
}

function closing(agent: Agent): AsyncDisposable & { readonly agent: Agent } {
  return { agent, [Symbol.asyncDispose]: async () => await agent.destroy() };
}

async function askTcp(host: string, port: number, signal: AbortSignal): Promise<Answer> {
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host, port, signal }, () => {
      socket.destroy();
      resolve();
    }).on("error", reject);
  });
  return { healthy: true, detail: "connected" };
}

function portOf(port: number | string, { container }: ProbeTarget): number {
  if (typeof port === "number") return port;
  return container.ports?.find(({ name }) => name === port)?.containerPort ?? Number(port);
}
