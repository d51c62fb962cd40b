// Exec, Attach and PortForward: each returns a single-use URL.

import type { Pods } from "../../pod/types.ts";
import { criErrors } from "../errors.ts";
import type { StreamingServer } from "../streaming/http-server.ts";
import type { Streams } from "../streaming/remote-command.ts";
import { commandLine, containerId, intWithin, invalid, sandboxId } from "./decode-fields.ts";
import type { Handlers, runtimeMethods } from "./methods.ts";

export interface StreamingParts {
  readonly pods: Pick<Pods, "streamable" | "forwardable">;
  readonly streaming: Pick<StreamingServer, "url">;
}

export function streamingCalls({ pods, streaming }: StreamingParts) {
  return {
    async Exec(request) {
      const id = containerId(request.containerId);
      const command = commandLine(request.cmd);
      const streams = checked(request);
      return { url: streaming.url({ kind: "exec", id: pods.streamable(id).id, command, streams }) };
    },

    async Attach(request) {
      const id = containerId(request.containerId);
      const streams = checked(request);
      const view = pods.streamable(id);
      if (streams.tty !== view.config.tty)
        throw invalid("tty", String(streams.tty), `${view.config.tty}, as in the container's configuration`);
      const { stdin, stdinOnce, tty } = view.config;
      const inputStays = stdin && (tty || !stdinOnce);
      return { url: streaming.url({ kind: "attach", id: view.id, streams, inputStays }) };
    },

    async PortForward(request) {
      const id = sandboxId(request.podSandboxId);
      const ports = request.port.map((port, n) => intWithin(port, `port[${n}]`, 1, 65_535));
      return { url: streaming.url({ kind: "portforward", id: pods.forwardable(id).id, ports }) };
    },
  } satisfies Handlers<typeof runtimeMethods>;
}

/** A terminal has a single output, so there can be no separate stderr. */
function checked({ stdin, stdout, stderr, tty }: Streams): Streams {
  if (tty && stderr) throw invalid("stderr", "true", "false with a tty, whose output is all stdout");
  if (!stdin && !stdout && !stderr)
    throw criErrors.fieldMissing({ field: "stdin, stdout or stderr", wanted: "at least one stream" });
  return { stdin, stdout, stderr, tty };
}
