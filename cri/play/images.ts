// Ensures that a pod's images are present according to their pull policies. Concurrent pulls of an image are shared.

import { SingleFlight } from "../../native/index.ts";
import type { runtime } from "../api/generated/messages.js";
import type { Cri } from "./cri-client.ts";
import { playErrors } from "./errors.ts";
import type { Report } from "./report.ts";
import type { ImageUser } from "./security.ts";

export interface ReadyImage extends ImageUser {
  readonly id: string;
}

export class Images {
  readonly #cri: Pick<Cri, "imageStatus" | "pullImage">;
  readonly #report: Report;
  readonly #pulls = new SingleFlight<string>("abort");

  constructor(cri: Pick<Cri, "imageStatus" | "pullImage">, report: Report) {
    this.#cri = cri;
    this.#report = report;
  }

  async ensure(
    reference: string,
    policy: string | undefined,
    sandboxConfig: runtime.v1.PodSandboxConfig.$Properties,
    signal: AbortSignal,
  ): Promise<ReadyImage> {
    const wanted = policy ?? defaultPolicy(reference);
    const found = wanted === "Always" ? undefined : await this.#find(reference, signal);
    if (found !== undefined) return found;
    if (wanted === "Never") throw playErrors.imageNeverPulled({ image: reference });
    const id = await this.#pulls.join(reference, signal, async (pullSignal) => {
      using _ = this.#report.pulling(reference);
      const { imageRef } = await this.#cri.pullImage(
        { image: { image: reference }, sandboxConfig },
        { signal: pullSignal },
      );
      return imageRef;
    });
    return (await this.#find(id, signal)) ?? { id, uid: 0, username: "" };
  }

  async #find(reference: string, signal: AbortSignal): Promise<ReadyImage | undefined> {
    const { image } = await this.#cri.imageStatus({ image: { image: reference } }, { signal });
    if (!image?.id) return undefined;
    const { id, username } = image;
    // An image without a user runs as root.
    const uid = image.uid ? Number(image.uid.value ?? 0) : username ? undefined : 0;
    return { id, uid, username: username ?? "" };
  }
}

/** A name that may move to another image (latest) is pulled each time. */
function defaultPolicy(reference: string): string {
  const [name = ""] = reference.split("@", 1);
  if (name !== reference) return "IfNotPresent";
  const tag = /:([^:/]+)$/.exec(name)?.[1] ?? "latest";
  return tag === "latest" ? "Always" : "IfNotPresent";
}
