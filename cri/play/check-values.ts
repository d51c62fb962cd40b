// Errors for a pod's fields, each with its path, and value checks shared by pods and containers.

import { isIP } from "node:net";
import type { At } from "./check-fields.ts";
import { playErrors } from "./errors.ts";
import type { KeyValues, Manifest } from "./manifest.ts";
import { quantity } from "./resources.ts";
import type { Container } from "./supported.ts";

export interface PodPlace {
  readonly at: At;
  /** The path of the spec in its document. */
  readonly path: string;
  readonly kind: "Pod" | "Deployment" | "Job";
  readonly namespace: string;
  readonly manifest: Pick<Manifest, "configMaps" | "secrets">;
}

export class FieldCheck {
  readonly place: PodPlace;

  constructor(place: PodPlace) {
    this.place = place;
  }

  /** All ConfigMaps and Secrets must be in the files: they cannot be added later. */
  data(
    path: string,
    kind: "configMaps" | "secrets",
    name: string | undefined,
    optional: boolean | undefined,
  ): KeyValues | undefined {
    const data = this.place.manifest[kind].get(`${this.place.namespace}/${name}`);
    if (data !== undefined || optional) return data;
    const what = kind === "configMaps" ? "ConfigMap" : "Secret";
    throw this.wrong(
      path,
      `the files contain no ${what} ${this.place.namespace}/${name ?? ""}`,
      `a ${what} in the files`,
    );
  }

  security(
    path: string,
    { runAsUser, runAsGroup, runAsNonRoot, seccompProfile, appArmorProfile }: NonNullable<Container["securityContext"]>,
  ): void {
    for (const [field, id] of [["runAsUser", runAsUser] as const, ["runAsGroup", runAsGroup] as const])
      this.atLeast(`${path}.${field}`, id, 0);
    if (runAsNonRoot && runAsUser === 0)
      throw this.wrong(`${path}.runAsUser`, "runAsNonRoot is set too", "a number above 0");
    if (seccompProfile)
      this.oneOf(`${path}.seccompProfile.type`, seccompProfile.type, ["RuntimeDefault", "Unconfined"]);
    if (!appArmorProfile) return;
    const type = this.oneOf(`${path}.appArmorProfile.type`, appArmorProfile.type, [
      "RuntimeDefault",
      "Unconfined",
      "Localhost",
    ]);
    if ((type === "Localhost") !== Boolean(appArmorProfile.localhostProfile))
      throw this.wrong(
        `${path}.appArmorProfile.localhostProfile`,
        `the type is ${type}`,
        "a profile name with type Localhost, and to nothing with other types",
      );
  }

  pullPolicy(path: string, policy: string | undefined): void {
    if (policy !== undefined) this.oneOf(path, policy, ["Always", "IfNotPresent", "Never"]);
  }

  oneOf(path: string, value: string | undefined, allowed: readonly string[]): string {
    if (value !== undefined && allowed.includes(value)) return value;
    throw this.wrong(
      path,
      value === undefined ? "it is missing" : `it is ${JSON.stringify(value)}`,
      allowed.filter((word) => word !== "").join(", "),
    );
  }

  atLeast(path: string, value: number | undefined, least: number): void {
    if (value !== undefined && (value < least || value > 2 ** 31 - 1))
      throw this.wrong(path, `it is ${value}`, `${least} or more`);
  }

  port(path: string, port: number): void {
    if (!(port >= 1 && port <= 65_535)) throw this.wrong(path, `it is ${port ?? "missing"}`, "1 to 65535");
  }

  ip(path: string, text: string): void {
    if (isIP(text) === 0) throw this.wrong(path, `it is ${JSON.stringify(text)}`, "an IP address");
  }

  /** A host name that becomes part of a line of /etc/hosts. */
  word(path: string, text: string): void {
    if (!/^[A-Za-z0-9._-]{1,253}$/.test(text)) throw this.wrong(path, `it is ${JSON.stringify(text)}`, "a host name");
  }

  mode(path: string, mode: number | undefined): void {
    if (mode !== undefined && (mode < 0 || mode > 0o777)) throw this.wrong(path, `it is ${mode}`, "0 to 0777");
  }

  quantity(path: string, text: string | undefined): void {
    if (text !== undefined && quantity(text) === undefined)
      throw this.wrong(path, `it is ${JSON.stringify(text)}`, "a quantity like 100m or 64Mi");
  }

  unsupported(path: string): Error {
    return playErrors.fieldUnsupported({ at: this.place.at, path: `${this.place.path}.${path}` });
  }

  missing(path: string, wanted: string): Error {
    return this.wrong(path, "it is missing", wanted);
  }

  wrong(path: string, problem: string, wanted: string): Error {
    return playErrors.fieldWrong({ at: this.place.at, path: `${this.place.path}.${path}`, problem, wanted });
  }
}
