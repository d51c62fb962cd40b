// AppArmor: the default profile, named profiles and unconfined, for the container's main process and for an exec.

import assert from "node:assert/strict";
import { createContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

const idle = "trap 'exit 7' TERM; while :; do sleep 1; done";
const label = ["cat", "/proc/self/attr/current", "/proc/1/attr/current"];

export async function apparmor({ machine, crictl, step }: Scene): Promise<void> {
  const pod = await step("a pod starts", () =>
    runPod(machine, crictl, "apparmor", { security_context: { privileged: true } }),
  );
  const container = async (name: string, context: object) => {
    const linux = { security_context: { namespace_options: { pid: 1 }, ...context } };
    return await createContainer(machine, crictl, pod, { name, script: idle, linux });
  };
  const run = async (name: string, context: object) => {
    const id = await container(name, context);
    await crictl.run("start", id);
    return id;
  };
  await step("the test's own profile is loaded", () =>
    machine.run(`apparmor_parser --replace --skip-cache <<'end'
profile vm-no-tmp flags=(attach_disconnected) {
  file,
  capability,
  network,
  deny /tmp/** w,
}
end`),
  );
  const none = "unconfined\nunconfined";
  const byDefault = "keelson-default (enforce)\nkeelson-default (enforce)";
  const own = "vm-no-tmp (enforce)\nvm-no-tmp (enforce)";
  const ids = new Map<string, string>();
  for (const [name, context, expected] of [
    ["silent", {}, byDefault],
    ["default", { apparmor: { profile_type: 0 } }, byDefault],
    ["unconfined", { apparmor: { profile_type: 1 } }, none],
    ["localhost", { apparmor: { profile_type: 2, localhost_ref: "vm-no-tmp" } }, own],
    ["deprecated", { apparmor_profile: "localhost/vm-no-tmp" }, own],
    ["privileged", { privileged: true }, none],
  ] as const) {
    await step(`${name}: ${expected.split("\n")[0]}`, async () => {
      const id = await run(name, context);
      ids.set(name, id);
      assert.equal(await crictl.run("exec", "-s", id, ...label), expected);
    });
  }
  await step("a profile that is not loaded is rejected before anything starts", async () => {
    await assert.rejects(
      container("unloaded", { apparmor: { profile_type: 2, localhost_ref: "vm-nothing" } }),
      /AppArmor profile vm-nothing is not loaded on this node/,
    );
  });
  await step("the named profile is enforced", async () => {
    const script = "echo x >/tmp/x; echo y >/y && echo wrote";
    const said = await crictl.run("exec", "-s", ids.get("localhost") ?? "", "sh", "-c", `(${script}) 2>&1`);
    assert.match(said, /\/tmp\/x: Permission denied\nwrote$/);
  });
  await step("the default profile allows ordinary operations", async () => {
    const script =
      "echo x >/tmp/x && kill -0 1 && cat /proc/1/environ >/dev/null && echo 5 >/proc/self/oom_score_adj && echo fine";
    assert.equal(await crictl.run("exec", "-s", ids.get("silent") ?? "", "sh", "-c", script), "fine");
  });
  await step("the default profile denies a container with all capabilities access to the host", async () => {
    const id = await run("capable", { capabilities: { add_capabilities: ["ALL"] }, seccomp: { profile_type: 1 } });
    const script = `mount -t tmpfs none /mnt && echo mounted
      umount /proc/sysrq-trigger; umount /proc/sys; umount /sys
      echo h >/proc/sysrq-trigger && echo sysrq; echo 1 >/proc/sys/vm/drop_caches && echo dropped
      head -c 1 /proc/kcore && echo core; true`;
    const said = await crictl.run("exec", "-s", id, "sh", "-c", `(${script}) 2>&1`);
    assert.doesNotMatch(said, /^(mounted|sysrq|dropped|.?core)$/m);
  });
  await step("confined processes stop normally, and nothing is left behind", async () => {
    const id = ids.get("silent") ?? "";
    await crictl.run("stop", "--timeout", "20", id);
    await crictl.run("rmp", "--force", pod.id);
    assert.equal(await crictl.run("pods", "--quiet"), "");
  });
}
