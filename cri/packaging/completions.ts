// Shell completions, generated from the command line's own table: completions.ts bash, zsh or fish.

import {
  type Command,
  commands as commandTable,
  imageVerbs,
  type OptionName,
  options as optionTable,
  type Word,
} from "../cli/commands.ts";

const commands: readonly Command[] = commandTable;
const names = commands.map(({ name }) => name);
const verbs = imageVerbs.map(({ name }) => name);

interface Option {
  readonly name: OptionName;
  readonly effect: string;
  /** The kind of its value; undefined for a boolean. */
  readonly word: Word | undefined;
}

function optionsOf({ options }: Command): readonly Option[] {
  return [...options, "help" as const].map(optionOf);
}

function optionOf(name: OptionName): Option {
  const option = optionTable[name];
  return { name, effect: option.effect, word: "word" in option ? option.word : undefined };
}

const valued = Object.keys(optionTable)
  .filter((name): name is OptionName => name in optionTable)
  .map(optionOf)
  .filter(({ word }) => word !== undefined);

/** Lists the daemon's images by name. Images without one, <none>, are left out: a shell would parse a redirection. */
const listImages = "keelson image ls 2>/dev/null | sed -n '1d;/^</d;s/ .*//p'";

export function bash(): string {
  const offer = (word: Word): string => {
    if (typeof word !== "string") return `_keelson_offer "${word.join(" ")}"`;
    if (word === "directory") return "_keelson_paths -d";
    if (word === "file") return "_keelson_paths -f";
    if (word === "image") return `_keelson_offer "$(${listImages})"`;
    return word === "command" ? `_keelson_offer "${names.join(" ")}"` : ":";
  };
  // The last word of a verb also applies to all further operands.
  const verbCases = imageVerbs.flatMap(({ name, words, most }) =>
    words.map((word, n) => {
      const isLast = n === words.length - 1 && most > words.length;
      return `    "image ${name} "${isLast ? "*" : `${n}`}) ${offer(word)} ;;`;
    }),
  );
  return `# bash completion for keelson(8)

_keelson_offer() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$word"); }
_keelson_paths() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$word")
}

_keelson() {
  # Bash's own words are split at each colon of an image name.
  local -a words
  local line=\${COMP_LINE:0:COMP_POINT} word="" before="" command="" verb="" i operands=0
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  word=\${words[-1]}
  before=\${words[-2]}
  COMPREPLY=()
  for ((i = 1; i < \${#words[@]} - 1; i++)); do
    case \${words[i]} in
      ${valued.map(({ name }) => `--${name}`).join(" | ")}) ((i++)) ;;
      -*) ;;
      *)
        if [[ -z $command ]]; then command=\${words[i]}
        elif [[ $command == image && -z $verb ]]; then verb=\${words[i]}
        else ((operands++)); fi
        ;;
    esac
  done
  case $before in
${valued.map(({ name, word }) => `    --${name}) ${offer(word ?? "text")}; return ;;`).join("\n")}
  esac
  if [[ $word == -* ]]; then
    case $command in
      "") _keelson_offer "--help --version" ;;
${commands
  .map(
    (command) =>
      `      ${command.name}) _keelson_offer "${optionsOf(command)
        .map(({ name }) => `--${name}`)
        .join(" ")}" ;;`,
  )
  .join("\n")}
    esac
    return
  fi
  case "$command $verb $operands" in
    "  "*) _keelson_offer "${names.join(" ")}" ;;
    "image  "*) _keelson_offer "${verbs.join(" ")}" ;;
