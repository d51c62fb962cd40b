// SELinux labels, under Debian's policy, of pods' processes and files, of volumes and of execs; and which requests are
// rejected. The policy is permissive at first and its would-be denials are printed; then it is enforced.

import assert from "node:assert/strict";
import { at } from "../crictl/crictl.ts";
import { answers } from "./keelson.ts";
import { idle, type Pod, runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";
import { enforced } from "./selinux-enforced.ts";

const current = ["cat", "/proc/self/attr/current"];
const level = (label: string) => label.split(":").slice(3).join(":");
const type = (label: string) => label.split(":")[2];

export async function selinux(scene: Scene): Promise<void> {
  const { machine, crictl, step, print } = scene;
  const labelOf = async (path: string) => (await machine.run(`stat -c %C ${path}`)).trim();
  const exec = async (id: string, ...words: string[]) =>
    (await crictl.run("exec", "-s", id, ...words)).replace(/\0$/, "");
  const pidOf = async (id: string) => at(await crictl.json("inspect", id), "info", "pid");
  const processLabel = async (id: string) =>
    (await machine.run(`cat /proc/${await pidOf(id)}/attr/current`)).replace(/\0$/, "");
  const privileged = { security_context: { privileged: true, namespace_options: { pid: 1 } } };

  await step("SELinux is active, and keelson check reports the labels", async () => {
    assert.match(await machine.run("cat /sys/kernel/security/lsm"), /selinux/);
    const told = (await machine.run("keelson check")).split("\n").find((line) => line.includes("SELinux")) ?? "";
    print(told);
    assert.match(told, /container_t:s0, with separate categories for each pod/);
  });
  await step("keelson warns if the policy would not let it start containers", async () => {
    const text = await machine.run(
      "journalctl --boot --unit=keelson --output=cat --no-pager | grep 'lets no container'",
    );
    print(text);
    assert.match(text, /from system_u:system_r:\w+:s0/);
  });
  await step(
    "with its module and relabelled files, keelson runs in the policy's domain for container engines",
    async () => {
      await machine.run(
        `systemctl stop keelson keelson.socket && rm /usr/lib/keelson /usr/bin/keelson &&
        dpkg-deb --fsys-tarfile /cargo/keelson.deb | tar -x -C / --exclude=./etc &&
        semodule --disable_dontaudit --install=/usr/share/selinux/packages/keelson.cil &&
        restorecon -RF /usr/lib/keelson /usr/lib/cni /etc/keelson /etc/cni /run/keelson /var/lib/keelson /var/log/pods &&
        { [ ! -e /var/lib/cni ] || restorecon -RF /var/lib/cni; } &&
        dmesg --clear && systemctl start keelson`,
        900,
      );
      await answers(machine);
      const pid = await machine.run("systemctl show --property=MainPID --value keelson");
      assert.match(await machine.run(`cat /proc/${pid}/attr/current`), /:container_engine_t:/);
    },
  );
  const one = await step("a pod starts", () => runPod(machine, crictl, "one"));
  const other = await step("and another one", () => runPod(machine, crictl, "other"));
  const first = await step("a container in it", () => runContainer(machine, crictl, one, { name: "a", script: idle }));
  const label = await step(
    "its process has the policy's type and a pair of categories, and an exec has the same label",
    async () => {
      const found = await processLabel(first);
      print(found);
      assert.match(found, /^system_u:system_r:container_t:s0:c\d+,c\d+$/);
      assert.equal(await exec(first, ...current), found);
      print(await machine.run(`ps -o label,args -p ${await pidOf(first)}`));
      return found;
    },
  );
  await step("another container in the pod has the same label, another pod has other categories", async () => {
    const second = await runContainer(machine, crictl, one, { name: "b", script: idle });
    assert.equal(await processLabel(second), label);
    const foreign = await processLabel(await runContainer(machine, crictl, other, { name: "a", script: idle }));
    print(foreign);
    assert.equal(type(foreign), "container_t");
    assert.notEqual(level(foreign), level(label));
  });
  await step(
    "its files have the pod's label: root, /dev, shm, mqueue, masked paths, and the pod's own files",
    async () => {
      const file = `system_u:object_r:container_file_t:${level(label)}`;
      const root = `/proc/${await pidOf(first)}/root`;
      for (const path of [
        "/",
        "/bin",
        "/dev",
        "/dev/null",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/etc/hostname",
        "/sys/firmware",
      ])
        assert.equal(await labelOf(`${root}${path}`), file, path);
      await exec(first, "sh", "-c", "echo x >/written");
      assert.equal(await labelOf(`${root}/written`), file);
      print(`${file}; /proc ${await labelOf(`${root}/proc`)}, /sys ${await labelOf(`${root}/sys`)}`);
    },
  );
  await step("crictl inspectp shows the labels", async () => {
    assert.equal(at(await crictl.json("inspectp", one.id), "info", "selinux", "process"), label);
  });
  await step("the categories survive a restart of the daemon", async () => {
    await machine.run("systemctl restart keelson");
    await answers(machine);
    const later = await runContainer(machine, crictl, one, { name: "later", script: idle });
    assert.equal(await processLabel(later), label);
  });
  await step("a container with its own type and level; a container with its pod's level", async () => {
    const options = { type: "container_engine_t", level: "s0:c7,c9" };
    const id = await withContext(one, "named", { selinux_options: options });
    assert.equal(await processLabel(id), "system_u:system_r:container_engine_t:s0:c7,c9");
    assert.equal(await labelOf(`/proc/${await pidOf(id)}/root/`), "system_u:object_r:container_file_t:s0:c7,c9");
    const levelled = await runPod(machine, crictl, "levelled", {
      security_context: { namespace_options: { pid: 1 }, selinux_options: { level: "s0:c3,c4" } },
    });
    const inside = await runContainer(machine, crictl, levelled, { name: "a", script: idle });
    assert.equal(await processLabel(inside), "system_u:system_r:container_t:s0:c3,c4");
  });
  const free = await step("a privileged container, and one in the host's PID namespace, are not confined", async () => {
    const pod = await runPod(machine, crictl, "free", privileged);
    const id = await withContext(pod, "free", { privileged: true });
    const found = await processLabel(id);
    print(found);
    assert.equal(type(found), "spc_t");
    const host = { namespace_options: { pid: 2 } };
    const sharing = await runPod(machine, crictl, "sharing", { security_context: host });
    const shared = await withContext(sharing, "sharing", host);
    assert.equal(type(await processLabel(shared)), type(found));
    return pod;
  });
  await step("an ordinary container in a privileged pod is confined", async () => {
    assert.equal(type(await processLabel(await withContext(free, "ordinary", {}))), "container_t");
  });
  await step("the init of a shared PID namespace has its pod's label", async () => {
    const security_context = { namespace_options: { pid: 0 } };
    const pod = await runPod(machine, crictl, "shared", { security_context });
    const id = await withContext(pod, "shared", security_context);
    assert.equal(await exec(id, "cat", "/proc/1/attr/current"), await processLabel(id));
  });
  await step("a container in a user namespace is labelled too", async () => {
    const map = [{ host_id: 200000, container_id: 0, length: 65536 }];
    const namespace_options = { pid: 1, userns_options: { mode: 0, uids: map, gids: map } };
    const pod = await runPod(machine, crictl, "mapped", { security_context: { namespace_options } });
    const id = await withContext(pod, "mapped", { namespace_options });
    const found = await processLabel(id);
    assert.equal(type(found), "container_t");
    assert.equal(
      await labelOf(`/proc/${await pidOf(id)}/root/dev`),
      `system_u:object_r:container_file_t:${level(found)}`,
    );
  });

  await step("a volume is relabelled with everything in it, except the targets of links", async () => {
    await machine.run(`mkdir -p /srv/volume/deep/er /srv/outside && touch /srv/volume/deep/er/file /srv/outside/kept
      ln -s /srv/outside /srv/volume/link && mkfifo /srv/volume/fifo`);
    const before = await labelOf("/srv/outside/kept");
    const mounts = [{ host_path: "/srv/volume", container_path: "/data", selinux_relabel: true }];
    const id = await withMounts(one, "volume", mounts);
    const file = `system_u:object_r:container_file_t:${level(label)}`;
    for (const path of ["", "/deep", "/deep/er", "/deep/er/file", "/link", "/fifo"])
      assert.equal(await labelOf(`/srv/volume${path}`), file, path);
    assert.equal(await labelOf("/srv/outside/kept"), before);
    await exec(id, "sh", "-c", "echo x >/data/deep/er/file && cat /data/deep/er/file");
  });
  await step(
    "a volume that already has the label is not walked again; without a request, no volume is walked",
    async () => {
      await machine.run("touch /srv/volume/marked && chcon -t etc_t /srv/volume/marked");
      const mount = { host_path: "/srv/volume", container_path: "/data" };
      await withMounts(one, "again", [{ ...mount, selinux_relabel: true }]);
      assert.equal(type(await labelOf("/srv/volume/marked")), "etc_t");
      await withMounts(other, "unasked", [mount]);
      assert.equal(level(await labelOf("/srv/volume")), level(label));
      await withMounts(other, "asked", [{ ...mount, selinux_relabel: true }]);
      assert.notEqual(level(await labelOf("/srv/volume")), level(label));
      assert.equal(type(await labelOf("/srv/volume/marked")), "container_file_t");
    },
  );
  await step("a file system that does not support relabelling is left as it is", async () => {
    await machine.run(
      "mkdir -p /srv/fixed && mount -t tmpfs -o context=system_u:object_r:container_file_t:s0 t /srv/fixed",
    );
    await withMounts(one, "fixed", [{ host_path: "/srv/fixed", container_path: "/data", selinux_relabel: true }]);
    assert.equal(await labelOf("/srv/fixed"), "system_u:object_r:container_file_t:s0");
  });
  await step("host directories are refused, and stay unchanged", async () => {
    await machine.run("mkdir -p /srv/alias && mount --bind /etc /srv/alias");
    const before = await labelOf("/etc /usr/share /srv/alias/passwd");
    for (const path of ["/etc", "/usr/share", "/srv/alias", "/"]) {
      const mounts = [{ host_path: path, container_path: "/data", selinux_relabel: true }];
      await assert.rejects(withMounts(one, "host", mounts), /the path belongs to the host/);
    }
    assert.equal(await labelOf("/etc /usr/share /srv/alias/passwd"), before);
  });
  await step("options that are unknown to the policy, or malformed, are rejected with an explanation", async () => {
    await assert.rejects(
      withContext(one, "bad", { selinux_options: { type: "no_such_t" } }),
      /not valid in this host's policy/,
    );
    for (const bad of [{ level: 's0:c1",upperdir="/etc' }, { type: "container_t,rw" }, { user: "a:b" }])
      await assert.rejects(withContext(one, "bad", { selinux_options: bad }), /cannot be used/);
  });
  await step("the kernel log has what an enforcing policy would deny", async () => {
    const denied = await machine.run("dmesg | grep 'avc:  denied' || true");
    for (const domain of ["container_t", "container_engine_t"]) {
      const pattern = new RegExp(
        `denied\\s+\\{([^}]*)\\}.*:${domain}:.* tcontext=\\w+:\\w+:(\\w+).* tclass=(\\w+)`,
        "g",
      );
      const kinds = Array.from(denied.matchAll(pattern), ([, what, target, kind]) => `${target} ${kind}:${what}`);
      print(`${domain}:\n${[...new Set(kinds)].sort().slice(0, 60).join("\n")}`);
    }
  });
  await enforced(scene);

  async function withContext(pod: Pod, name: string, security_context: object): Promise<string> {
    const linux = { security_context: { namespace_options: { pid: 1 }, ...security_context } };
    return await runContainer(machine, crictl, pod, { name, script: idle, linux });
  }
  async function withMounts(pod: Pod, name: string, mounts: readonly object[]): Promise<string> {
    return await runContainer(machine, crictl, pod, { name, script: idle, mounts });
  }
}
