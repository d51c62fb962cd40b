// The codecs' test program: self-tests, and commands with which codec.test.ts feeds it real streams.
//
//   codec-test self                       SHA-256 test vectors and format detection; prints "ok"
//   codec-test batch FEED                 streams on stdin, each preceded by its length (u32), FEED bytes at a time:
//                                         one result line for each
//   codec-test splits                     the stream on stdin, split in two at every offset: one result line if all agree
//   codec-test damage                     the stream on stdin, truncated at every offset and with every bit flipped
//
// A result line is "ok SIZE SHA256" or "KIND SENTENCE". Each piece of input and the output are in memory of exactly their
// size, so that AddressSanitizer detects an access one byte too far.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "unpack/codec/decoder.h"
#include "unpack/codec/sha256.h"

namespace {

using namespace keelson;

using Bytes = std::span<const uint8_t>;

std::string hex(Bytes bytes) {
  std::string text;
  for (uint8_t byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Decodes a stream piece by piece, with a small output buffer if the pieces are small.
class Decoding {
 public:
  Decoding(Format format, size_t feed)
      : decoder_(make_decoder(format)), output_(std::min<size_t>(4 * feed + 1, 256 * 1024)) {}

  Status feed(Bytes piece) {
    const std::vector<uint8_t> memory(piece.begin(), piece.end());
    Bytes input(memory);
    bool full = false;
    while (!input.empty() || full) {
      Step step = TRY(decoder_->step(input, output_));
      if (step.consumed == 0 && step.produced == 0 && !input.empty()) stuck_++;
      if (stuck_ > 1) return fail(Kind::state, "feed", "the decoder makes no progress");
      hash_.update(Bytes(output_).first(step.produced));
      size_ += step.produced;
      input = input.subspan(step.consumed);
      full = step.produced == output_.size();
    }
    return {};
  }

  // The result line.
  std::string finish(Status fed) {
    if (fed) fed = decoder_->finish();
    if (!fed) return std::string(to_string(fed.error().kind)) + " " + fed.error().message();
    return "ok " + std::to_string(size_) + " " + hex(hash_.finish());
  }

 private:
  std::unique_ptr<Decoder> decoder_;
  std::vector<uint8_t> output_;
  Sha256 hash_;
  uint64_t size_ = 0;
  size_t stuck_ = 0;
};

std::string decode(Bytes stream, size_t feed) {
  Decoding decoding(sniff(stream), feed);
  Status fed;
  while (fed && !stream.empty()) {
    Bytes piece = stream.first(std::min(feed, stream.size()));
    fed = decoding.feed(piece);
    stream = stream.subspan(piece.size());
  }
  return decoding.finish(fed);
}

std::string decode_in_two(Bytes stream, size_t cut) {
  Decoding decoding(sniff(stream), 50);
  Status fed = decoding.feed(stream.first(cut));
  if (fed) fed = decoding.feed(stream.subspan(cut));
  return decoding.finish(fed);
}

std::vector<uint8_t> read_input() {
  std::vector<uint8_t> all;
  std::array<uint8_t, 65536> buffer;
  for (ssize_t size; (size = ::read(0, buffer.data(), buffer.size())) > 0;) {
    all.insert(all.end(), buffer.begin(), buffer.begin() + size);
  }
  return all;
}

int run_batch(size_t feed) {
  std::vector<uint8_t> all = read_input();
  for (Bytes rest = all; rest.size() >= 4;) {
    uint32_t size = 0;
    std::memcpy(&size, rest.data(), sizeof size);
    if (size > rest.size() - 4) return 2;
    std::puts(decode(rest.subspan(4, size), feed).c_str());
    rest = rest.subspan(4 + size);
  }
  return 0;
}

int run_splits() {
  std::vector<uint8_t> stream = read_input();
  std::string whole = decode(stream, stream.size());
  for (size_t cut = 0; cut <= stream.size(); cut++) {
    std::string result = decode_in_two(stream, cut);
    if (result == whole) continue;
    std::printf("cut at %zu: %s, but whole: %s\n", cut, result.c_str(), whole.c_str());
    return 1;
  }
  std::printf("%s\n", whole.c_str());
  return 0;
}

// Counts how many damaged streams were refused as invalid, decoded to the same bytes, and decoded to other bytes.
class Tally {
 public:
  explicit Tally(std::string intact) : intact_(std::move(intact)) {}
  void count(const std::string& result) {
    if (result == intact_) same_++;
    else if (result.starts_with("ok ")) other_++;
    else if (result.starts_with("invalid ")) refused_++;
    else wrong_++;
  }
  void print(const char* name) const {
    std::printf("%s %zu refused %zu same %zu other %zu wrong\n", name, refused_, same_, other_, wrong_);
  }

 private:
  std::string intact_;
  size_t refused_ = 0, same_ = 0, other_ = 0, wrong_ = 0;
};

int run_damage() {
  std::vector<uint8_t> stream = read_input();
  Format format = sniff(stream);
  std::string intact = decode(stream, stream.size());
  auto decode_as = [&](Bytes damaged) {
    Decoding decoding(format, 250);
    return decoding.finish(decoding.feed(damaged));
  };
  Tally cut(intact);
  for (size_t size = 0; size < stream.size(); size++) cut.count(decode_as(Bytes(stream).first(size)));
  cut.print("cut");
  Tally flipped(intact);
  for (uint8_t& byte : stream) {
    for (unsigned mask : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      byte = static_cast<uint8_t>(byte ^ mask);
      flipped.count(decode_as(stream));
      byte = static_cast<uint8_t>(byte ^ mask);
    }
  }
  flipped.print("flipped");
  return 0;
}

void expect(bool truth, const char* what) {
  if (truth) return;
  std::printf("failed: %s\n", what);
  std::exit(1);
}

std::string sha256_in_pieces(Bytes bytes, size_t piece) {
  Sha256 hash;
  for (; bytes.size() > piece; bytes = bytes.subspan(piece)) hash.update(bytes.first(piece));
  hash.update(bytes);
  return hex(hash.finish());
}

// The examples of FIPS 180-4, also in pieces.
void check_sha256() {
  constexpr const char* of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  expect(sha256_in_pieces(bytes_of("abc"), 3) == of_abc, "SHA-256 of abc");
  expect(sha256_in_pieces(bytes_of("abc"), 1) == of_abc, "SHA-256 of abc in pieces");
  expect(sha256_in_pieces({}, 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
         "SHA-256 of nothing");
}

void check_sniff() {
  expect(sniff({}) == Format::plain, "sniffing nothing");
  expect(sniff(bytes_of("\x1f\x8b\x08")) == Format::gzip, "sniffing gzip");
  expect(sniff(bytes_of("\x1f\x8b\x07")) == Format::plain, "sniffing gzip of an unknown method");
  expect(sniff(bytes_of("\x28\xb5\x2f\xfd")) == Format::zstd, "sniffing zstd");
  expect(sniff(bytes_of("\x5f\x2a\x4d\x18")) == Format::zstd, "sniffing a skippable frame");
  expect(sniff(bytes_of("\x28\xb5\x2f")) == Format::plain, "sniffing too little");
  expect(sniff(bytes_of("\x60\x2a\x4d\x18")) == Format::plain, "sniffing what is nearly a skippable frame");
}

int run_self() {
  check_sha256();
  check_sniff();
  std::puts("ok");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string_view command = argc > 1 ? argv[1] : "";
  size_t feed = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 0;
  if (command == "self") return run_self();
  if (command == "splits") return run_splits();
  if (command == "damage") return run_damage();
  if (command == "batch" && feed > 0) return run_batch(feed);
  std::fputs("usage: codec-test self | batch FEED | splits | damage\n", stderr);
  return 2;
}
