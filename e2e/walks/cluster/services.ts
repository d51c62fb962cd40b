// Services through kube-proxy with nftables, for IPv4 and IPv6, and their names through CoreDNS.

import assert from "node:assert/strict";
import { RbacAuthorizationV1Api, type V1Service, type V1ServiceSpec } from "@kubernetes/client-node";
import { until } from "../../fixtures/steps.ts";
import { corednsImage } from "./images.ts";
import { type Scene, web } from "./scene.ts";
import { deploy, readyPods } from "./workloads.ts";

const server = web("web");

export async function services(scene: Scene): Promise<void> {
  const { check, cluster, namespace } = scene;
  const nodeSelector = { "kubernetes.io/hostname": scene.node.name };
  await Promise.all([
    deploy(scene, "pair", 2, { nodeSelector, containers: [server] }),
    deploy(scene, "one", 1, { nodeSelector, containers: [server] }),
  ]);
  const [pair, [one]] = await Promise.all([readyPods(scene, "pair", 2), readyPods(scene, "one", 1)]);
  const hosts = pair.map(({ metadata }) => metadata?.name ?? "").toSorted();
  const client = one?.metadata?.name ?? "";
  const answers = async (address: string, count: number): Promise<string[]> => {
    const script = `n=0; while [ $n -lt ${count} ]; do printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 5 ${address} 80 | tail -n 1; echo; n=$((n + 1)); done`;
    const { stdout } = await scene.exec(client, "web", "sh", "-c", script);
    return [...new Set(stdout.split("\n").filter((line) => line !== ""))].toSorted();
  };
  const balanced = async (address: string) =>
    await until(`both pods answer at ${address}`, 20_000, async () => {
      const seen = await answers(address, 12);
      return seen.join() === hosts.join() ? true : undefined;
    });

  const service = await create(scene, "pair", { ipFamilyPolicy: "RequireDualStack", type: "NodePort" });
  const [v4 = "", v6 = ""] = service.spec?.clusterIPs ?? [];
  await check("pods have an address of each family", async () => {
    for (const { status } of pair)
      assert.deepEqual(
        status?.podIPs?.map(({ ip }) => (ip?.includes(":") ? 6 : 4)),
        [4, 6],
      );
  });
  await check("a cluster IP reaches every pod behind it", async () => void (await balanced(v4)));
  await check("an IPv6 cluster IP does too", async () => void (await balanced(v6)));
  await check("a NodePort reaches them from outside", async () => {
    const port = service.spec?.ports?.[0]?.nodePort;
    const seen = new Set<string>();
    await until("both pods answer", 20_000, async () => {
      const response = await fetch(`http://${scene.node.host.addresses[0]}:${port}/hostname`, {
        headers: { connection: "close" },
      }).catch(() => undefined);
      if (response !== undefined) seen.add(await response.text());
      return seen.size === 2 ? true : undefined;
    });
  });
  await check("a pod reaches itself through its service", async () => {
    const { spec } = await create(scene, "one", {});
    await until("it answers", 20_000, async () =>
      (await answers(spec?.clusterIP ?? "", 1)).join() === client ? true : undefined,
    );
  });
  await check("a host port reaches its pod", async () => {
    await scene.create("port", { containers: [{ ...server, ports: [{ containerPort: 8080, hostPort: 18_080 }] }] });
    await scene.ready("port");
    const response = await fetch(`http://${scene.node.host.addresses[0]}:18080/hostname`);
    assert.equal(await response.text(), "port");
    await scene.remove("port");
  });

  await startDns(scene);
  await check("a service is reachable by its short and its full name", async () => {
    for (const name of ["pair", `pair.${namespace}.svc.cluster.local`]) {
      const connect = () => scene.exec(client, "web", "agnhost", "connect", "--timeout=3s", `${name}:80`);
      await until(`${name} is connected to`, 30_000, async () =>
        (await connect()).failure === undefined ? true : undefined,
      );
    }
    const { stdout } = await scene.exec(client, "web", "nslookup", `pair.${namespace}.svc.cluster.local`);
    assert.ok(stdout.includes(v4), stdout);
    assert.ok(stdout.includes(v6), stdout);
  });
  await check("a pod's own hostname, dnsConfig and hostAliases", async () => {
    await scene.create("names", {
      hostname: "chosen",
      hostAliases: [{ ip: "192.0.2.7", hostnames: ["elsewhere"] }],
      dnsPolicy: "None",
      dnsConfig: { nameservers: ["192.0.2.53"], searches: ["example.test"], options: [{ name: "ndots", value: "2" }] },
      containers: [server],
    });
    await scene.ready("names");
    const { stdout } = await scene.exec("names", "web", "sh", "-c", "hostname; cat /etc/hosts /etc/resolv.conf");
    assert.match(stdout, /^chosen$/m);
    assert.match(stdout, /^192\.0\.2\.7\s+elsewhere$/m);
    assert.match(stdout, /^nameserver 192\.0\.2\.53$/m);
    assert.match(stdout, /^search example\.test$/m);
    await scene.remove("names");
  });
  await cluster.apps.deleteNamespacedDeployment({ namespace: "kube-system", name: "coredns" });
  for (const name of ["pair", "one"]) await cluster.apps.deleteNamespacedDeployment({ namespace, name });
}

