// Ephemeral containers, and the namespaces that the containers of a pod share or do not share.

import assert from "node:assert/strict";
import { toolsImage } from "./images.ts";
import { idle, type Scene, shell, statusOf } from "./scene.ts";

export async function ephemeral(scene: Scene): Promise<void> {
  const { check, namespace } = scene;
  const { core } = scene.cluster;
  await Promise.all([
    check("an ephemeral container sees the processes of its target", async () => {
      await scene.create("debugged", {
        containers: [shell("main", `: marked; ${idle}`), shell("other", `: unseen; ${idle}`)],
      });
      await scene.ready("debugged");
      const body = await core.readNamespacedPod({ namespace, name: "debugged" });
      body.spec = {
        ...body.spec,
        containers: body.spec?.containers ?? [],
        ephemeralContainers: [{ name: "debugger", image: toolsImage, command: ["ps"], targetContainerName: "main" }],
      };
      await core.replaceNamespacedPodEphemeralcontainers({ namespace, name: "debugged", body });
      await scene.when("debugged", "the debugger has exited", (pod) => statusOf(pod, "debugger")?.state?.terminated);
      const log = await scene.log("debugged", "debugger");
      assert.match(log, /: marked/);
      assert.doesNotMatch(log, /: unseen/);
      await scene.remove("debugged");
    }),
    check(
      "a privileged ephemeral container in an ordinary pod, as kubectl debug --profile=sysadmin creates it",
      async () => {
        await scene.create("ordinary", { containers: [shell("main", idle)] });
        await scene.ready("ordinary");
        const body = await core.readNamespacedPod({ namespace, name: "ordinary" });
        const command = ["sh", "-c", "cat /proc/1/root/etc/hostname && mount -t tmpfs none /tmp"];
        const privileged = {
          name: "debugger",
          image: toolsImage,
          command,
          targetContainerName: "main",
          securityContext: { privileged: true },
        };
        body.spec = { ...body.spec, containers: body.spec?.containers ?? [], ephemeralContainers: [privileged] };
        await core.replaceNamespacedPodEphemeralcontainers({ namespace, name: "ordinary", body });
        const ended = await scene.when(
          "ordinary",
          "the debugger has exited",
          (pod) => statusOf(pod, "debugger")?.state?.terminated,
        );
        assert.equal(ended.exitCode, 0, await scene.log("ordinary", "debugger"));
        assert.equal(await scene.log("ordinary", "debugger"), "ordinary\n");
        await scene.remove("ordinary");
      },
    ),
    check("containers with a shared PID namespace", async () => {
      await scene.create("shared", {
        shareProcessNamespace: true,
        containers: [shell("main", `: marked; ${idle}`), shell("other", idle)],
      });
      await scene.ready("shared");
      const { stdout } = await scene.exec("shared", "other", "ps");
      assert.match(stdout, /: marked/);
      await scene.remove("shared");
    }),
    // The handlers runc and crun do not report support for it, so the kubelet refuses.
    scene.runtimeClass === undefined &&
      check("hostUsers: false gives the pod a user namespace", async () => {
        await scene.create("users", {
          hostUsers: false,
          restartPolicy: "Never",
          volumes: [{ name: "shared", emptyDir: {} }],
          containers: [
            shell("main", "cat /proc/self/uid_map; touch /shared/file; ls -ln /shared/file", {
              volumeMounts: [{ name: "shared", mountPath: "/shared" }],
            }),
          ],
        });
        assert.equal(await scene.ended("users"), "Succeeded");
        const [map = "", file = ""] = (await scene.log("users")).trim().split("\n");
        const [inside, outside, size] = map.trim().split(/\s+/).map(Number);
        assert.deepEqual([inside, size], [0, 65_536]);
        assert.ok((outside ?? 0) >= 65_536, map);
        assert.match(file, /^\S+ +1 0 +0 /);
      }),
    check("a pod with hostNetwork and hostPID sees the host's network, processes and addresses", async () => {
      await scene.create("host", {
        hostNetwork: true,
        hostPID: true,
        restartPolicy: "Never",
        containers: [shell("main", "ip address show dev eth0; ps | grep kubelet")],
      });
      assert.equal(await scene.ended("host"), "Succeeded");
      const log = await scene.log("host");
      assert.ok(log.includes(scene.node.host.addresses[0]), log);
      assert.match(log, /--kubeconfig/);
    }),
  ]);
}
