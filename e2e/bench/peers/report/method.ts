// The "How" section of the results page: the method of measurement.

export const method = `## How

Values are p50 / p95 by nearest rank, or one number if there is one sample. Ratios are of medians, Keelson's to the peer's,
and only given with at least 20 samples of both. One program drives all servers over CRI (gRPC), one at a time; each round
starts with a different server, and a first round is discarded. Every time includes round trips and the client's own work.

The same for all: the image, pulled from a registry on loopback; the CNI plugins and their configuration (bridge with
masquerade, host-local, portmap), but a separate bridge and subnet for each; pods as a kubelet requests them, with a cgroup
that already exists, a PID namespace per container, and no seccomp profile. Each server has its own mount namespace,
directories and cgroup, with /run in memory and the rest on ext4 with a journal (e2e/bench/peers/disk.ts), as on a node.
Settings that are not in its configuration (e2e/bench/peers/servers) have their default values; NRI is off. Keelson is the
built package, \`dist/\`.

CPU is that of the server's cgroup and all cgroups below it: the daemon, monitors, shims, conmons, runtimes, CNI plugins, and
the containers themselves, which run the same shell or \`true\` for all servers. It is read 50 ms after the last response.
Kernel threads, which tear down network namespaces and mounts, are not included for any server. Servers keep running while
they wait for their turn: containerd samples its containers every second meanwhile.

- *Keelson's own plugins* are compared with peers that run the reference plugins, as each would be installed, and also with
  a CRI-O that runs Keelson's plugins, to separate the server's share from the plugins'.
- *less CNI ADD*: each sample minus the median of ADD alone in the same run.
- *pod start* is RunPodSandbox, CreateContainer and StartContainer; *removal* is StopContainer, StopPodSandbox,
  RemoveContainer and RemovePodSandbox.
- *PSS*: proportional set size of the daemon, with its own program's pages counted in full because the benchmark shares
  Node.js with Keelson, and of its monitors, shims or conmons. containerd's pause processes are not included in either. It
  is measured right after the last list.
- *log*: a container copies a file of 100-byte lines to its output; measured until the server reports its exit and the log
  is complete. Logs are on tmpfs.
- *kill -9*: from the signal, followed by an immediate start, until all pods are listed as ready and all containers as
  running.

Floors are measured between the servers' turns: the CNI plugins alone, started one after another, or by one shell for ten
namespaces at once; bare \`crun create\` and \`start\`, and \`crun exec\`, without an overlay, cgroup limits or a network
namespace; and *kernel*, a C program that does only the kernel's part: it creates a cgroup in each hierarchy, clones into
namespaces, mounts an overlay root and a container's usual file systems, pivots and execs; or enters cgroups and namespaces,
forks and execs; or reads the cgroup files behind the statistics, which it keeps open (e2e/bench/peers/floors/floor.c).
*Its files written* is a C program that only writes as many files of the image's mean size: no network, no decompression,
no digests. *A flush to disk* replaces a file of 2 KiB with fdatasync, as for any data that must survive a power cut. *gRPC
alone* is a Node.js process with grpc-js that answers Version, or the row's own calls, with prepared bytes, Keelson's
response to them: the lower bound in time for a daemon of this kind; *started*: from its kill to its first response. Its
memory includes everything in Node.js that a start uses; Keelson releases what it no longer needs of that
(native/client/memory.ts).
`;
