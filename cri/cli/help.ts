// The manual of the command line, one page per command.

import { commands, imageVerbs } from "./commands.ts";
import { defaultConfigFile } from "./config.ts";
import { settings } from "./settings.ts";

const commonOptions = `  --config FILE         Read FILE instead of ${defaultConfigFile}; its drop-ins are FILE.d/*.toml.
  --root DIR            Persistent state: images, pod records, network leases. [/var/lib/keelson]
  --state DIR           Volatile state: pods' sockets and mounts. [/run/keelson]
  --socket PATH         The CRI socket. [keelson.sock in the state directory]`;

export const overview = `Keelson: a Kubernetes CRI server.

Usage:
${commands.map(({ name, operands, summary }) => `  ${`keelson ${name} ${operands}`.trim().padEnd(26)} ${summary}`).join("\n")}

keelson COMMAND --help describes a command. status, check, image and version print JSON with --output json.

Exit status of every command:
  0 on success; 1 on failure; 2 for an invalid command line or configuration.
`;

export const pages: ReadonlyMap<string, string> = new Map([
  [
    "serve",
    `keelson serve: run the daemon.

Usage:
  keelson serve [options]

Serves the Kubernetes Container Runtime Interface (CRI v1) on a Unix socket that only root can use.
On startup it recovers the state of the previous daemon: running pods, their logs and exit codes.
Unfinished work is completed in the background. It logs to stderr, one JSON object per line: calls
that change state at level info, read-only calls at debug.

Options:
${commonOptions}
  --cni-conf-dir DIR    CNI configuration directory; watched for changes. [/etc/cni/net.d]
  --cni-bin-dir DIR     CNI plugin directory; may be repeated. [/opt/cni/bin, /usr/lib/cni]
  --registries DIR      Tree of HOST/hosts.toml files: registry mirrors and TLS.
                        [/etc/keelson/registries]
  --log-level LEVEL     debug, info, warn or error. [info]

Flags override drop-ins, drop-ins the configuration file, and the file the defaults in brackets.

Signals:
  SIGTERM, SIGINT  Stop within 2 seconds. Pods keep running; the next start finishes work in progress.
  SIGHUP           Reload the configuration. log.level takes effect at once; other changed keys are
                   logged and take effect after a restart. An invalid configuration leaves the old one
                   in force. hosts.toml files are read at each pull and the CNI configuration directory
                   is watched; neither needs a signal.
  SIGUSR1          Log the work in progress (calls, queues, pulls, monitors, plugins) and its age.
  SIGUSR2          No effect.

Under systemd (Type=notify) it reports when it is serving, reloading and stopping, feeds the watchdog
while its own socket answers, and serves on the socket passed by systemd, whose path must match the
configuration.

Environment:
  HTTP_PROXY, HTTPS_PROXY, NO_PROXY
      The proxies for registries, and the hosts to contact directly, in upper or lower case, with the
      semantics of other container runtimes. Proxies must speak HTTP or HTTPS, not SOCKS. Under systemd:
      run systemctl edit keelson and add [Service] and Environment=HTTPS_PROXY=http://proxy:3128.

Files:
  ${defaultConfigFile}, ${defaultConfigFile}.d/*.toml
      The configuration; keelson config --help lists its keys.
  /var/lib/keelson, /run/keelson/keelson.sock

Exit status:
  0 after SIGTERM or SIGINT; 1 if it could not start or continue; 2 for an invalid command line or
  configuration.

Examples:
  keelson serve
  crictl --runtime-endpoint unix:///run/keelson/keelson.sock pods
`,
  ],
  [
    "status",
    `keelson status: show what is running, in progress and left over.

Usage:
  keelson status [options]

Queries the running daemon, which answers from memory: its version, uptime and memory use; whether the
network is ready; pods, containers and images; the calls, pulls, network plugins and pod queue turns in
progress, oldest first; and what could not be cleaned up after pods yet, with the reason. At most
20 lines of each.

crictl inspectp shows the duration of each stage of a pod's start, under timeline. If the daemon does
not answer, SIGUSR1 makes it log the work in progress.

Options:
${commonOptions}
  --output FORMAT       text or json. [text]

Exit status:
  0; 1 if no daemon answers; 2 for an invalid command line or configuration.
`,
  ],
  [
    "check",
    `keelson check: check whether this host can run pods.

Usage:
  keelson check [options]
  keelson check --leaks [options]

Checks the kernel and its system calls, capabilities, overlayfs, namespaces, seccomp, AppArmor, SELinux,
cgroups and their driver, the native programs, the CNI configuration, plugins and leftovers, the
runtime handlers and CRIU. Prints a line for each: ok, warn (works with limitations) or fail, with a
remedy. Changes nothing on the host.

Options:
  --config FILE         Read FILE instead of ${defaultConfigFile}.
  --root DIR, --state DIR, --cni-conf-dir DIR, --cni-bin-dir DIR
                        As for serve.
  --leaks               Instead, as root: list monitors, pod directories, mounts, network namespaces,
                        cgroups, network leases and writable layers that belong to no pod, each with how to
                        remove it. Scans twice, two seconds apart, to skip objects of in-flight requests.
  --output FORMAT       text or json. [text]

Exit status:
  0 if no check fails and nothing leaks; 1 otherwise; 2 for an invalid command line or configuration.
`,
  ],
  [
    "image",
    `keelson image: list, pull, load, save, tag and remove images of the running daemon.

Usage:
${imageVerbs.map(({ name, operands }) => `  keelson image ${name} [options] ${operands}`.trimEnd()).join("\n")}

ls     Prints a line per image: its first name, a prefix of its ID, and its download size.
pull   Fetches REFERENCE (a name with a tag or a digest) without credentials, as configured in
       hosts.toml. The image is verified, unpacked and on disk before the command returns. An
       interrupted pull resumes if it is retried within ten minutes.
load   FILE is an OCI image layout (a directory, or a tar of one) or a docker save archive; tars may
       be compressed with gzip or zstd. The daemon reads it, so FILE must be on its host; - is standard
       input, which is first spooled to $TMPDIR or /var/tmp if it is a pipe. Either all images are
       loaded or none.
save   Writes an OCI image layout as a tar, which podman, docker and containerd can load too; - is
       standard output. FILE appears only when it is complete. The archive names each image as it was
       named on the command line; an image given by ID has no name in it.
tag    Gives the image the additional name NAME. If another image has this name, it loses it.
rm     REFERENCE may be a name, an ID or a unique prefix of one; if any does not exist, nothing is
       removed. All names of an image are removed. An image mounted by a container cannot be removed;
       layers in use by a container are kept until it is removed.

Options:
${commonOptions}
  --output FORMAT       text or json. [text]

Exit status:
  0 on success; 1 on failure; 2 for an invalid command line or configuration.

Examples:
  keelson image load busybox.tar
  keelson image save - busybox:1 | ssh node-2 keelson image load -
  keelson image rm localhost/busybox:1
`,
  ],
  [
    "play",
    `keelson play: run the pods of Kubernetes manifests, without a cluster.

Usage:
  keelson play [options] [--logs] FILE…
  keelson play [options] --down FILE…

Plays everything in the FILEs at once, in the foreground, through the CRI socket of a running server,
like a kubelet on a single node. Prints each event as a line on stderr. When all pods have finished, or
on Ctrl-C, it removes what it started: containers, sandboxes, volumes, logs.

FILE is YAML with one or more documents; - is standard input. Everything is validated before anything
is started. An unsupported field is rejected with its path, never ignored:
  spec.containers[0].lifecycle.postStart: not supported by keelson play

Options:
  --logs                Print the containers' output on stdout, prefixed with NAMESPACE/POD/CONTAINER.
  --down                Take down what a play of the same FILEs started: stop a play that is still
                        running, and remove what a killed one left behind.
${commonOptions}

Kinds:
  v1 Pod, ConfigMap, Secret, List; apps/v1 Deployment (its replicas as pods NAME-0 …); batch/v1 Job
  (one pod at a time, NAME-0 …, until one succeeds or backoffLimit is exceeded). ConfigMaps and Secrets
  must be in the FILEs. At most 110 pods, 1000 containers, 4 MiB per FILE.

Supported pod fields:
  containers, init containers, sidecars (init containers with restartPolicy: Always); restartPolicy
  with the kubelet's back-off (at once, then 10 s, doubled up to 5 minutes, reset after 10 minutes of
  running); startup, liveness and readiness probes by exec, httpGet, tcpSocket; command, args, env
  and envFrom with $(NAME), ConfigMap and Secret keys, fieldRef (metadata.name, .namespace, .uid,
  .labels['x'], .annotations['x'], spec.nodeName, spec.serviceAccountName, status.podIP(s),
  status.hostIP(s)); volumes configMap, secret, emptyDir (disk, Memory), hostPath, image; subPath of
  configMap, secret and image volumes; readOnly, recursiveReadOnly, mountPropagation; resources cpu and
  memory; ports with hostPort; security contexts except SELinux, Windows, procMount and Localhost
  seccomp profiles; hostNetwork, hostPID, hostIPC, shareProcessNamespace, hostname, hostAliases,
  dnsPolicy, dnsConfig, activeDeadlineSeconds, terminationGracePeriodSeconds, runtimeClassName, tty,
  stdin.

Differences from a cluster:
  There is no service DNS, no service account and no scheduling. runtimeClassName is the name of a
  runtime handler. The default seccomp profile is RuntimeDefault (a kubelet's seccompDefault). Pods use
  the server's own cgroup parent; their QoS class affects CPU shares and OOM scores. ConfigMap and
  Secret files are not updated while a pod runs.

Signals:
  SIGINT, SIGTERM, SIGHUP   Take down with grace periods; a second signal kills what is still running.

Files:
  /var/lib/keelson/play/, play.lock
                            Volumes and logs of what is being played, until it is taken down.

Exit status:
  0 if every pod succeeded, or was running when the play was stopped; 1 if a pod failed or did not get
  to run, or something could not be taken down; 2 for an invalid command line, configuration or
  manifest, in which case nothing was started. --down: 0 if nothing of the FILEs is left, else 1 or 2.

Examples:
  keelson play --logs web.yaml
  keelson play --down web.yaml
`,
  ],
  [
    "config",
    `keelson config: print the configuration in force.

Usage:
  keelson config [options]
  keelson config --default > /etc/keelson/config.toml

Reads the configuration as keelson serve would, validates it, and prints all of it as TOML.

${keys()}

Options:
  --default             Print a sample file instead: every key as a comment, with its default.
  The options of keelson serve.

Exit status:
  0, or 2 for an invalid command line or configuration.
`,
  ],
  [
    "version",
    `keelson version: print the version of Keelson and of the Node.js that runs it.

Usage:
  keelson version [--output json]
  keelson --version
`,
  ],
]);

/** One or more lines per key: its effect, and its default in brackets. */
function keys(): string {
  return Object.values(settings)
    .map(({ key, effect, ...rest }) => {
      const usual = "fallback" in rest ? ` [${[rest.fallback].flat().join(", ")}]` : "";
      return wrapped(`  ${key.replace("*", "NAME").padEnd(30)}`, `${effect}${usual}`);
    })
    .join("\n");
}

/** Wraps `words` after a first column, in lines of at most 100 characters. */
function wrapped(column: string, words: string): string {
  const lines = [column];
  for (const word of words.split(" ")) {
    const line = lines.at(-1) ?? "";
    if (line.length + word.length + 1 > 100) lines.push(`${" ".repeat(column.length)} ${word}`);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.join("\n");
}
