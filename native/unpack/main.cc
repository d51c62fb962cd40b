// keelson-unpack: one layer from standard input to a directory, in one pass, confined to it (confine.h).
//
// Two threads: one reads, hashes, copies to the blob file and inflates (intake.h); this one hashes the
// tar stream and makes the files. The fuller half sets the pace, on two cores instead of one.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/fd.h"
#include "common/file.h"
#include "common/json.h"
#include "unpack/arguments.h"
#include "unpack/box.h"
#include "unpack/buffer_ring.h"
#include "unpack/confine.h"
#include "unpack/intake.h"
#include "unpack/layer_writer.h"
#include "unpack/tar_reader.h"
#include "unpack/tar_stream.h"

namespace keelson {

namespace {

constexpr size_t ring_buffers = 8;
constexpr size_t ring_buffer_size = 256 * 1024;

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

Status check_empty(const std::string& directory) {
  constexpr const char* step = "check that the layer's directory is empty";
  std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(directory.c_str()), closedir);
  if (!listing) return fail_errno(step);
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(listing.get());
    if (entry == nullptr && errno != 0) return fail_errno(step);
    if (entry == nullptr) return {};
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") return fail(Kind::exists, step, "it holds " + quoted(name));
  }
}

Result<Fd> open_layer(const std::string& directory) {
  Fd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  Status opened = fd ? check_empty(directory) : fail_errno("open the layer's directory");
  if (!opened) return about(opened.error(), directory);
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
  TRY(leave_namespaces());
  Fd directory = TRY(open_layer(arguments.directory));
  Fd blob = TRY(create_blob(arguments.blob));
  Fd layer = TRY(confine(std::move(directory)));

  // On a failure this frame is left while the intake thread may wait for input still. The thread's ring and
  // state must outlive it then, so they are never freed: the process ends right after.
  auto* ring = new BufferRing(ring_buffers, ring_buffer_size);
  auto* intake = new IntakeThread{{STDIN_FILENO, blob.release(), arguments.max_bytes}, *ring, {}, {}};
  int started = pthread_create(&intake->thread, nullptr, IntakeThread::run, intake);
  if (started != 0) return fail_errno("start the reading thread", started);

  TarStream stream(*ring);
  TarReader reader(stream);
  LayerWriter writer(layer.get(), arguments.max_inodes);
  TRY(write_entries(reader, writer));
  TRY(stream.drain());
  pthread_join(intake->thread, nullptr);
  return Report{intake->report, stream.digest(), writer.content_bytes(), writer.inodes()};
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

std::string to_json(const Error& error) {
  JsonWriter json;
  json.begin_object();
  json.key("kind").value(to_string(error.kind));
  json.key("step").value(error.step);
  json.key("object").value(error.object);
  json.key("errno").value(error.error_number);
  json.key("message").value(error.message());
  json.end_object();
  return json.take() + "\n";
}

int answer(const std::string& text, int exit_code) {
  std::span bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  return write_all(STDOUT_FILENO, bytes, "write the answer") ? exit_code : 2;
}

int run(std::span<char* const> words) {
  Result<Arguments> arguments = parse_arguments(words);
  if (!arguments) return answer(to_json(arguments.error()), 1);
  if (arguments->action == Arguments::Action::help) return answer(usage_text, 0);
  if (arguments->action == Arguments::Action::version) return answer("keelson-unpack " KEELSON_VERSION "\n", 0);
  Result<Report> report = unpack(*arguments);
  return report ? answer(to_json(*report), 0) : answer(to_json(report.error()), 1);
}

}  // namespace

}  // namespace keelson

int main(int count, char** words) {
  close_range(3, ~0U, 0);
  int exit_code = keelson::run(std::span<char* const>(words + 1, static_cast<size_t>(count > 0 ? count - 1 : 0)));
  // Not exit(3): the reading thread may still run.
  _exit(exit_code);
}
