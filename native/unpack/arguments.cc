#include "unpack/arguments.h"

#include <charconv>
#include <string_view>

namespace keelson {

const char* const usage_text =
    "Usage: keelson-unpack --directory DIR --max-bytes N --max-inodes N [--blob FILE]\n"
    "\n"
    "Unpacks one container image layer from standard input: a tar stream, plain, gzip or zstd.\n"
    "Prints one JSON object: {digest, size, diff_id, unpacked_bytes, inodes}, or, with exit code 1,\n"
    "{kind, step, object, errno, message}. Must run as root.\n"
    "\n"
    "  --directory DIR   existing empty directory that becomes the layer's root, in overlayfs form\n"
    "  --blob FILE       also write the bytes as they come to FILE, which must not exist\n"
    "  --max-bytes N     refuse a layer of more than N bytes, as it comes or inflated\n"
    "  --max-inodes N    refuse a layer with more than N files, directories, links …\n"
    "  --help, --version\n"
    "\n"
    "After a failure DIR and FILE hold what had been written by then; they are the caller's to remove.\n";

namespace {

std::unexpected<Error> bad(std::string detail) {
  return fail(Kind::invalid, "read the command line", std::move(detail));
}

Status parse_count(std::string_view option, std::string_view text, uint64_t& into) {
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), into);
  if (code != std::errc() || end != text.data() + text.size() || into == 0) {
    return bad(std::string(option) + " takes a number above zero");
  }
  return {};
}

Status parse_option(std::string_view option, std::string_view value, Arguments& arguments) {
  if (option == "--max-bytes") return parse_count(option, value, arguments.max_bytes);
  if (option == "--max-inodes") return parse_count(option, value, arguments.max_inodes);
  if (option == "--directory") arguments.directory = value;
  else if (option == "--blob") arguments.blob = value;
  else return bad("unknown option " + std::string(option) + ", see --help");
  if (value.empty()) return bad(std::string(option) + " takes a path");
  return {};
}

}  // namespace

Result<Arguments> parse_arguments(std::span<char* const> words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); i += 2) {
    std::string_view option = words[i];
    if (option == "--help") return Arguments{Arguments::Action::help, {}, {}, 0, 0};
    if (option == "--version") return Arguments{Arguments::Action::version, {}, {}, 0, 0};
    if (i + 1 == words.size()) return bad(std::string(option) + " has no value or is unknown, see --help");
    TRY(parse_option(option, words[i + 1], arguments));
  }
  if (arguments.directory.empty()) return bad("--directory is missing, see --help");
  if (arguments.max_bytes == 0) return bad("--max-bytes is missing, see --help");
  if (arguments.max_inodes == 0) return bad("--max-inodes is missing, see --help");
  return arguments;
}

}  // namespace keelson
