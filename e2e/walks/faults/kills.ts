// Kills of the daemon and of monitors at random moments under load; after each start, the clients' ledger, the daemon's
// answers and the host are compared.

import { watch } from "node:fs";
import { copyFile, mkdir, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { busyboxLayer, makeImage, makeLayer, makeTar } from "../../../image/testing/build-image.ts";
import { startWrongRegistry } from "../../../image/testing/wrong-registry.ts";
import { type CriClient, connectCri } from "../../fixtures/client.ts";
import { placesOf, viewHost } from "../../fixtures/host-view.ts";
import { startNode, type TestNode } from "../../fixtures/node.ts";
import { until } from "../../fixtures/steps.ts";
import { startWildNode, type WildPlugins } from "../../fixtures/wild-plugin.ts";
import { type Environment, Gate, workOnImages, workOnPods } from "./clients.ts";
import { disagreements } from "./host-check.ts";
import { askAll, brokenPromises, type Ledger, leftovers } from "./ledger.ts";
import { type Random, seeded } from "./random.ts";

export interface KillRun {
  readonly seed: number;
  readonly kills: number;
  readonly monitorKills: number;
  /** Plugins fail or hang at random. */
  readonly wildNetwork: boolean;
  readonly say: (line: string) => void;
  /** Ends the run early, and counts as a failure. */
  readonly signal: AbortSignal;
}

/** Clients with a pod each. */
const podClients = 6;
const images = 4;
/** Maximum number of answers between two kills, and the longest time to wait for them. */
const longestLoad = 60;
const longestLoadMs = 4_000;
/** How long background cleanup may take after a start, on a busy machine. */
const settleMs = 20_000;
/** The daemon must serve first and clean up in the background. */
const startLimitMs = 10_000;
/** A run ends after this many failures. */
const wrongLimit = 25;

export async function killRun(run: KillRun): Promise<readonly string[]> {
  await using undo = new AsyncDisposableStack();
  const { node, plugins } = run.wildNetwork ? await startWildNode() : { node: await startNode(), plugins: undefined };
  undo.defer(() => node.close());
  // Closing the node must not run into a hanging plugin.
  undo.defer(async () => await plugins?.be("calm"));
  const registry = await startWrongRegistry();
  undo.defer(() => registry.stop());
  const references: string[] = [];
  const base = await busyboxLayer();
  for (let index = 0; index < images; index += 1) {
    const content = makeLayer(makeTar([{ name: `own-${index}`, content: Buffer.alloc(200_000, index) }]));
    registry.add(makeImage({ layers: [base, content], comment: String(index) }), String(index));
    references.push(`${registry.address}/load/image:${index}`);
  }
  await mkdir(placesOf(node.directory).pods, { recursive: true });
  const killer = new Killer(run, node, plugins);
  undo.defer(() => killer.close());
  return await killer.run(references);
}

class Killer {
  readonly #run: KillRun;
  readonly #node: TestNode;
  readonly #plugins: WildPlugins | undefined;
  readonly #random: Random;
  readonly #ledger: Ledger = { pods: new Set(), images: new Map() };
  readonly #wrong: string[] = [];
  readonly #gate = new Gate();
  readonly #everSeen = new Set<string>();
  readonly #watcher;
  readonly #answered = new Map<string, number>();
  readonly #bridge: string;
  #client: CriClient;
  #kills = 0;
  #killsInStart = 0;
  #monitorKills = 0;
  #round = 0;
  #longestStart = 0;
  /** Milliseconds; kills during a start are spread over this time. */
  #lastStart = 700;
  #longestSettling = 0;

  constructor(run: KillRun, node: TestNode, plugins: WildPlugins | undefined) {
    this.#run = run;
    this.#node = node;
    this.#plugins = plugins;
    this.#random = seeded(run.seed);
    this.#client = connectCri(node.daemon.socket);
    this.#bridge = node.bridge;
    this.#watcher = watch(placesOf(node.directory).pods, (_, name) => name !== null && this.#everSeen.add(name));
  }

  close(): void {
    this.#gate.end();
    this.#watcher.close();
    this.#client.close();
  }

  async run(references: readonly string[]): Promise<readonly string[]> {
    const { say, signal } = this.#run;
    const env: Environment = {
      ledger: this.#ledger,
      client: () => this.#client,
      image: this.#node.image,
      podConfig: this.#node.podConfig,
      gate: this.#gate,
      wrong: (sentence) => this.#report(sentence),
      wildNetwork: this.#run.wildNetwork,
      answered: this.#answered,
    };
    this.#gate.shut();
    const working = new Set<Promise<void>>();
    const idle = this.#countIdle(env);
    for (let index = 0; index < podClients; index += 1)
      working.add(workOnPods(idle.of(env), this.#random.fork(), `pod${index}`));
    working.add(workOnImages(idle.of(env), this.#random.fork(), references));

    while (this.#isUnfinished()) {
      this.#round += 1;
      await this.#plugins?.be({ failPercent: 12, hangPercent: 6 });
      this.#gate.open();
      await this.#load(this.#random.between(0, longestLoad));
      await this.#killSome();
      this.#gate.shut();
      await idle.all(working.size);
      await this.#restart();
      await this.#compare();
      if (this.#round % 20 === 0) say(this.#progress());
    }
    if (signal.aborted) this.#report(String(signal.reason));
    this.#gate.end();
    await Promise.all(working);
    say(this.#progress());
    say(`      answered: ${[...this.#answered].map(([name, count]) => `${name} ${count}`).join(", ")}`);
    await this.#endAll();
    if (this.#wrong.length > 0) await this.#keepLog();
    return this.#wrong;
  }

  #isUnfinished(): boolean {
    const { kills, monitorKills, signal } = this.#run;
    const due = this.#kills < kills || this.#monitorKills < monitorKills;
    return due && this.#wrong.length < wrongLimit && !signal.aborted;
  }

  /** Lets the clients work until they got this many answers, so that slow and fast machines test the same amount. */
  async #load(answers: number): Promise<void> {
    const count = () => [...this.#answered.values()].reduce((sum, number) => sum + number, 0);
    const [wanted, end] = [count() + answers, performance.now() + longestLoadMs];
    while (count() < wanted && performance.now() < end) await delay(5);
    // Kill at any point within a call, not only at its end.
    await delay(this.#random.between(0, 60));
  }

  /** Kills the daemon, and monitors before it, after it or not at all. */
  async #killSome(): Promise<void> {
    const due = this.#monitorKills < this.#run.monitorKills;
    const victims = due ? this.#random.between(0, 2) : 0;
    const before = this.#random.chance(50);
    if (before) for (let index = 0; index < victims; index += 1) await this.#killMonitor();
    if (before && victims > 0) await delay(this.#random.between(0, 30));
    await this.#node.daemon.kill();
    this.#kills += 1;
    if (!before) for (let index = 0; index < victims; index += 1) await this.#killMonitor();
  }

  async #killMonitor(): Promise<void> {
    const { monitors } = await viewHost(this.#node, this.#bridge, this.#everSeen);
    // This includes monitors whose pod no client knows yet.
    const [pod, pids] = this.#random.pick([...monitors]) ?? [];
    if (pod === undefined || pids === undefined) return;
    for (const known of this.#ledger.pods) if (known.id === pod || known.id === "") known.monitorKilled = true;
    for (const pid of pids) {
      const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      if (!commandLine.includes(`/${pod}`)) continue;
      try {
        process.kill(pid, "SIGKILL");
        this.#monitorKills += 1;
      } catch (error) {
        // A stop in progress may just have ended it.
        if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
      }
    }
  }

  /** Starts the daemon, often after killing it during one or more starts. */
  async #restart(): Promise<void> {
    while (this.#random.chance(50)) {
      this.#node.daemon.launch();
      await delay(this.#random.between(0, Math.ceil(this.#lastStart)));
      await this.#node.daemon.kill();
      this.#kills += 1;
      this.#killsInStart += 1;
    }
    const begin = performance.now();
    try {
      await this.#node.daemon.start(startLimitMs);
      this.#lastStart = performance.now() - begin;
      this.#longestStart = Math.max(this.#longestStart, this.#lastStart);
    } catch (error) {
      this.#report(
        `the daemon does not start: ${error instanceof Error ? error.message.slice(0, 1500) : String(error)}`,
      );
      await this.#plugins?.be("calm");
      await this.#node.daemon.start(120_000);
    }
    this.#client.close();
    this.#client = connectCri(this.#node.daemon.socket);
  }

  /** Acknowledged state must be correct immediately; the cleanup of the host may take a while. */
  async #compare(): Promise<void> {
    await this.#plugins?.be("calm");
    const { directory, daemon } = this.#node;
    for (const pod of (await askAll(this.#client)).pods.keys()) this.#everSeen.add(pod);
    const begin = performance.now();
    const first = brokenPromises(this.#ledger, await askAll(this.#client));
    let wrong = [...first];
    do {
      if (wrong.length > 0) await delay(200);
      const answers = await askAll(this.#client);
      const host = await viewHost(this.#node, this.#bridge, this.#everSeen);
      const again = brokenPromises(this.#ledger, answers);
      const stale = await disagreements(directory, answers, host, daemon.pid);
      // A pod whose monitor was killed may still be ready for a moment; acknowledged objects must never be missing.
      wrong = [...again, ...leftovers(this.#ledger, answers), ...stale];
    } while (wrong.length > 0 && performance.now() - begin < settleMs);
    this.#longestSettling = Math.max(this.#longestSettling, performance.now() - begin);
    for (const sentence of new Set([...first, ...wrong])) this.#report(sentence);
    if (wrong.length > 0) await this.#startOver();
  }

  /** Removes all pods, so that later rounds do not report the same disagreement again. */
  async #startOver(): Promise<void> {
    const { items } = await this.#client.listPodSandbox({});
    await Promise.all(
      items.map(({ id }) => this.#client.removePodSandbox({ podSandboxId: id ?? "" }).catch(() => "already reported")),
    );
    for (const pod of this.#ledger.pods) {
      pod.containers.clear();
      pod.monitorKilled = true;
      this.#ledger.pods.delete(pod);
    }
  }

  async #endAll(): Promise<void> {
    await this.#plugins?.be("calm");
    const { items } = await this.#client.listPodSandbox({});
    await Promise.all(
      items.map(async ({ id }) => {
        const podSandboxId = id ?? "";
        try {
          await this.#client.stopPodSandbox({ podSandboxId });
          await this.#client.removePodSandbox({ podSandboxId });
        } catch (error) {
          this.#report(`at the end, pod ${podSandboxId} cannot be stopped and removed: ${String(error)}`);
        }
      }),
    );
    this.#ledger.pods.clear();
    await this.#compare();
    await this.#awaitNetworks();
    await this.#node.daemon.stop();
    for (const left of await this.#node.leftovers()) this.#report(`left at the end: ${left}`);
  }

  /**
   * A DEL that failed after its work was done leaves only the lease that the daemon keeps for the retry, unseen by
   * `compare`.
   */
  async #awaitNetworks(): Promise<void> {
    const { networkLeases } = placesOf(this.#node.directory);
    let owed: readonly string[] = [];
    await until("all networks are detached", settleMs, async () => {
      owed = await readdir(networkLeases);
      return owed.length === 0 || undefined;
    }).catch((error: unknown) => this.#report(`at the end, ${String(error)}; leases: ${owed.join(", ")}`));
  }

  async #keepLog(): Promise<void> {
    const kept = join(tmpdir(), `keelson-faults-${this.#run.seed}${this.#plugins === undefined ? "" : "-wild"}.log`);
    await copyFile(this.#node.daemon.logFile, kept);
    this.#run.say(`      the daemon's log is kept as ${kept}`);
  }

  #report(sentence: string): void {
    const line = `seed ${this.#run.seed}, round ${this.#round}, kill ${this.#kills}: ${sentence}`;
    this.#wrong.push(line);
    this.#run.say(`not ok      ${line}`);
  }

  #progress(): string {
    const [kills, inStart, monitors] = [this.#kills, this.#killsInStart, this.#monitorKills];
    const times = `longest start ${Math.round(this.#longestStart)} ms, longest settling ${Math.round(this.#longestSettling)} ms`;
    return `      round ${this.#round}: ${kills} kills of the daemon (${inStart} during its start), ${monitors} of monitors; ${times}; ${this.#wrong.length} failures`;
  }

  /** Counts the clients waiting at the gate. */
  #countIdle(_: Environment) {
    let waiting = 0;
    let changed = Promise.withResolvers<void>();
    const gate = this.#gate;
    const pass = async (): Promise<boolean> => {
      waiting += 1;
      changed.resolve();
      changed = Promise.withResolvers();
      try {
        return await gate.pass();
      } finally {
        waiting -= 1;
      }
    };
    return {
      of: (env: Environment): Environment => ({ ...env, gate: { pass } }),
      all: async (count: number): Promise<void> => {
        while (waiting < count) await changed.promise;
      },
    };
  }
}
