// Manifest files → workloads, and the data of the ConfigMaps and Secrets that they use.
//
// Bounds: the size of a file (`fileLimit`), the number of values in all files (check-fields.ts), pods (`podLimit`, a
// kubelet's default) and containers (`containerLimit`).

import { basename } from "node:path";
import { boolYaml11Tag, CORE_SCHEMA, defineScalarTag, intYaml11Tag, loadAll, mergeTag, NOT_RESOLVED } from "js-yaml";
import { firstLine, readBoundedBytes, UnfitFile } from "../../native/index.ts";
import { type At, FieldChecker, isFields } from "./check-fields.ts";
import { checkPodSpec } from "./check-pod.ts";
import { playErrors } from "./errors.ts";
import { dnsLabel, dnsSubdomain } from "./names.ts";
import type { PodSpec } from "./supported.ts";

const fileLimit = 4 << 20;
const podLimit = 110;
const containerLimit = 1000;

/** Kubernetes requires UTF-8. Without `fatal`, other bytes would be silently replaced. */
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** By key. */
export type Data = ReadonlyMap<string, Buffer>;

/** The data of a ConfigMap or a Secret. */
export interface KeyValues {
  /** The values usable as environment variables: for a ConfigMap, only those that are text. */
  readonly variables: Data;
  readonly files: Data;
}

export interface PodTemplate {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: PodSpec;
}

export interface Workload {
  readonly kind: "Pod" | "Deployment" | "Job";
  readonly namespace: string;
  readonly name: string;
  readonly template: PodTemplate;
  /** Number of concurrent pods; a Job runs them one after another. */
  readonly replicas: number;
  /** For a Job: the number of failures after which it fails. */
  readonly backoffLimit: number;
  /** For a Job. */
  readonly activeDeadlineSeconds: number | undefined;
}

export interface Manifest {
  readonly workloads: readonly Workload[];
  /** By namespace/name. */
  readonly configMaps: ReadonlyMap<string, KeyValues>;
  readonly secrets: ReadonlyMap<string, KeyValues>;
}

interface Document {
  readonly at: At;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly object: Record<string, unknown>;
}

/** Integers of YAML 1.1, plus 0o644 of YAML 1.2, minus base 60: 22:22 is text. */
const integerTag = defineScalarTag(intYaml11Tag.tagName, {
  ...intYaml11Tag,
  resolve: (source, ...rest) =>
    source.includes(":") ? NOT_RESOLVED : intYaml11Tag.resolve(source.replace(/^([-+]?0)o/, "$1"), ...rest),
});

/** As Kubernetes reads YAML: 0644 is octal, yes and on are true, a date is text. */
const schema = CORE_SCHEMA.withTags(integerTag, boolYaml11Tag, mergeTag);

const models: ReadonlyMap<string, string> = new Map([
  ["v1 Pod", "V1Pod"],
  ["v1 ConfigMap", "V1ConfigMap"],
  ["v1 Secret", "V1Secret"],
  ["apps/v1 Deployment", "V1Deployment"],
  ["batch/v1 Job", "V1Job"],
]);

/** Reads and checks all files; throws the first error, in which case nothing is played. */
export async function loadManifests(files: readonly string[]): Promise<Manifest> {
  const checker = new FieldChecker();
  const documents: Document[] = [];
  for (const file of files) documents.push(...readDocuments(file, await readManifest(file), checker));
  refuseTwins(documents);
  const dataOf = (kind: string) =>
    new Map(
      documents.filter((each) => each.kind === kind).map((each) => [`${each.namespace}/${each.name}`, data(each)]),
    );
  const given = { configMaps: dataOf("ConfigMap"), secrets: dataOf("Secret") };
  const played = documents.flatMap((document) => workload(document).map((found) => ({ at: document.at, found })));
  const workloads = played.map(({ found }) => found);
  const manifest = { ...given, workloads };
  if (workloads.length === 0) throw playErrors.nothingToPlay({ files: files.join(", ") });
  checkSize(workloads);
  for (const { at, found } of played) {
    const { kind, namespace, template } = found;
    checkPodSpec(template.spec, { at, path: specPath(kind), kind, namespace, manifest });
  }
  return manifest;
}

