// Exposes a C++ function as a JavaScript method: its arguments are checked, it runs on libuv's thread pool, on a thread or
// in its own process, or synchronously, and its Result settles a promise.
#pragma once

#include <napi.h>
#include <pthread.h>

#include <functional>
#include <string>
#include <tuple>
#include <type_traits>

#include "addon/node/answers.h"
#include "addon/node/arguments.h"
#include "addon/own_process.h"

namespace keelson {

// One call in progress; deletes itself once the promise is settled. `convert` turns a Result's value into a JavaScript one,
// and is not needed for a Status.
template <typename Answer, typename Convert>
class Background final : public Napi::AsyncWorker {
 public:
  static Napi::Value run(Napi::Env env, std::string object, std::function<Answer()> work, Convert convert) {
    auto* worker = new Background(env, std::move(object), std::move(work), convert);
    Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

 private:
  Background(Napi::Env env, std::string object, std::function<Answer()> work, Convert convert)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        object_(std::move(object)),
        work_(std::move(work)),
        convert_(convert) {}

  void Execute() override { answer_ = work_(); }

  void OnOK() override {
    if (!answer_) {
      deferred_.Reject(rejection(Env(), about(std::move(answer_.error()), object_)));
    } else if constexpr (std::is_void_v<typename Answer::value_type>) {
      deferred_.Resolve(Env().Undefined());
    } else {
      deferred_.Resolve(convert_(Env(), *answer_));
    }
  }

  Napi::Promise::Deferred deferred_;
  std::string object_;
  std::function<Answer()> work_;
  Convert convert_;
  Answer answer_;
};

// One call in progress, on its own thread: slow work must not occupy one of the pool's four threads. It uses the pool
// only if no thread can be started (all process ids of the host are in use, and the call may be removing what holds them).
// Work that may hang permanently runs in a separate process, for which the thread waits, so that it cannot keep this
// process from exiting. Deletes itself once the promise is settled.
template <typename Answer, typename Convert, bool in_process>
class OwnThread final {
 public:
  static Napi::Value run(Napi::Env env, std::string object, std::function<Answer()> work, Convert convert) {
    auto* call = new OwnThread(env, std::move(object), std::move(work), convert);
    Napi::Promise promise = call->deferred_.Promise();
    pthread_t thread = {};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    const int error = pthread_create(&thread, &attributes, execute, call);
    pthread_attr_destroy(&attributes);
    if (error == 0) return promise;
    if constexpr (in_process) {
      call->answer_ = fail_errno("start a thread", error);
      call->finished_.BlockingCall();
    } else {
      (new OnPool(env, call))->Queue();
    }
    return promise;
  }

 private:
  class OnPool final : public Napi::AsyncWorker {
   public:
    OnPool(Napi::Env env, OwnThread* call) : Napi::AsyncWorker(env), call_(call) {}
    void Execute() override { execute(call_); }

   private:
    OwnThread* call_;
  };

  static constexpr size_t stack_bytes = 256 << 10;

  OwnThread(Napi::Env env, std::string object, std::function<Answer()> work, Convert convert)
      : deferred_(Napi::Promise::Deferred::New(env)),
        object_(std::move(object)),
        work_(std::move(work)),
        convert_(convert),
        finished_(Finished::New(env, "keelson", 0, 1, this)) {}

  static void* execute(void* argument) {
    auto* call = static_cast<OwnThread*>(argument);
    auto work = [call] { call->answer_ = call->work_(); };
    if constexpr (in_process) {
      const Status ran = in_own_process(work);
      if (!ran) call->answer_ = std::unexpected(ran.error());
    } else {
      work();
    }
    call->finished_.BlockingCall();
    return nullptr;
  }

  static void settle(Napi::Env env, Napi::Function, OwnThread* call, std::nullptr_t*) {
    // No environment: Node is shutting down and nobody waits for the result.
    if (env != nullptr) {
      if (!call->answer_) {
        call->deferred_.Reject(rejection(env, about(std::move(call->answer_.error()), call->object_)));
      } else if constexpr (std::is_void_v<typename Answer::value_type>) {
        call->deferred_.Resolve(env.Undefined());
      } else {
        call->deferred_.Resolve(call->convert_(env, *call->answer_));
      }
    }
    call->finished_.Release();
    delete call;
  }

  using Finished = Napi::TypedThreadSafeFunction<OwnThread, std::nullptr_t, settle>;

  Napi::Promise::Deferred deferred_;
  std::string object_;
  std::function<Answer()> work_;
  Convert convert_;
  Answer answer_;
  Finished finished_;
};

template <typename Answer, typename Convert>
using InOwnThread = OwnThread<Answer, Convert, false>;
template <typename Answer, typename Convert>
using InOwnProcess = OwnThread<Answer, Convert, true>;

// A function's return type as a Result, also for a function that cannot fail.
template <typename T>
struct AsResult : std::type_identity<Result<T>> {};
template <typename T>
struct AsResult<Result<T>> : std::type_identity<Result<T>> {};

// A method that reads its arguments with `readers`, in order, calls `function` with them in the background, and resolves to
// its result, converted by `convert`.
template <template <typename, typename> typename Way, auto... readers, typename Function, typename Convert>
Napi::Function method_by(Napi::Env env, Function function, Convert convert) {
  return Napi::Function::New(env, [=](const Napi::CallbackInfo& info) -> Napi::Value {
    Arguments arguments(info);
    std::tuple values{(arguments.*readers)()...};
    if (!arguments.ok()) return {};
    using Answer = AsResult<decltype(std::apply(function, values))>::type;
    return Way<Answer, Convert>::run(
        info.Env(), arguments.object(), [=, values = std::move(values)] { return std::apply(function, values); }, convert);
  });
}

template <auto... readers, typename Function, typename Convert = std::nullptr_t>
Napi::Function method(Napi::Env env, Function function, Convert convert = nullptr) {
  return method_by<Background, readers...>(env, function, convert);
}

// The same on its own thread, for work that takes time in proportion to the size of a tree or disk.
template <auto... readers, typename Function, typename Convert = std::nullptr_t>
Napi::Function method_in_own_thread(Napi::Env env, Function function, Convert convert = nullptr) {
  return method_by<InOwnThread, readers...>(env, function, convert);
}

// The same in its own process, for work that may hang.
template <auto... readers, typename Function, typename Convert>
Napi::Function method_in_own_process(Napi::Env env, Function function, Convert convert) {
  return method_by<InOwnProcess, readers...>(env, function, convert);
}

template <typename T>
constexpr bool is_result = false;
template <typename T>
constexpr bool is_result<Result<T>> = true;

// The same, but runs synchronously on JavaScript's thread and throws its error.
template <auto... readers, typename Function, typename Convert = std::nullptr_t>
Napi::Function method_at_once(Napi::Env env, Function function, Convert convert = nullptr) {
  return Napi::Function::New(env, [=](const Napi::CallbackInfo& info) -> Napi::Value {
    Arguments arguments(info);
    std::tuple values{(arguments.*readers)()...};
    if (!arguments.ok()) return {};
    using Answer = decltype(std::apply(function, values));
    if constexpr (std::is_void_v<Answer>) {
      std::apply(function, values);
      return info.Env().Undefined();
    } else if constexpr (is_result<Answer>) {
      Answer answer = std::apply(function, values);
      if (answer) return convert(info.Env(), *answer);
      const Error error = about(std::move(answer.error()), arguments.object());
      Napi::Error(info.Env(), rejection(info.Env(), error)).ThrowAsJavaScriptException();
      return {};
    } else {
      return convert(info.Env(), std::apply(function, values));
    }
  });
}

}  // namespace keelson
