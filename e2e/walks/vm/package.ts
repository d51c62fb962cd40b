// The package as an administrator installs it: installed with apt instead of run from the cargo disk, restarted and
// upgraded under a running pod, and purged. This is a guest's last suite, because it removes Keelson.

import assert from "node:assert/strict";
import { at } from "../crictl/crictl.ts";
import { answers } from "./keelson.ts";
import { busybox, runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

/** Unpacking alone takes minutes in a guest. */
const aptSeconds = 600;

export async function installed({ machine, crictl, step }: Scene): Promise<void> {
  const apt = async (words: string) =>
    await machine.run(
      `DEBIAN_FRONTEND=noninteractive apt-get ${words} -y -qq --no-install-recommends 2>&1`,
      aptSeconds,
    );

  await step("after installation with apt, systemd starts it", async () => {
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
  await step("restart, reload and reinstallation leave the pod untouched", async () => {
    await machine.run("systemctl restart keelson");
    assert.deepEqual(await process(), before);
    await machine.run("systemctl reload keelson");
    await apt("install --reinstall /cargo/keelson.deb");
    await answers(machine);
    assert.deepEqual(await process(), before);
    assert.equal(at(await crictl.json("inspect", container), "status", "state"), "CONTAINER_RUNNING");
  });
  await step("a purge is refused while the pod runs", async () => {
    const { code, stdout } = await machine.attempt("apt-get purge -y -qq keelson 2>&1", aptSeconds);
    assert.notEqual(code, 0);
    assert.match(stdout.toString(), /pods still running: 1,/);
    await machine.run(`kill -0 ${before}`);
  });
  await step("after reinstallation it removes the pod, and a purge leaves nothing behind", async () => {
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
