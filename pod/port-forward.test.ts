// Port-forward: errors for a port that cannot be connected to.

import { constants } from "node:os";
import { expect, test } from "vitest";
import { MonitorError } from "../native/index.ts";
import { never, runPod, useNode } from "./testing/node.ts";

const node = useNode();
const { ECONNREFUSED, EMFILE } = constants.errno;

test.each([
  ["port without a listener", ECONNREFUSED, "portClosed"],
  ["monitor without descriptors", EMFILE, "monitorRefused"],
])("a %s", async (_, errno, name) => {
  const pods = await node().start();
  const id = await runPod(pods);
  const message = "connect to localhost:80 in the pod";
  node().script.fail(
    "monitor portForward",
    new MonitorError({ kind: "system", step: message, object: "", errno, message }),
  );
  await expect(pods.portForward(id, 80, never)).rejects.toMatchObject({ name });
});