${verbCases.join("\n")}
${commands.flatMap(({ name, word }) => (word === undefined ? [] : [`    "${name}  "*) ${offer(word)} ;;`])).join("\n")}
  esac
  # Bash only replaces the text after the last colon.
  if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
    local kept=\${word%"\${word##*:}"}
    COMPREPLY=("\${COMPREPLY[@]#"$kept"}")
  fi
}
complete -F _keelson keelson
`;
}

export function zsh(): string {
  const offer = (word: Word): string => {
    if (typeof word !== "string") return `(${word.join(" ")})`;
    if (word === "directory") return "_files -/";
    if (word === "file") return "_files";
    if (word === "image") return "_keelson_images";
    return word === "command" ? `(${names.join(" ")})` : "";
  };
  const option = ({ name, effect, word }: Option) =>
    `'--${name}[${quoted(effect)}]${word === undefined ? "" : `:${name}:${offer(word)}`}'`;
  const described = (all: readonly { readonly name: string; readonly summary: string }[]) =>
    all.map(({ name, summary }) => `'${name}:${quoted(summary)}'`).join(" ");
  const cases = commands
    .filter(({ name }) => name !== "image")
    .map((command) => {
      const operand = command.word === undefined ? "" : ` '*:${command.operands}:${offer(command.word)}'`;
      return `  ${command.name}) _arguments ${optionsOf(command).map(option).join(" ")}${operand} ;;`;
    });
  const image = commands.find(({ name }) => name === "image");
  const verbCases = imageVerbs.map(({ name, words, most }) => {
    const operands = words.map((word, n) => {
      const isLast = n === words.length - 1 && most > words.length;
      return `'${isLast ? "*" : n + 1}:operand:${offer(word)}'`;
    });
    return `      ${name}) _arguments $image_options ${operands.join(" ")} ;;`;
  });
  return `#compdef keelson

_keelson_images() {
  local -a images
  images=(\${(f)"$(${listImages})"})
  compadd -a images
}

_keelson() {
  local state line
  local -a commands verbs image_options
  commands=(${described(commands)})
  verbs=(${described(imageVerbs)})
  image_options=(${(image === undefined ? [] : optionsOf(image)).map(option).join(" ")})
  _arguments -C '--help[print the manual]' '--version[print the version]' '1: :->command' '*:: :->operands' && return
  if [[ $state == command ]]; then
    _describe command commands
    return
  fi
  case $words[1] in
${cases.join("\n")}
  image)
    _arguments -C $image_options '1: :->verb' '*:: :->operands' && return
    if [[ $state == verb ]]; then
      _describe verb verbs
      return
    fi
    case $words[1] in
${verbCases.join("\n")}
    esac
    ;;
  esac
}

_keelson "$@"
`;
}

export function fish(): string {
  const offer = (word: Word): string => {
    if (typeof word !== "string") return `-x -a '${word.join(" ")}'`;
    if (word === "directory") return "-x -a '(__fish_complete_directories)'";
    if (word === "file") return "-r -F";
    return word === "image" ? `-x -a "(${listImages.replaceAll("$", "\\$")})"` : "-x";
  };
  const under = (name: string) => `-n '__fish_seen_subcommand_from ${name}'`;
  const lines = commands.flatMap((command) => [
    `complete -c keelson -n __fish_use_subcommand -a ${command.name} -d '${quoted(command.summary)}'`,
    ...optionsOf(command).map(
      ({ name, effect, word }) =>
        `complete -c keelson ${under(command.name)} -l ${name} -d '${quoted(effect)}'${word === undefined ? "" : ` ${offer(word)}`}`,
    ),
    ...(command.word === "file" ? [`complete -c keelson ${under(command.name)} -F`] : []),
    ...(command.word === "command" ? [`complete -c keelson ${under(command.name)} -a '${names.join(" ")}'`] : []),
  ]);
  const noVerb = `-n '__fish_seen_subcommand_from image; and not __fish_seen_subcommand_from ${verbs.join(" ")}'`;
  const verbLines = imageVerbs.flatMap(({ name, summary, words }) => [
    `complete -c keelson ${noVerb} -a ${name} -d '${quoted(summary)}'`,
    ...new Set(
      words
        .filter((word) => word !== "text")
        .map(
          (word) =>
            `complete -c keelson -n '__fish_seen_subcommand_from image; and __fish_seen_subcommand_from ${name}' ${word === "file" ? "-F" : offer(word).replace("-x ", "")}`,
        ),
    ),
  ]);
  return `# fish completion for keelson(8)\n\ncomplete -c keelson -f\ncomplete -c keelson -l version -d 'print the version'\n${[...lines, ...verbLines].join("\n")}\n`;
}

/** Escapes text for use inside single quotes of a shell. */
function quoted(text: string): string {
  return text.replaceAll("'", "’").replaceAll(":", "\\:");
}

if (import.meta.main) {
  const shell = new Map(Object.entries({ bash, zsh, fish })).get(process.argv[2] ?? "");
  if (shell === undefined) throw new Error("completions.ts takes bash, zsh or fish");
  process.stdout.write(shell());
}
