// The manual of the command line, one page a command.

import { commands, imageVerbs } from "./commands.ts";
import { defaultConfigFile } from "./config.ts";
import { settings } from "./settings.ts";

const commonOptions = `  --config FILE         Read FILE instead of ${defaultConfigFile}; its drop-ins are FILE.d/*.toml.
  --root DIR            Durable state: images, records of pods, network leases. [/var/lib/keelson]
  --state DIR           Volatile state: sockets and namespaces of pods. [/run/keelson]
  --socket PATH         Where CRI is served. [keelson.sock in the state directory]`;

export const overview = `Keelson: a Kubernetes CRI server.

Usage:
${commands.map(({ name, operands, summary }) => `  ${`keelson ${name} ${operands}`.trim().padEnd(26)} ${summary}`).join("\n")}

keelson COMMAND --help describes each. status, check, image and version print JSON with --output json.

Exit status of every command:
  0 for success; 1 for a failure; 2 for a wrong command line or configuration.
`;

export const pages: ReadonlyMap<string, string> = new Map([
  [
    "serve",
    `keelson serve: run the daemon.

Usage:
  keelson serve [options]

Serves the Kubernetes Container Runtime Interface (CRI v1) on a unix socket that only root can use.
At its start it recovers what an earlier daemon left: running pods, their logs and exit codes. What
was left half done it finishes in the background. It logs to stderr, one JSON object a line: calls
that change something at info, those that only read at debug.

Options:
${commonOptions}
  --cni-conf-dir DIR    Directory of the network's configuration; watched for changes. [/etc/cni/net.d]
  --cni-bin-dir DIR     Directory of its plugins; may be given several times. [/opt/cni/bin, /usr/lib/cni]
  --registries DIR      Tree of HOST/hosts.toml files: mirrors and TLS of registries.
                        [/etc/keelson/registries]
  --log-level LEVEL     debug, info, warn or error. [info]

Flags win over drop-ins, drop-ins over the file, the file over the defaults in brackets.

Signals:
  SIGTERM, SIGINT  End it within 2 seconds. Every pod runs on; the next start finishes work in progress.
  SIGHUP           Reload the configuration. log.level takes effect; other changed keys are logged and
                   wait for a restart. A wrong configuration leaves the old one in force. hosts.toml
                   files are read at each pull and the network's directory is watched, without a signal.
  SIGUSR1          Log the work in progress: calls, queues, pulls, monitors, plugins, since when.
  SIGUSR2          No effect.

Under systemd (Type=notify) it says when it serves, reloads and stops, feeds the watchdog while its own
socket answers, and serves on the socket that systemd listens on, which has to be the configuration's.

Environment:
  HTTP_PROXY, HTTPS_PROXY, NO_PROXY
      The proxies by which registries are asked, and what is asked directly, in upper or lower case, as
      other container runtimes read them. A proxy speaks HTTP or HTTPS, not SOCKS. Under systemd:
      systemctl edit keelson, and there [Service] and Environment=HTTPS_PROXY=http://proxy:3128.

Files:
  ${defaultConfigFile}, ${defaultConfigFile}.d/*.toml
      For what can stand there see keelson config.
  /var/lib/keelson, /run/keelson/keelson.sock

Exit status:
  0 after SIGTERM or SIGINT; 1 when it could not start or go on; 2 for a wrong command line or
  configuration.

Examples:
  keelson serve
  crictl --runtime-endpoint unix:///run/keelson/keelson.sock pods
`,
  ],
  [
    "status",
    `keelson status: show what runs, what is in progress and what is left over.

Usage:
  keelson status [options]

Asks the running daemon, which answers from memory: its version, age and memory; whether pods can have
networks; pods, containers and images; each call, pull, network plugin and turn in a pod's queue that
is in progress, the oldest first; and what of pods could not be taken down yet, with the reason. At
most 20 lines of each.

What each stage of a pod's start took stands in crictl inspectp, under timeline. A daemon that does not
answer logs the work in progress at SIGUSR1.

Options:
${commonOptions}
  --output FORMAT       text or json. [text]

Exit status:
  0; 1 when no daemon answers; 2 for a wrong command line or configuration.
`,
  ],
  [
    "check",
    `keelson check: check whether this host can run pods.

Usage:
  keelson check [options]
  keelson check --leaks [options]

Checks the kernel and its system calls, capabilities, overlayfs, namespaces, seccomp, AppArmor, SELinux,
cgroups and their driver, the native programs, the network's configuration, plugins and leftovers, the
runtime handlers and CRIU. Each gets a line: ok, warn (it works with less) or fail, with what to do
about it. Nothing is changed.

Options:
  --config FILE         Read FILE instead of ${defaultConfigFile}.
  --root DIR, --state DIR, --cni-conf-dir DIR, --cni-bin-dir DIR
                        As for serve.
  --leaks               Instead, as root: list monitors, pods' directories, mounts, network namespaces,
                        cgroups, network leases and writable layers that belong to no pod, each with how to
                        remove it. It looks twice, two seconds apart: what a request is about is no leak.
  --output FORMAT       text or json. [text]

Exit status:
  0 when nothing failed or leaks; 1 when something does; 2 for a wrong command line or configuration.
`,
  ],
  [
    "image",
    `keelson image: list, pull, load, save, name and remove images of the running daemon.

Usage:
${imageVerbs.map(({ name, operands }) => `  keelson image ${name} [options] ${operands}`.trimEnd()).join("\n")}

ls     One line for each image: its first name, the start of its id, the bytes that a pull of it fetches.
pull   Fetches REFERENCE (a name with a tag or a digest) without credentials, as hosts.toml says. What
       comes is checked, unpacked and on disk before this returns. A pull that breaks off goes on where
       it was when it is asked for again within ten minutes.
load   FILE is an OCI image layout (a directory, or a tar of one) or what docker save writes; tars may
       be compressed by gzip or zstd. The daemon reads it, so FILE has to be on its host; - is standard
       input, of which a pipe is kept in $TMPDIR or /var/tmp meanwhile. Either every image is loaded or
       none.
save   FILE becomes an OCI image layout as a tar, which podman, docker and containerd load too; - is
       standard output. A file has its name once it is whole. Each image goes by the name it is asked
       for by; by an id it goes without one.
tag    NAME is one more name of the image; if another image had it, it has it no more.
rm     REFERENCE may be a name, an id or the unique start of one; where one is not there nothing is
       removed. All names of an image go. One that a container mounts stays; layers that a container
       runs on stay until it is gone.

Options:
${commonOptions}
  --output FORMAT       text or json. [text]

Exit status:
  0 when all was done; 1 when not; 2 for a wrong command line or configuration.

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

Plays everything in the FILEs at once, in the foreground, through the CRI socket of a running server:
what a kubelet would do on one node. Each event is a line on stderr. When all pods have ended, and at
Ctrl-C, it takes down what it started: containers, sandboxes, volumes, logs.

FILE is YAML, of one or several documents; - is standard input. Everything is checked before anything
is started. A field that is not supported is refused by its path and never ignored:
  spec.containers[0].lifecycle.postStart: not supported by keelson play

Options:
  --logs                Print the containers' output on stdout, NAMESPACE/POD/CONTAINER in front.
  --down                Take down what a play of the same FILEs has started: one that runs elsewhere
                        ends, and what a killed one left is removed.
${commonOptions}

Kinds:
  v1 Pod, ConfigMap, Secret, List; apps/v1 Deployment (its replicas as pods NAME-0 …); batch/v1 Job
  (one pod at a time, NAME-0 …, until one succeeds or backoffLimit is passed). ConfigMaps and Secrets
  have to be in the FILEs. At most 110 pods, 1000 containers, 4 MiB a FILE.

Supported of a pod:
  containers, init containers, sidecars (init containers with restartPolicy: Always); restartPolicy
  with the kubelet's back-off (at once, then 10 s, doubled up to 5 minutes, from the beginning after
  10 minutes); startup, liveness and readiness probes by exec, httpGet, tcpSocket; command, args, env
  and envFrom with $(NAME), ConfigMap and Secret keys, fieldRef (metadata.name, .namespace, .uid,
  .labels['x'], .annotations['x'], spec.nodeName, spec.serviceAccountName, status.podIP(s),
  status.hostIP(s)); volumes configMap, secret, emptyDir (disk, Memory), hostPath, image; subPath of
  configMap, secret and image volumes; readOnly, recursiveReadOnly, mountPropagation; resources cpu and
  memory; ports with hostPort; security contexts but for SELinux, Windows, procMount and own seccomp
  files; hostNetwork, hostPID, hostIPC, shareProcessNamespace, hostname, hostAliases, dnsPolicy,
  dnsConfig, activeDeadlineSeconds, terminationGracePeriodSeconds, runtimeClassName, tty, stdin.

Unlike a cluster:
  There is no DNS of services, no service account and no scheduling. runtimeClassName is the name of a
  runtime handler. seccomp is RuntimeDefault where nothing is said (a kubelet's seccompDefault). Pods
  are in the server's own cgroup parent; their QoS class shows in shares and OOM scores. Files of
  ConfigMaps and Secrets do not change while a pod runs.

Signals:
  SIGINT, SIGTERM, SIGHUP   Take down with grace periods; a second one kills what is still ending.

Files:
  /var/lib/keelson/play/, play.lock
                            What is being played: volumes and logs, until it is taken down.

Exit status:
  0 when every pod succeeded, or was running when it was asked to end; 1 when one failed or had not
  come to run, or something could not be taken down; 2 for a wrong command line, configuration or
  manifest, and then nothing was started. --down: 0 when nothing of the FILEs is left, else 1 or 2.

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

Reads what keelson serve would read, checks it, and prints all of it as TOML.

${keys()}

Options:
  --default             Print a file to start from instead: every key as a comment, with its default.
  Those of keelson serve.

Exit status:
  0, or 2 for a wrong command line or configuration.
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

/** A line or more for each key: what it does, and its default in brackets. */
function keys(): string {
  return Object.values(settings)
    .map(({ key, effect, ...rest }) => {
      const usual = "fallback" in rest ? ` [${[rest.fallback].flat().join(", ")}]` : "";
      return wrapped(`  ${key.replace("*", "NAME").padEnd(30)}`, `${effect}${usual}`);
    })
    .join("\n");
}

/** Words behind a first column, in lines of 100 characters at most. */
function wrapped(column: string, words: string): string {
  const lines = [column];
  for (const word of words.split(" ")) {
    const line = lines.at(-1) ?? "";
    if (line.length + word.length + 1 > 100) lines.push(`${" ".repeat(column.length)} ${word}`);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.join("\n");
}
