// Mutation fuzzing of everything behind the codecs: tar reader, PAX, whiteouts, paths, file creation.
//
//   tar-fuzz SECONDS SEED DIRECTORY ARCHIVE…
//
// Takes valid archives (plain tar), damages or splices them, fixes most checksums so that the damage gets past the first
// check, and unpacks the result into DIRECTORY/layer. The sanitizers abort on errors. Also, DIRECTORY/host must not change,
// and the same bytes in different chunks must have the same outcome.
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/tree.h"
#include "unpack/layer_writer.h"
#include "unpack/tar_reader.h"

namespace {

using namespace keelson;
using Bytes = std::vector<uint8_t>;

[[noreturn]] void die(const char* what) {
  fprintf(stderr, "tar-fuzz: %s: %s\n", what, strerror(errno));
  abort();
}

class Memory : public ChunkSource {
 public:
  Memory(std::span<const uint8_t> bytes, size_t chunk) : bytes_(bytes), chunk_(chunk) {}
  Result<std::span<const uint8_t>> next() override {
    auto piece = bytes_.first(std::min(chunk_, bytes_.size()));
    bytes_ = bytes_.subspan(piece.size());
    return piece;
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t chunk_;
};

Bytes read_file(const char* path) {
  Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) die(path);
  Bytes bytes(1 << 20);
  ssize_t length = read(fd.get(), bytes.data(), bytes.size());
  if (length < 0) die(path);
  bytes.resize(static_cast<size_t>(length));
  return bytes;
}

void fix_checksums(Bytes& bytes) {
  for (size_t at = 0; at + tar_block <= bytes.size(); at += tar_block) {
    uint8_t* block = bytes.data() + at;
    if (memcmp(block + 257, "ustar", 5) != 0) continue;
    memset(block + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < tar_block; ++i) sum += block[i];
    snprintf(reinterpret_cast<char*>(block + 148), 8, "%06o", sum);
  }
}

class Mutator {
 public:
  Mutator(uint64_t seed, std::vector<Bytes> archives) : random_(seed), archives_(std::move(archives)) {}

  Bytes next() {
    Bytes bytes = archives_[below(archives_.size())];
    for (size_t count = 1 + below(8); count > 0; --count) mutate(bytes);
    if (below(8) != 0) fix_checksums(bytes);
    return bytes;
  }
  size_t below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }

 private:
  static Bytes::iterator iterator(Bytes& bytes, size_t at) { return bytes.begin() + static_cast<long>(at); }

  void mutate(Bytes& bytes) {
    if (bytes.size() < 2 * tar_block) return;
    size_t blocks = bytes.size() / tar_block;
    size_t at = below(blocks) * tar_block;
    switch (below(10)) {
      case 0: bytes[below(bytes.size())] ^= static_cast<uint8_t>(1U << below(8)); break;
      case 1: bytes[below(bytes.size())] = static_cast<uint8_t>(below(256)); break;
      case 2: bytes[at + 156] = static_cast<uint8_t>("0123456712567xgLKSV\0"[below(20)]); break;
      case 3: number(bytes.data() + at); break;
      case 4: name(bytes.data() + at + (below(2) == 0 ? 0 : 157)); break;
      case 5: bytes.resize(below(bytes.size()) + 1); break;
      case 6: bytes.erase(iterator(bytes, at), iterator(bytes, at + tar_block)); break;
      case 7: copy_block(bytes, at); break;
      case 8: splice(bytes, at); break;
      case 9: text(bytes, at); break;
    }
  }

  // A numeric field: random octal, base-256 or garbage.
  void number(uint8_t* block) {
    static constexpr struct { size_t offset, length; } fields[] = {
        {100, 8}, {108, 8}, {116, 8}, {124, 12}, {136, 12}, {329, 8}, {337, 8}};
    auto field = fields[below(std::size(fields))];
    size_t kind = below(3);
    for (size_t i = 0; i < field.length; ++i) {
      block[field.offset + i] = static_cast<uint8_t>(kind == 0 ? '0' + below(8) : below(256));
    }
    if (kind == 1) block[field.offset] |= 0x80;
    if (kind == 1) memset(block + field.offset + 1, 0, field.length - 3);
  }

