// The fields of Kubernetes objects that keelson play supports, model by model. All others are rejected.

import * as k8s from "./models.ts";

interface Attribute {
  readonly name: string;
  readonly type: string;
}

/** A model class of the client library, with the fields of its kind and their types. */
interface Model<Type> {
  new (): Type;
  readonly name: string;
  getAttributeTypeMap(): readonly Attribute[];
}

/** Fields that Kubernetes requires in parts of a pod, and on which the code here relies. */
const requiredFields: ReadonlyMap<string, readonly string[]> = new Map([
  ["V1EnvVar", ["name"]],
  ["V1ConfigMapKeySelector", ["key"]],
  ["V1SecretKeySelector", ["key"]],
  ["V1ObjectFieldSelector", ["fieldPath"]],
  ["V1HTTPGetAction", ["port"]],
  ["V1HTTPHeader", ["name", "value"]],
  ["V1TCPSocketAction", ["port"]],
  ["V1VolumeMount", ["name", "mountPath"]],
  ["V1KeyToPath", ["key", "path"]],
  ["V1HostPathVolumeSource", ["path"]],
  ["V1Sysctl", ["name", "value"]],
  ["V1HostAlias", ["ip"]],
  ["V1PodDNSConfigOption", ["name"]],
]);

export interface SupportedModel {
  /** Every field that Kubernetes has, with its type as the library writes it: "string", "Array<V1Container>". */
  readonly types: ReadonlyMap<string, string>;
  readonly supported: ReadonlySet<string>;
  readonly required: readonly string[];
}

function model<Type>(model: Model<Type>, ...fields: readonly (keyof Type & string)[]): [string, SupportedModel] {
  const types = new Map(model.getAttributeTypeMap().map(({ name, type }) => [name, type]));
  return [model.name, { types, supported: new Set(fields), required: requiredFields.get(model.name) ?? [] }];
}

const object = ["apiVersion", "kind", "metadata"] as const;
const optionalKey = ["name", "key", "optional"] as const;
const keyFiles = ["items", "defaultMode", "optional"] as const;
const anyContext = ["runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "appArmorProfile"] as const;

/** By name of the library's class. */
export const supportedModels: ReadonlyMap<string, SupportedModel> = new Map([
  model(k8s.V1Pod, ...object, "spec"),
  model(k8s.V1PodTemplateSpec, "metadata", "spec"),
  model(k8s.V1Deployment, ...object, "spec"),
  model(k8s.V1DeploymentSpec, "replicas", "selector", "template"),
  model(k8s.V1LabelSelector, "matchLabels"),
  model(k8s.V1Job, ...object, "spec"),
  model(k8s.V1JobSpec, "backoffLimit", "activeDeadlineSeconds", "completions", "parallelism", "template"),
  model(k8s.V1ConfigMap, ...object, "data", "binaryData", "immutable"),
  model(k8s.V1Secret, ...object, "data", "stringData", "type", "immutable"),
  model(k8s.V1ObjectMeta, "name", "namespace", "labels", "annotations"),
  model(
    k8s.V1PodSpec,
    "activeDeadlineSeconds",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "initContainers",
    "restartPolicy",
    "runtimeClassName",
    "securityContext",
    "shareProcessNamespace",
    "terminationGracePeriodSeconds",
    "volumes",
  ),
  model(
    k8s.V1Container,
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "restartPolicy",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "tty",
    "volumeMounts",
    "workingDir",
  ),
  model(k8s.V1EnvVar, "name", "value", "valueFrom"),
  model(k8s.V1EnvVarSource, "configMapKeyRef", "secretKeyRef", "fieldRef"),
  model(k8s.V1ConfigMapKeySelector, ...optionalKey),
  model(k8s.V1SecretKeySelector, ...optionalKey),
  model(k8s.V1ObjectFieldSelector, "apiVersion", "fieldPath"),
  model(k8s.V1EnvFromSource, "prefix", "configMapRef", "secretRef"),
  model(k8s.V1ConfigMapEnvSource, "name", "optional"),
  model(k8s.V1SecretEnvSource, "name", "optional"),
  model(k8s.V1ContainerPort, "name", "containerPort", "hostPort", "hostIP", "protocol"),
  model(k8s.V1ResourceRequirements, "limits", "requests"),
  model(
    k8s.V1Probe,
    "exec",
    "httpGet",
    "tcpSocket",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
  ),
  model(k8s.V1ExecAction, "command"),
  model(k8s.V1HTTPGetAction, "host", "httpHeaders", "path", "port", "scheme"),
  model(k8s.V1HTTPHeader, "name", "value"),
  model(k8s.V1TCPSocketAction, "host", "port"),
  model(k8s.V1VolumeMount, "name", "mountPath", "mountPropagation", "readOnly", "recursiveReadOnly", "subPath"),
  model(k8s.V1Volume, "name", "configMap", "emptyDir", "hostPath", "image", "secret"),
  model(k8s.V1ConfigMapVolumeSource, "name", ...keyFiles),
  model(k8s.V1SecretVolumeSource, "secretName", ...keyFiles),
  model(k8s.V1KeyToPath, "key", "path", "mode"),
  model(k8s.V1EmptyDirVolumeSource, "medium", "sizeLimit"),
  model(k8s.V1HostPathVolumeSource, "path", "type"),
  model(k8s.V1ImageVolumeSource, "reference", "pullPolicy"),
  model(
    k8s.V1PodSecurityContext,
    ...anyContext,
    "fsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "sysctls",
  ),
  model(k8s.V1Sysctl, "name", "value"),
  model(
    k8s.V1SecurityContext,
    ...anyContext,
    "allowPrivilegeEscalation",
    "capabilities",
    "privileged",
    "readOnlyRootFilesystem",
  ),
  model(k8s.V1Capabilities, "add", "drop"),
  model(k8s.V1SeccompProfile, "type"),
  model(k8s.V1AppArmorProfile, "type", "localhostProfile"),
  model(k8s.V1HostAlias, "ip", "hostnames"),
  model(k8s.V1PodDNSConfig, "nameservers", "searches", "options"),
  model(k8s.V1PodDNSConfigOption, "name", "value"),
]);

export type { V1Container as Container, V1PodSpec as PodSpec } from "./models.ts";
