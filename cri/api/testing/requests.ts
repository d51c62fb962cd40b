// Requests as kubelets send them, with the field names of CRI's .proto in camelCase.

export function sandboxConfig(more: object = {}): object {
  return {
    metadata: { name: "web", uid: "0b5a", namespace: "default", attempt: 1 },
    hostname: "web",
    logDirectory: "/var/log/pods/default_web_0b5a",
    labels: { app: "web" },
    ...more,
  };
}

export function containerConfig(more: object = {}): object {
  return {
    metadata: { name: "main", attempt: 0 },
    image: { image: "docker.io/library/busybox:1" },
    command: ["sh"],
    logPath: "main/0.log",
    ...more,
  };
}
