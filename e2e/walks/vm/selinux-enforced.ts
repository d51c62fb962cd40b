// SELinux enforcing, with Keelson's policy module: the daemon starts, pods can use their own files, and are denied
// those of other pods and of the host.

import assert from "node:assert/strict";
import { answers } from "./keelson.ts";
import { idle, type Pod, runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

/** In the kubelet's directory, which the policy labels for containers. */
const volumeDirectory = "/var/lib/kubelet/pods/own/volumes/data";

export async function enforced({ machine, crictl, step, print }: Scene): Promise<void> {
  await step("keelson starts under the enforced policy, and runs its own network plugins", async () => {
    await machine.run(
      `mkdir -p ${volumeDirectory} && echo text >${volumeDirectory}/file && restorecon -RF /var/lib/kubelet &&
        printf '[cni]\\nbin_dirs = ["/usr/lib/keelson/cni"]\\n' >>/etc/keelson/config.toml &&
        dmesg --clear && setenforce 1 && systemctl restart keelson`,
    );
    await answers(machine);
    assert.equal(await machine.run("getenforce"), "Enforcing");
  });
  const [own, other] = await step("pods start", async () => [
    await runPod(machine, crictl, "strict"),
    await runPod(machine, crictl, "foreign"),
  ]);
  const volume = { host_path: volumeDirectory, container_path: "/data" };
  const hosts = { host_path: "/etc", container_path: "/host" };
  const first = await step(
    "a container and an exec in it run, and can use the container's files and devices",
    async () => {
      const id = await start(own, "first", [{ ...volume, selinux_relabel: true }, hosts]);
      assert.equal(await run(id, "echo here >/file && cat /file && echo >/dev/null && ls / >/dev/shm/list"), "here");
      return id;
    },
  );
  await step("the container and another one in its pod read and write the pod's volume", async () => {
    assert.equal(await run(first, "cat /data/file && echo more >>/data/file"), "text");
    const second = await start(own, "second", [{ ...volume, selinux_relabel: true }]);
    assert.equal(await run(second, "echo yet more >>/data/file && cat /data/file"), "text\nmore\nyet more");
  });
  await step("another pod is denied access to the volume, only because of its categories", async () => {
    const foreign = await start(other, "foreign", [volume]);
    await denied(foreign, "cat /data/file");
    await denied(foreign, "echo x >>/data/file");
    await denied(foreign, "touch /data/new");
  });
  await step("root in a container is denied access to the host's files", async () => {
    await denied(first, "cat /host/shadow");
    await denied(first, "touch /host/new");
  });
  await step("a privileged container is not confined", async () => {
    const pod = await runPod(machine, crictl, "trusted", { security_context: { privileged: true } });
    const linux = { security_context: { privileged: true } };
    const id = await runContainer(machine, crictl, pod, { name: "trusted", script: idle, linux, mounts: [hosts] });
    assert.match(await run(id, "cat /host/shadow"), /^root:/m);
  });
  await step("the kernel logged the denials; a container stops on request", async () => {
    // dmesg runs in its own domain, which may write to a pipe but not to the agent's file.
    const kernel = await machine.run("dmesg | cat");
    const lines = kernel.split("\n").filter((line) => /avc: {2}denied .*permissive=0/.test(line));
    print(
      [...new Set(lines.map((line) => line.replace(/.*denied {2}|pid=\d+ |ino=\d+ /g, "")))].slice(0, 20).join("\n"),
    );
    assert(lines.some((line) => line.includes(":container_t:") && line.includes(":shadow_t:")));
    await crictl.run("stop", "--timeout", "20", first);
  });
  await step("all pods can be removed under the enforced policy", async () => {
    await crictl.run("rmp", "--all", "--force");
    assert.equal(await crictl.run("pods", "--quiet"), "");
  });

  async function start(pod: Pod, name: string, mounts: readonly object[]): Promise<string> {
    return await runContainer(machine, crictl, pod, { name, script: idle, mounts });
  }
  async function run(id: string, script: string): Promise<string> {
    return await crictl.run("exec", "-s", id, "sh", "-c", script);
  }
  async function denied(id: string, script: string): Promise<void> {
    const { code, stderr } = await crictl.attempt("exec", "-s", id, "sh", "-c", script);
    assert(code !== 0 && /Permission denied/.test(stderr), `${script}: exit code ${code}: ${stderr}`);
  }
}
