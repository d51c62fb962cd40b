// Incremental SHA-256, by libcrypto.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

namespace keelson {

class Sha256 {
 public:
  Sha256();

  void update(std::span<const uint8_t> bytes);
  // The digest of all bytes. Call it once, as the last.
  std::array<uint8_t, 32> finish();

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const;
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace keelson