async function readManifest(file: string): Promise<string> {
  try {
    return utf8.decode(file === "-" ? await readInput(process.stdin) : await readBoundedBytes(file, fileLimit));
  } catch (error) {
    throw playErrors.manifestUnreadable({ file, reason: firstLine(error) }, error);
  }
}

async function readInput(input: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of input) {
    length += chunk.length;
    if (length > fileLimit) throw new UnfitFile(`it is longer than ${fileLimit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function readDocuments(file: string, content: string, checker: FieldChecker): Document[] {
  const name = file === "-" ? "standard input" : basename(file);
  let values: unknown[];
  try {
    values = loadAll(content, { schema });
  } catch (error) {
    // A message of several lines shows the position; the reason is in the first.
    throw playErrors.manifestSyntax({ file: name, reason: firstLine(error) }, error);
  }
  return values.flatMap((value, index) => {
    const at = values.length === 1 ? name : `${name}, document ${index + 1}`;
    return value === null || value === undefined ? [] : readObject(value, at, checker);
  });
}

/** Reads one object, or the objects of a List. */
function readObject(value: unknown, at: At, checker: FieldChecker): Document[] {
  if (!isFields(value) || value.apiVersion !== "v1" || value.kind !== "List") return [readListed(value, at, checker)];
  const { items = [], metadata: _, apiVersion: __, kind: ___, ...others } = value;
  const [other] = Object.keys(others);
  if (other !== undefined) throw playErrors.fieldUnknown({ at, path: other });
  if (!Array.isArray(items))
    throw playErrors.fieldWrong({ at, path: "items", problem: "it is not a list", wanted: "a list" });
  return items.map((item: unknown, index) => readListed(item, `${at}: items[${index}]`, checker));
}

/** Reads one object. A List is refused: with aliases, a List could contain itself, or a billion Lists. */
function readListed(value: unknown, at: At, checker: FieldChecker): Document {
  if (!isFields(value))
    throw playErrors.fieldWrong({ at, path: "the document", problem: "it is not an object", wanted: "a Pod" });
  const apiVersion = wordIn(value, "apiVersion");
  const kind = wordIn(value, "kind");
  const full = `${apiVersion} ${kind}`;
  const type = models.get(full);
  if (type === undefined)
    throw playErrors.kindUnsupported({ at, kind: full === "v1 List" ? "v1 List in a List" : full });
  const metadata = isFields(value.metadata) ? value.metadata : {};
  const { name } = metadata;
  const named = `${at}: ${kind} ${typeof name === "string" ? name : "without a name"}`;
  checker.check(value, type, named, "");
  const { namespace = "default" } = metadata;
  if (typeof name !== "string" || !dnsSubdomain(name)) throw wrongName(named, "metadata.name", name);
  if (typeof namespace !== "string" || !dnsLabel(namespace)) throw wrongName(named, "metadata.namespace", namespace);
  return { at: named, kind, namespace, name, object: value };
}

function wordIn(object: Readonly<Record<string, unknown>>, field: string): string {
  const value = object[field];
  if (typeof value === "object" && value !== null) return `an invalid ${field}`;
  return value === null || value === undefined ? `no ${field}` : String(value);
}

function wrongName(at: At, path: string, name: unknown): Error {
  const problem = name === undefined ? "it is missing" : `it is ${JSON.stringify(name)}`;
  return playErrors.fieldWrong({ at, path, problem, wanted: "lower-case letters, digits, hyphens and dots" });
}

function refuseTwins(documents: readonly Document[]): void {
  const seen = new Map<string, At>();
  for (const { at, kind, namespace, name } of documents) {
    const key = `${kind} ${namespace}/${name}`;
    const first = seen.get(key);
    if (first !== undefined) throw playErrors.objectTwice({ at, kind, name: `${namespace}/${name}`, first });
    seen.set(key, at);
  }
}

function checkSize(workloads: readonly Workload[]): void {
  const sum = (count: (workload: Workload) => number) => workloads.reduce((total, each) => total + count(each), 0);
  if (sum(({ replicas }) => replicas) > podLimit) throw playErrors.manifestTooLarge({ limit: podLimit, what: "pods" });
  const containers = ({ containers = [], initContainers = [] }: PodSpec) => containers.length + initContainers.length;
  if (sum(({ replicas, template }) => replicas * containers(template.spec)) > containerLimit)
    throw playErrors.manifestTooLarge({ limit: containerLimit, what: "containers" });
}

/** The object has passed the field checker, so its fields have the types of Kubernetes. */
interface CheckedWorkload {
  readonly metadata?: Partial<PodTemplate>;
  readonly spec?: PodSpec & CheckedSpec;
}

interface CheckedSpec {
  readonly template?: CheckedWorkload;
  readonly replicas?: number;
  readonly completions?: number;
  readonly parallelism?: number;
  readonly backoffLimit?: number;
}

function workload({ at, kind, namespace, name, object }: Document): Workload[] {
  if (kind !== "Pod" && kind !== "Deployment" && kind !== "Job") return [];
  const { spec }: CheckedWorkload = object;
  for (const field of ["completions", "parallelism"] as const) {
    const value = kind === "Job" ? (spec?.[field] ?? 1) : 1;
    if (value !== 1) throw playErrors.fieldUnsupported({ at, path: `spec.${field} = ${value}` });
  }
  const count = (field: "replicas" | "backoffLimit", otherwise: number): number => {
    const value = spec?.[field] ?? otherwise;
    if (value < 0)
      throw playErrors.fieldWrong({ at, path: `spec.${field}`, problem: `it is ${value}`, wanted: "0 or more" });
    return value;
  };
  return [
    {
      kind,
      namespace,
      name,
      template: templateOf(object, kind, at),
      replicas: kind === "Deployment" ? count("replicas", 1) : 1,
      backoffLimit: count("backoffLimit", 6),
      activeDeadlineSeconds: kind === "Job" ? spec?.activeDeadlineSeconds : undefined,
    },
  ];
}

/** The path of a pod's spec in its document. */
function specPath(kind: Workload["kind"]): string {
  return kind === "Pod" ? "spec" : "spec.template.spec";
}

function templateOf(object: CheckedWorkload, kind: Workload["kind"], at: At): PodTemplate {
  const path = specPath(kind);
  const { metadata, spec } = kind === "Pod" ? object : (object.spec?.template ?? {});
  if (spec === undefined) throw playErrors.fieldWrong({ at, path, problem: "it is missing", wanted: "a pod's spec" });
  return { labels: metadata?.labels ?? {}, annotations: metadata?.annotations ?? {}, spec };
}

interface CheckedData {
  readonly data?: Readonly<Record<string, string>>;
  readonly binaryData?: Readonly<Record<string, string>>;
  readonly stringData?: Readonly<Record<string, string>>;
}

function data({ at, kind, object }: Document): KeyValues {
  const { data = {}, binaryData = {}, stringData = {} }: CheckedData = object;
  const decode = (values: Readonly<Record<string, string>>, field: string) =>
    Object.entries(values).map(
      ([key, value]) => [checkedKey(key, at), fromBase64(value, at, `${field}.${key}`)] as const,
    );
  const encode = (values: Readonly<Record<string, string>>) =>
    Object.entries(values).map(([key, value]) => [checkedKey(key, at), Buffer.from(value)] as const);
  if (kind === "Secret") {
    const all = new Map([...decode(data, "data"), ...encode(stringData)]);
    return { variables: all, files: all };
  }
  const text = encode(data);
  return { variables: new Map(text), files: new Map([...decode(binaryData, "binaryData"), ...text]) };
}

/** Keys become file names in volumes. */
function checkedKey(key: string, at: At): string {
  if (/^[-._a-zA-Z0-9]{1,253}$/.test(key) && key !== "." && !key.startsWith("..")) return key;
  throw playErrors.fieldWrong({
    at,
    path: "data",
    problem: `it has the key ${JSON.stringify(key)}`,
    wanted: "keys of letters, digits, -, _ and .",
  });
}

/** Line breaks are allowed, as in Kubernetes; the secret value is not included in the error. */
function fromBase64(value: string, at: At, path: string): Buffer {
  const text = value.replaceAll(/[\r\n]/g, "");
  if (text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text)) return Buffer.from(text, "base64");
  throw playErrors.fieldWrong({
    at,
    path,
    problem: "it is not base64",
    wanted: "base64, or use stringData for plain text",
  });
}

/** The name of a workload in messages. */
export function titleOf({ kind, namespace, name }: Pick<Workload, "kind" | "namespace" | "name">): string {
  return `${kind} ${namespace}/${name}`;
}
