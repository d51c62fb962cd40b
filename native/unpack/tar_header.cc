#include "unpack/tar_header.h"

#include <algorithm>
#include <optional>
#include <span>

namespace keelson {

namespace {

struct Field {
  size_t offset;
  size_t length;
};

constexpr Field name_field{0, 100};
constexpr Field mode_field{100, 8};
constexpr Field uid_field{108, 8};
constexpr Field gid_field{116, 8};
constexpr Field size_field{124, 12};
constexpr Field mtime_field{136, 12};
constexpr Field checksum_field{148, 8};
constexpr size_t type_offset = 156;
constexpr Field link_field{157, 100};
constexpr Field magic_field{257, 6};
constexpr Field major_field{329, 8};
constexpr Field minor_field{337, 8};
constexpr Field prefix_field{345, 155};

std::string_view bytes_of(const TarBlock& block, Field field) {
  return {reinterpret_cast<const char*>(block.data()) + field.offset, field.length};
}

std::string_view text_of(const TarBlock& block, Field field) {
  std::string_view bytes = bytes_of(block, field);
  return bytes.substr(0, bytes.find('\0'));
}

std::unexpected<Error> bad_header(std::string detail) {
  return fail(Kind::invalid, "read the tar header", std::move(detail));
}

bool checksum_matches(const TarBlock& block, int64_t expected) {
  int64_t as_unsigned = 0;
  int64_t as_signed = 0;
  for (size_t i = 0; i < tar_block; ++i) {
    bool in_field = i >= checksum_field.offset && i < checksum_field.offset + checksum_field.length;
    uint8_t byte = in_field ? uint8_t{' '} : block[i];
    as_unsigned += byte;
    as_signed += static_cast<int8_t>(byte);
  }
  return expected == as_unsigned || expected == as_signed;
}

// All bits except the first are a big-endian number in two's complement.
std::optional<int64_t> parse_base256(std::string_view field) {
  uint8_t first = static_cast<uint8_t>(field[0]);
  bool negative = (first & 0x40) != 0;
  int64_t value = negative ? -1 : 0;
  for (size_t i = 0; i < field.size(); ++i) {
    uint8_t byte = static_cast<uint8_t>(field[i]);
    if (i == 0) byte = negative ? (byte | 0x80) : (byte & 0x7f);
    int64_t shifted = 0;
    if (__builtin_mul_overflow(value, int64_t{256}, &shifted)) return std::nullopt;
    value = shifted | byte;
  }
  return value;
}

}  // namespace

std::optional<int64_t> parse_tar_number(std::string_view field) {
  if (!field.empty() && (static_cast<uint8_t>(field[0]) & 0x80) != 0) return parse_base256(field);
  size_t at = 0;
  while (at < field.size() && field[at] == ' ') ++at;
  int64_t value = 0;
  for (; at < field.size() && field[at] >= '0' && field[at] <= '7'; ++at) {
    if (__builtin_mul_overflow(value, int64_t{8}, &value)) return std::nullopt;
    value |= field[at] - '0';
  }
  if (at < field.size() && field[at] != ' ' && field[at] != '\0') return std::nullopt;
  return value;
}

bool is_zero_block(const TarBlock& block) {
  return std::ranges::all_of(block, [](uint8_t byte) { return byte == 0; });
}

Result<TarHeader> parse_tar_header(const TarBlock& block) {
  auto checksum = parse_tar_number(bytes_of(block, checksum_field));
  if (!checksum || !checksum_matches(block, *checksum)) return bad_header("its checksum is wrong");

  TarHeader header;
  header.type = static_cast<char>(block[type_offset]);
  if (header.type == '\0') header.type = '0';
  header.path = text_of(block, name_field);
  header.link = text_of(block, link_field);
  // Only headers with POSIX's magic ("ustar", NUL) have a prefix; GNU's ("ustar", space) have times there.
  if (bytes_of(block, magic_field) == std::string_view("ustar\0", 6)) {
    std::string_view prefix = text_of(block, prefix_field);
    if (!prefix.empty()) header.path = std::string(prefix) + "/" + header.path;
  }

  struct Number {
    Field field;
    const char* name;
    int64_t* into;
  };
  int64_t mode = 0;
  const Number numbers[] = {{mode_field, "mode", &mode},        {uid_field, "uid", &header.uid},
                            {gid_field, "gid", &header.gid},    {size_field, "size", &header.size},
                            {mtime_field, "mtime", &header.mtime}};
  const Number device_numbers[] = {{major_field, "major", &header.major}, {minor_field, "minor", &header.minor}};
  auto parse = [&block](std::span<const Number> wanted) -> Status {
    for (const Number& number : wanted) {
      auto value = parse_tar_number(bytes_of(block, number.field));
      if (!value) return bad_header(std::string("its ") + number.name + " is not a number");
      *number.into = *value;
    }
    return {};
  };
  TRY(parse(numbers));
  // Old archives have arbitrary data in these fields unless the entry is a device.
  if (header.type == '3' || header.type == '4') {
    TRY(parse(device_numbers));
  }
  if (header.size < 0) return bad_header("its size is negative");
  header.mode = static_cast<uint32_t>(mode & 07777);
  return header;
}

}  // namespace keelson
