// keelson-unpack: unpacks one layer from standard input to a directory, in one pass, confined to that directory (confine.h).
//
// Two threads: one reads, hashes, copies to the blob file and decompresses (intake.h); the main thread hashes the tar
// stream and creates the files. So the work spreads over two cores, and the slower half sets the pace.
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/fd.h"
#include "common/file.h"
#include "common/json.h"
#include "common/tree.h"
#include "unpack/buffer_ring.h"
#include "unpack/confine.h"
#include "unpack/intake.h"
#include "unpack/layer_writer.h"
#include "unpack/tar_reader.h"

namespace keelson {

namespace {

constexpr size_t ring_buffers = 8;
constexpr size_t ring_buffer_size = 256 * 1024;

// A pull is bulk work: the daemon and starting pods have priority.
constexpr int nice_increment = 10;

constexpr const char* usage_text =
    "Usage: keelson-unpack --directory DIR --max-bytes N --max-inodes N [--blob FILE]\n"
    "\n"
    "Unpacks one container image layer from standard input: a tar stream, plain, gzip or zstd.\n"
    "Prints one JSON object: {digest, size, diff_id, unpacked_bytes, inodes}, or, with exit code 1,\n"
    "{kind, step, object, errno, message}. Must run as root.\n"
    "\n"
    "  --directory DIR   existing empty directory that becomes the layer's root, in overlayfs form\n"
    "  --blob FILE       also copy the input, unchanged, to FILE, which must not exist\n"
    "  --max-bytes N     refuse a layer of more than N bytes, before or after decompression\n"
    "  --max-inodes N    refuse a layer with more than N files, directories, links …\n"
    "  --help, --version\n"
    "\n"
    "After a failure DIR and FILE contain what was written until then; the caller must remove them.\n";

struct Arguments {
  std::string directory;  // existing, empty
  std::string blob;       // empty for none
  uint64_t max_bytes = 0;
  uint64_t max_inodes = 0;
};

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

// Fails with kind `invalid` for anything unknown, missing or not a number.
Result<Arguments> parse_arguments(std::span<char* const> words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); i += 2) {
    std::string_view option = words[i];
    if (i + 1 == words.size()) return bad(std::string(option) + " has no value or is unknown, see --help");
    TRY(parse_option(option, words[i + 1], arguments));
  }
  if (arguments.directory.empty()) return bad("--directory is missing, see --help");
  if (arguments.max_bytes == 0) return bad("--max-bytes is missing, see --help");
  if (arguments.max_inodes == 0) return bad("--max-inodes is missing, see --help");
  return arguments;
}

struct Report {
  IntakeReport intake;
  std::array<uint8_t, 32> diff_id{};
  uint64_t unpacked_bytes = 0;
  uint64_t inodes = 0;
};

struct IntakeThread {
  IntakeOptions options;
  BufferRing& ring;
  IntakeReport report;
  pthread_t thread{};

  static void* run(void* self) {
    auto* intake = static_cast<IntakeThread*>(self);
    intake->report = take_in(intake->options, intake->ring);
    return nullptr;
  }
};

Result<Fd> open_layer(const std::string& directory) {
  Fd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return about(fail_errno("open the layer's directory"), directory);
  Status empty = each_entry(fd.get(), "the layer's directory", [](const dirent64& found) -> Result<bool> {
    return fail(Kind::exists, "check that the layer's directory is empty", "it contains " + quoted(found.d_name));
  });
  TRY(about(std::move(empty), directory));
  return fd;
}

Result<Fd> create_blob(const std::string& path) {
  if (path.empty()) return Fd();
  Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd) return fd;
  Kind kind = errno == EEXIST ? Kind::exists : Kind::system;
  return std::unexpected(Error{kind, "create the blob file", path, errno, {}});
}

Status write_entries(TarReader& reader, LayerWriter& writer) {
  for (;;) {
    std::optional<Entry> entry = TRY(reader.next());
    if (!entry) return writer.finish();
    TRY(writer.write(*entry, reader));
  }
}

Result<Report> unpack(const Arguments& arguments) {
  umask(0);
  errno = 0;
  if (nice(nice_increment) == -1 && errno != 0) return fail_errno("lower the priority");
  TRY(leave_namespaces());
  Fd directory = TRY(open_layer(arguments.directory));
  Fd blob = TRY(create_blob(arguments.blob));
  Fd layer = TRY(confine(std::move(directory)));

  // On a failure this function returns while the intake thread may still be waiting for input. Its ring and state must
  // outlive this frame, so they are never freed: the process exits right after.
  auto* ring = new BufferRing(ring_buffers, ring_buffer_size);
  auto* intake = new IntakeThread{{STDIN_FILENO, blob.release(), arguments.max_bytes}, *ring, {}, {}};
  int started = pthread_create(&intake->thread, nullptr, IntakeThread::run, intake);
  if (started != 0) return fail_errno("start the reading thread", started);

  TarReader reader(*ring);
  LayerWriter writer(layer.get(), arguments.max_inodes);
  TRY(write_entries(reader, writer));
  std::array<uint8_t, 32> diff_id = TRY(reader.finish());
  pthread_join(intake->thread, nullptr);
  return Report{intake->report, diff_id, writer.content_bytes(), writer.inodes()};
}

std::string digest_text(const std::array<uint8_t, 32>& digest) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = "sha256:";
  for (uint8_t byte : digest) text += {digits[byte >> 4], digits[byte & 15]};
  return text;
}

// Numbers as decimal strings: a JSON number loses digits past 2^53 in JavaScript.
std::string to_json(const Report& report) {
  JsonWriter json;
  json.begin_object();
  json.key("digest").value(digest_text(report.intake.digest));
  json.key("size").value(std::to_string(report.intake.size));
  json.key("diff_id").value(digest_text(report.diff_id));
  json.key("unpacked_bytes").value(std::to_string(report.unpacked_bytes));
  json.key("inodes").value(std::to_string(report.inodes));
  json.end_object();
  return json.take() + "\n";
}

int answer(const std::string& text, int exit_code) {
  std::span bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  return write_all(STDOUT_FILENO, bytes, "write the answer") ? exit_code : 2;
}

int run(std::span<char* const> words) {
  for (std::string_view word : words) {
    if (word == "--help") return answer(usage_text, 0);
    if (word == "--version") return answer("keelson-unpack " KEELSON_VERSION "\n", 0);
  }
  Result<Arguments> arguments = parse_arguments(words);
  Result<Report> report = arguments ? unpack(*arguments) : std::unexpected(arguments.error());
  return report ? answer(to_json(*report), 0) : answer(error_json(report.error()) + "\n", 1);
}

}  // namespace

}  // namespace keelson

int main(int count, char** words) {
  close_range(3, ~0U, 0);
  int exit_code = keelson::run(std::span<char* const>(words + 1, static_cast<size_t>(count > 0 ? count - 1 : 0)));
  // Not exit(3): the reading thread may still be running.
  _exit(exit_code);
}
