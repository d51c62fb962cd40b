// The description of the method, for the page of results.

export const method = `## How

p50 / p95 by nearest rank; one number where there is one sample. Ratios are of medians, Keelson's to the peer's, and only
with 20 samples or more of both. One program drives all servers over CRI by gRPC, one at a time, each round beginning with
another; a first round does not count. Round trips and the client's own work are in every time.

Same for all: the image, pulled from a registry on loopback; the CNI plugins and their configuration (bridge with
masquerade, host-local, portmap), but a bridge and a subnet for each; pods as a kubelet asks for them, with a cgroup each
made before, a PID namespace for each container, and no seccomp profile named. Each server has a mount namespace, roots and
a cgroup of its own, with /run in memory and the rest on an ext4 with a journal (e2e/bench/peers/disk.ts), as on a node. What is not said in its configuration (e2e/bench/peers/servers) is
its default; NRI is off. Keelson is the built package, \`dist/\`.

CPU is that of the server's cgroup and all below it: the daemon, monitors, shims, conmons, runtimes, CNI plugins, and the
containers themselves, whose shell or \`true\` is the same for all. It is read 50 ms after the last answer. Kernel threads,
which take down network namespaces and mounts, are in nobody's. Servers that wait for their turn run on: containerd samples
its containers each second meanwhile.

- *Keelson's own plugins* stand beside the peers with the reference plugins, as each would be installed; and once more beside a
  CRI-O that runs Keelson's plugins too, so that it shows what is the server's and what the plugins'.
- *less CNI ADD*: every sample less the median of ADD alone in the same run.
- *pod start* is RunPodSandbox, CreateContainer and StartContainer; *removal* is StopContainer, StopPodSandbox,
  RemoveContainer and RemovePodSandbox.
- *PSS*: proportional set size of the daemon, its own program's pages in full, as the bench shares Node.js with Keelson; and
  of its monitors, shims or conmons. containerd's pause processes are in neither. It is weighed right after the last list.
- *log*: a container copies a file of 100-byte lines to its output; until the server says that it has ended and the log is
  whole. Logs are on tmpfs.
- *kill -9*: from the signal, over an immediate start, until all pods are listed as ready and all containers as running.

Floors, measured between the servers' turns: the CNI plugins alone, started one after another, or for ten namespaces at
once by one shell; bare \`crun create\` and
\`start\`, and \`crun exec\`, without an overlay, cgroup limits or a network namespace; and *kernel*, a C program that does
only the kernel's part: it makes a cgroup in each hierarchy, clones into namespaces, mounts an overlay root and a container's usual file systems, pivots and
execs, or enters cgroups and namespaces, forks and execs, or reads the cgroup files that statistics are made of, which it keeps open
(e2e/bench/peers/floors/floor.c). *Its files written* is a C program
that writes as many files of the image's mean size, and no more: no network, no inflating, no digests. *A flush to disk* is a file of 2 KiB replaced, with fdatasync, as whatever must outlive a power cut
is. *gRPC alone* is a Node.js process with grpc-js that answers Version, or the row's own calls, with bytes made before, Keelson's
answer to them: what no daemon of this kind can go below in time; *started*: from its kill to its first answer. Its memory has all
of Node.js that a start uses; of that Keelson lets go what it does not need any more (native/client/memory.ts).
`;
