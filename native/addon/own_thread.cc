#include "addon/own_thread.h"

#include <pthread.h>

namespace keelson {

namespace {

void* run_thread(void* argument) {
  (*static_cast<const std::function<void()>*>(argument))();
  return nullptr;
}

}  // namespace

Status in_own_thread(const std::function<void()>& work) {
  pthread_t thread = {};
  auto* argument = const_cast<std::function<void()>*>(&work);
  if (int error = ::pthread_create(&thread, nullptr, run_thread, argument)) return fail_errno("start a thread", error);
  ::pthread_join(thread, nullptr);
  return {};
}

}  // namespace keelson
