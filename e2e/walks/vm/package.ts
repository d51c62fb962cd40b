// The package as an administrator installs it: apt puts it in the place of what the cargo stood for, its daemon is restarted
// and upgraded under a pod, and purged. The last suite of a guest: Keelson is gone then.

import assert from "node:assert/strict";
import { at } from "../crictl/crictl.ts";
import { answers } from "./keelson.ts";
import { busybox, runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

/** Unpacking alone takes minutes here. */
const aptSeconds = 600;

export async function installed({ machine, crictl, step }: Scene): Promise<void> {
  const apt = async (words: string) =>
    await machine.run(
      `DEBIAN_FRONTEND=noninteractive apt-get ${words} -y -qq --no-install-recommends 2>&1`,
      aptSeconds,
    );

  await step("installed by apt, it is started by systemd", async () => {
    await machine.run(`
      systemctl disable --now --quiet keelson.service keelson.socket
      rm -r /etc/systemd/system/keelson.* /usr/lib/keelson /usr/bin/keelson /var/lib/keelson /run/keelson
      mv /etc/keelson/config.toml /root/
      systemctl daemon-reload`);
    await apt("install /cargo/keelson.deb");
    assert.equal(await machine.run("systemctl is-active keelson.service keelson.socket"), "active\nactive");
    assert.equal(await machine.run("systemctl is-enabled keelson.service keelson.socket"), "enabled\nenabled");
    await answers(machine);
  });
  const pod = await step("a pod runs", async () => {
    await machine.run("keelson image load /cargo/busybox");
    assert.match(await machine.run("keelson image ls"), new RegExp(busybox));
    return await runPod(machine, crictl, "packaged");
  });
  const script = "while :; do sleep 1; done";
  const container = await runContainer(machine, crictl, pod, { name: "main", script });
  const process = async () => at(await crictl.json("inspect", container), "info", "pid");
  const before = await process();
  await step("restarted, reloaded, and installed once more: the pod is untouched", async () => {
    await machine.run("systemctl restart keelson");
    assert.deepEqual(await process(), before);
    await machine.run("systemctl reload keelson");
    await apt("install --reinstall /cargo/keelson.deb");
    await answers(machine);
    assert.deepEqual(await process(), before);
    assert.equal(at(await crictl.json("inspect", container), "status", "state"), "CONTAINER_RUNNING");
  });
  await step("a purge is refused while it runs", async () => {
    const { code, stdout } = await machine.attempt("apt-get purge -y -qq keelson 2>&1", aptSeconds);
    assert.notEqual(code, 0);
    assert.match(stdout.toString(), /pods still running: 1,/);
    await machine.run(`kill -0 ${before}`);
  });
  await step("installed again, it takes the pod down, and is purged without a trace", async () => {
    await apt("install /cargo/keelson.deb");
    await answers(machine);
    await crictl.run("rmp", "--force", pod.id);
    await apt("purge keelson");
    const left = await machine.run(
      "ls -d /run/keelson /var/lib/keelson /usr/lib/keelson /etc/keelson/config.toml 2>&1; true",
    );
    assert.doesNotMatch(left, /^\//m, left);
    assert.equal((await machine.attempt("systemctl cat keelson.service keelson.socket")).code, 1);
  });
}
