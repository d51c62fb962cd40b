// Calls libcrypto's SHA-512 functions directly: finding them through providers takes longer than the rest of a plugin's
// startup.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "cni/nftables/field_hash.h"

#include <openssl/sha.h>

namespace keelson {

std::string hash_digits(std::string_view text, size_t digits) {
  static constexpr char digit[] = "0123456789abcdef";
  unsigned char hash[SHA512_DIGEST_LENGTH];
  SHA512_CTX context;
  SHA512_Init(&context);
  SHA512_Update(&context, text.data(), text.size());
  SHA512_Final(hash, &context);
  std::string all;
  for (unsigned char byte : hash) all += {digit[byte >> 4], digit[byte & 15]};
  return all.substr(0, digits);
}

}  // namespace keelson