  // A name that conflicts with other names of the archive in new ways.
  void name(uint8_t* field) {
    static constexpr const char* names[] = {
        "",       ".",        "..",    "/",       "./",           "a",
        "a/b",    "a/../b",   "/host", "../host", "../host/victim", ".wh.a",
        ".wh.",   ".wh..",    "link",  "link/x",  "link/..",      "a/.wh..wh..opq",
        "file/x", ".wh.link", "dir",   "dir/",    "dir/dir/dir",  ".wh..wh.plnk/1"};
    strcpy(reinterpret_cast<char*>(field), names[below(std::size(names))]);
  }

  void copy_block(Bytes& bytes, size_t at) {
    Bytes block(iterator(bytes, at), iterator(bytes, at + tar_block));
    bytes.insert(iterator(bytes, below(bytes.size() / tar_block) * tar_block), block.begin(), block.end());
  }

  void splice(Bytes& bytes, size_t at) {
    const Bytes& other = archives_[below(archives_.size())];
    size_t from = below(other.size() / tar_block) * tar_block;
    bytes.resize(at);
    bytes.insert(bytes.end(), other.begin() + static_cast<long>(from), other.end());
  }

  // Characters that are significant in PAX records, at random places in the block.
  void text(Bytes& bytes, size_t at) {
    for (size_t count = 1 + below(4); count > 0; --count) {
      bytes[at + below(tar_block)] = static_cast<uint8_t>("0123456789 =\n-./"[below(16)]);
    }
  }

  std::mt19937_64 random_;
  std::vector<Bytes> archives_;
};

struct Outcome {
  std::string said;  // the error's step, or "unpacked"
  uint64_t inodes = 0;
  bool operator==(const Outcome&) const = default;
};

Outcome unpack(std::span<const uint8_t> bytes, size_t chunk, int layer) {
  Memory memory(bytes, chunk);
  TarReader reader(memory);
  LayerWriter writer(layer, 300);
  for (;;) {
    Result<std::optional<Entry>> entry = reader.next();
    if (!entry) return {entry.error().step + ": " + entry.error().detail, writer.inodes()};
    Status written = *entry ? writer.write(**entry, reader) : writer.finish();
    if (!written) return {written.error().step, writer.inodes()};
    if (!*entry) return {reader.finish() ? "unpacked" : "drain", writer.inodes()};
  }
}

Outcome unpack_fresh(std::span<const uint8_t> bytes, size_t chunk, int directory) {
  if (mkdirat(directory, "layer", 0700) != 0) die("create the layer");
  Outcome outcome;
  {
    Fd layer(openat(directory, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!layer) die("open the layer");
    outcome = unpack(bytes, chunk, layer.get());
  }
  if (!remove_tree_at(directory, "layer")) die("remove the layer");
  return outcome;
}

// Change times of `host` and its file: they change with a write, a new mode or owner, or a new name in `host`.
std::array<int64_t, 4> host_state(int directory) {
  struct stat host {}, victim {};
  if (fstatat(directory, "host", &host, 0) != 0 || fstatat(directory, "host/victim", &victim, 0) != 0) die("host");
  return {host.st_ctim.tv_sec, host.st_ctim.tv_nsec, victim.st_ctim.tv_sec, victim.st_ctim.tv_nsec};
}

}  // namespace

int main(int count, char** words) {
  if (count < 5) return fprintf(stderr, "usage: tar-fuzz SECONDS SEED DIRECTORY ARCHIVE...\n"), 2;
  time_t end = time(nullptr) + atoi(words[1]);
  umask(0);
  Fd directory(open(words[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) die(words[3]);
  std::vector<Bytes> archives;
  for (int i = 4; i < count; ++i) archives.push_back(read_file(words[i]));
  Mutator mutator(strtoull(words[2], nullptr, 10), std::move(archives));
  const auto host = host_state(directory.get());
  std::map<std::string, uint64_t> outcomes;
  uint64_t runs = 0;
  for (; time(nullptr) < end; ++runs) {
    Bytes bytes = mutator.next();
    Outcome whole = unpack_fresh(bytes, SIZE_MAX, directory.get());
    if (runs % 4 == 0 && unpack_fresh(bytes, 1 + mutator.below(700), directory.get()) != whole) die("chunks matter");
    if (host_state(directory.get()) != host) die("the host was touched");
    ++outcomes[whole.said];
  }
  printf("%llu archives, %zu kinds of outcome, %llu unpacked\n", static_cast<unsigned long long>(runs), outcomes.size(),
         static_cast<unsigned long long>(outcomes["unpacked"]));
  return 0;
}