function create({ cluster, namespace }: Scene, app: string, spec: V1ServiceSpec): Promise<V1Service> {
  const ports = [{ port: 80, targetPort: 8080 }];
  return cluster.core.createNamespacedService({
    namespace,
    body: { metadata: { name: app }, spec: { selector: { app }, ports, ...spec } },
  });
}

/** CoreDNS as in a regular cluster, at the address that kubelets configure in their pods. */
async function startDns(scene: Scene): Promise<void> {
  const { core, kubeConfig } = scene.cluster;
  const system: Scene = { ...scene, namespace: "kube-system" };
  const namespace = system.namespace;
  const name = "coredns";
  const rbac = kubeConfig.makeApiClient(RbacAuthorizationV1Api);
  const subjects = [{ kind: "ServiceAccount", name, namespace }];
  const lines = ["errors", "ready", "kubernetes cluster.local in-addr.arpa ip6.arpa", "cache 1"];
  await Promise.all([
    core.createNamespacedServiceAccount({ namespace, body: { metadata: { name } } }),
    rbac.createClusterRole({
      body: {
        metadata: { name },
        rules: [
          { apiGroups: [""], resources: ["endpoints", "services", "pods", "namespaces"], verbs: ["list", "watch"] },
          { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
        ],
      },
    }),
    rbac.createClusterRoleBinding({
      body: {
        metadata: { name },
        subjects,
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
      },
    }),
    core.createNamespacedConfigMap({
      namespace,
      body: { metadata: { name }, data: { Corefile: `.:53 {\n${lines.join("\n")}\n}\n` } },
    }),
    core.createNamespacedService({
      namespace,
      body: {
        metadata: { name: "kube-dns" },
        spec: {
          clusterIP: "10.96.0.10",
          selector: { app: name },
          ports: [
            { name: "dns", port: 53, protocol: "UDP" },
            { name: "dns-tcp", port: 53, protocol: "TCP" },
          ],
        },
      },
    }),
  ]);
  await deploy(system, name, 2, {
    serviceAccountName: name,
    dnsPolicy: "Default",
    volumes: [{ name: "config", configMap: { name } }],
    containers: [
      {
        name,
        image: corednsImage,
        args: ["-conf", "/etc/coredns/Corefile"],
        volumeMounts: [{ name: "config", mountPath: "/etc/coredns", readOnly: true }],
        readinessProbe: { httpGet: { path: "/ready", port: 8181 }, periodSeconds: 1 },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { add: ["NET_BIND_SERVICE"], drop: ["ALL"] },
        },
      },
    ],
  });
  await scene.check("CoreDNS becomes ready", async () => void (await readyPods(system, name, 2)));
}
