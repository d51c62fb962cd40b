// The table of commands with their operands and options. The command line is parsed with it, and the shell completions
// are generated from it.

/** The kind of a command line word: completions offer words of this kind. */
export type Word = "directory" | "file" | "image" | "command" | "text" | readonly string[];

interface Option {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
  /** The kind of its value; a boolean has none. */
  readonly word?: Word;
  readonly effect: string;
}

export const options = {
  help: { type: "boolean", short: "h", effect: "print the manual" },
  version: { type: "boolean", effect: "print the version" },
  config: { type: "string", word: "file", effect: "configuration file to read" },
  root: { type: "string", word: "directory", effect: "directory of persistent state" },
  state: { type: "string", word: "directory", effect: "directory of volatile state" },
  socket: { type: "string", word: "file", effect: "CRI socket" },
  "cni-conf-dir": { type: "string", word: "directory", effect: "CNI configuration directory" },
  "cni-bin-dir": { type: "string", multiple: true, word: "directory", effect: "CNI plugin directory" },
  registries: { type: "string", word: "directory", effect: "tree of HOST/hosts.toml files" },
  "log-level": { type: "string", word: ["debug", "info", "warn", "error"], effect: "lowest level to log" },
  output: { type: "string", word: ["text", "json"], effect: "output format" },
  default: { type: "boolean", effect: "print every key with its default" },
  leaks: { type: "boolean", effect: "list objects that belong to no pod" },
  down: { type: "boolean", effect: "take down what is being played" },
  logs: { type: "boolean", effect: "print the containers' logs" },
} as const satisfies Readonly<Record<string, Option>>;

export type OptionName = keyof typeof options;

const places = ["config", "root", "state", "socket"] as const satisfies readonly OptionName[];
const daemonOptions = [...places, "cni-conf-dir", "cni-bin-dir", "registries", "log-level"] as const;

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** As the manual prints them. */
  readonly operands: string;
  readonly word?: Word;
  /** In addition to --help, which every command has. */
  readonly options: readonly OptionName[];
}

export const commands = [
  { name: "serve", summary: "Run the daemon.", operands: "", options: daemonOptions },
  {
    name: "status",
    summary: "Show what is running, in progress and left over.",
    operands: "",
    options: [...places, "output"],
  },
  {
    name: "check",
    summary: "Check whether this host can run pods, and how to fix what is missing.",
    operands: "",
    options: [...daemonOptions, "leaks", "output"],
  },
  {
    name: "image",
    summary: "List, pull, load, save, tag and remove images of the running daemon.",
    operands: "VERB",
    options: [...places, "output"],
  },
  {
    name: "play",
    summary: "Run the pods of Kubernetes manifests, without a cluster.",
    operands: "FILE…",
    word: "file",
    options: [...places, "logs", "down"],
  },
  {
    name: "config",
    summary: "Print the configuration in force.",
    operands: "",
    options: [...daemonOptions, "default"],
  },
  { name: "version", summary: "Print the version, as --version does.", operands: "", options: ["output"] },
  { name: "help", summary: "Print the manual of a command.", operands: "COMMAND", word: "command", options: [] },
] as const satisfies readonly Command[];

/** `keelson image VERB`. */
export const imageVerbs = [
  { name: "ls", summary: "List images.", operands: "", words: [], most: 0 },
  { name: "pull", summary: "Pull an image from its registry.", operands: "REFERENCE", words: ["text"], most: 1 },
  { name: "load", summary: "Load the images of an archive.", operands: "FILE", words: ["file"], most: 1 },
  {
    name: "save",
    summary: "Save images to an archive.",
    operands: "FILE REFERENCE…",
    words: ["file", "image"],
    most: Number.POSITIVE_INFINITY,
  },
  {
    name: "tag",
    summary: "Give an image another name.",
    operands: "REFERENCE NAME",
    words: ["image", "text"],
    most: 2,
  },
  { name: "rm", summary: "Remove images.", operands: "REFERENCE…", words: ["image"], most: Number.POSITIVE_INFINITY },
] as const satisfies readonly {
  readonly name: string;
  readonly summary: string;
  readonly operands: string;
  /** The kind of each mandatory operand. */
  readonly words: readonly Word[];
  readonly most: number;
}[];

export type ImageVerb = (typeof imageVerbs)[number]["name"];
