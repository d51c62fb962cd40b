// Publishes lifecycle events of containers and sandboxes, with current views.

import type { Container } from "./container.ts";
import type { Environment } from "./environment.ts";
import type { Sandbox } from "./sandbox.ts";
import type { EventType, PodEvent } from "./types.ts";

export function announce(env: Environment, container: Container, type: EventType): void {
  publish(env, container.sandbox, container.id, type);
}

/** Not published for a sandbox that no caller has claimed. */
export function announceSandbox(env: Environment, sandbox: Sandbox, type: EventType): void {
  if (sandbox.visible) publish(env, sandbox, sandbox.id, type);
}

function publish(env: Environment, sandbox: Sandbox, containerId: string, type: EventType): void {
  const event = (id: string, what: EventType): PodEvent => ({
    containerId: id,
    type: what,
    createdAt: env.clock(),
    sandbox: sandbox.view(),
    containers: [...sandbox.containers.values()].map((container) => container.view()),
  });
  env.events.publish(event(containerId, type));
  const isGone = type === "deleted" && containerId === sandbox.id;
  env.events.confirm(sandbox.id, isGone ? undefined : () => event(sandbox.id, "confirmed"));
}
