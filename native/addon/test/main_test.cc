// Runs the addon's functions without Node, so that sanitizers can check them: `make -C native sanitize`,
// then build/sanitize/addon-unit-test. Needs root (overlay mounts). Exits 1 at the first assertion that fails.

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "addon/test/claims.h"
#include "common/tree.h"

namespace keelson {

namespace {

int test_all() {
  const rlimit few = {256, 256};
  CLAIM(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  char base[] = "/tmp/keelson-addon-test-XXXXXX";
  CLAIM(::mkdtemp(base) != nullptr);
  const int before = open_descriptors();
  test_trees(base);
  test_relabel(base);
  test_layers(base);
  test_files(base);
  test_kernel(base);
  test_service_manager(base);
  CLAIM(open_descriptors() == before);
  CLAIM_OK(remove_tree(base));
  CLAIM(!exists(base));
  printf("addon: all claims hold\n");
  return 0;
}

}  // namespace

}  // namespace keelson

int main() { return keelson::test_all(); }
