// The first object makes libcrypto load its built-in algorithms, which takes only memory and locks. Without
// OPENSSL_INIT_NO_LOAD_CONFIG it would read openssl.cnf and load the modules that the file names.
#include "unpack/codec/sha256.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <cstdlib>

namespace keelson {

namespace {

// libcrypto fails here only if there is no memory, in which case `new` would abort the process too.
void require(bool truth) {
  if (!truth) std::abort();
}

}  // namespace

void Sha256::Free::operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() {
  require(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, nullptr) == 1);
  context_.reset(EVP_MD_CTX_new());
  require(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

void Sha256::update(std::span<const uint8_t> bytes) {
  require(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

std::array<uint8_t, 32> Sha256::finish() {
  std::array<uint8_t, 32> digest{};
  require(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
  return digest;
}

}  // namespace keelson
