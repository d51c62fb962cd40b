// The commands with their operands and options, as one table: the command line is parsed by it, and the shells' completions
// are made of it.

/** What a word of the command line stands for: completions offer such words. */
export type Word = "directory" | "file" | "image" | "command" | "text" | readonly string[];

interface Option {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
  /** Of its value; a boolean has none. */
  readonly word?: Word;
  readonly effect: string;
}

export const options = {
  help: { type: "boolean", short: "h", effect: "print the manual" },
  version: { type: "boolean", effect: "print the version" },
  config: { type: "string", word: "file", effect: "read this configuration" },
  root: { type: "string", word: "directory", effect: "durable state" },
  state: { type: "string", word: "directory", effect: "volatile state" },
  socket: { type: "string", word: "file", effect: "where CRI is served" },
  "cni-conf-dir": { type: "string", word: "directory", effect: "the network's configuration" },
  "cni-bin-dir": { type: "string", multiple: true, word: "directory", effect: "its plugins" },
  registries: { type: "string", word: "directory", effect: "tree of HOST/hosts.toml files" },
  "log-level": { type: "string", word: ["debug", "info", "warn", "error"], effect: "lines of this level and above" },
  output: { type: "string", word: ["text", "json"], effect: "the form of what is printed" },
  default: { type: "boolean", effect: "print every key with its default" },
  leaks: { type: "boolean", effect: "list what belongs to no pod" },
  down: { type: "boolean", effect: "take down what is being played" },
  logs: { type: "boolean", effect: "print the containers' logs" },
} as const satisfies Readonly<Record<string, Option>>;

export type OptionName = keyof typeof options;

const places = ["config", "root", "state", "socket"] as const satisfies readonly OptionName[];
const daemonOptions = [...places, "cni-conf-dir", "cni-bin-dir", "registries", "log-level"] as const;

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** In the manual's form. */
  readonly operands: string;
  readonly word?: Word;
  /** Besides --help, which each has. */
  readonly options: readonly OptionName[];
}

export const commands = [
  { name: "serve", summary: "Run the daemon.", operands: "", options: daemonOptions },
  {
    name: "status",
    summary: "Show what runs, what is in progress and what is left over.",
    operands: "",
    options: [...places, "output"],
  },
  {
    name: "check",
    summary: "Check whether this host can run pods, and what to do where it cannot.",
    operands: "",
    options: [...daemonOptions, "leaks", "output"],
  },
  {
    name: "image",
    summary: "List, pull, load, save, name and remove images of the running daemon.",
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
  { name: "ls", summary: "List them.", operands: "", words: [], most: 0 },
  { name: "pull", summary: "Fetch one from its registry.", operands: "REFERENCE", words: ["text"], most: 1 },
  { name: "load", summary: "Take in those of an archive.", operands: "FILE", words: ["file"], most: 1 },
  {
    name: "save",
    summary: "Write an archive of them.",
    operands: "FILE REFERENCE…",
    words: ["file", "image"],
    most: Number.POSITIVE_INFINITY,
  },
  {
    name: "tag",
    summary: "Give one another name.",
    operands: "REFERENCE NAME",
    words: ["image", "text"],
    most: 2,
  },
  { name: "rm", summary: "Remove them.", operands: "REFERENCE…", words: ["image"], most: Number.POSITIVE_INFINITY },
] as const satisfies readonly {
  readonly name: string;
  readonly summary: string;
  readonly operands: string;
  /** Of each operand that there has to be. */
  readonly words: readonly Word[];
  readonly most: number;
}[];

export type ImageVerb = (typeof imageVerbs)[number]["name"];
