// The road from JavaScript to a function of this folder and back: arguments are
// checked, the function runs on libuv's thread pool, its Result settles a promise.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <napi.h>

#include "common/error.h"

namespace keelson {

// The rejection: an Error with `kind`, `step`, `object`, `errno` and `detail`; host.ts makes it a KeelsonError.
inline Napi::Value to_js(Napi::Env env, const Error& error) {
  Napi::Error rejection = Napi::Error::New(env, error.message());
  rejection.Set("kind", std::string(to_string(error.kind)));
  rejection.Set("step", error.step);
  rejection.Set("object", error.object);
  rejection.Set("errno", Napi::Number::New(env, error.error_number));
  rejection.Set("reason", error.error_number != 0 ? std::string(strerror(error.error_number)) : error.detail);
  return rejection.Value();
}

template <typename T>
class Background final : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result<T>()>;
  using Convert = std::function<Napi::Value(Napi::Env, T&)>;

  // Deletes itself once the promise is settled. `object` is what errors are about.
  static Napi::Value run(Napi::Env env, std::string object, Work work, Convert convert) {
    auto* worker = new Background(env, std::move(object), std::move(work), std::move(convert));
    Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

 private:
  Background(Napi::Env env, std::string object, Work work, Convert convert)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        object_(std::move(object)),
        work_(std::move(work)),
        convert_(std::move(convert)) {}

  void Execute() override {
    result_ = work_();
    if (!result_) result_ = about(std::move(result_.error()), object_);
  }

  void OnOK() override {
    if (result_) {
      deferred_.Resolve(convert_(Env(), *result_));
    } else {
      deferred_.Reject(to_js(Env(), result_.error()));
    }
  }

  Napi::Promise::Deferred deferred_;
  std::string object_;
  Work work_;
  Convert convert_;
  Result<T> result_;
};

// Nothing to convert: a Status as the work's result.
struct Nothing {};
inline Napi::Value run_status(Napi::Env env, std::string object, std::function<Status()> work) {
  return Background<Nothing>::run(
      env, std::move(object),
      [work = std::move(work)]() -> Result<Nothing> {
        TRY(work());
        return Nothing{};
      },
      [](Napi::Env there, Nothing&) { return there.Undefined(); });
}

// Reads arguments one after another; the first wrong one throws a TypeError and `ok` is false.
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  std::string text() { return text(info_[next_++]); }
  // A path must not end early at a NUL byte.
  std::string path() { return path(info_[next_++]); }

  std::vector<std::string> paths() {
    Napi::Value value = info_[next_++];
    if (!value.IsArray()) return wrong("an array of paths"), std::vector<std::string>();
    auto array = value.As<Napi::Array>();
    std::vector<std::string> all;
    for (uint32_t i = 0; ok_ && i < array.Length(); ++i) all.push_back(path(array.Get(i)));
    return all;
  }

  uint64_t size() {
    Napi::Value value = info_[next_++];
    double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number <= 1U << 30)) return wrong("a number from 0 to 2^30"), uint64_t{0};
    return static_cast<uint64_t>(number);
  }

  uint64_t count() {
    Napi::Value value = info_[next_++];
    bool lossless = false;
    uint64_t number = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
    if (!lossless) wrong("a bigint from 0 to 2^64 - 1");
    return number;
  }

  bool ok() const { return ok_; }

 private:
  void wrong(const char* wanted) {
    if (ok_) Napi::TypeError::New(info_.Env(), std::string("argument must be ") + wanted).ThrowAsJavaScriptException();
    ok_ = false;
  }

  std::string text(Napi::Value value) {
    if (!value.IsString()) return wrong("a string"), std::string();
    return value.As<Napi::String>().Utf8Value();
  }

  std::string path(Napi::Value value) {
    std::string text_value = text(value);
    if (ok_ && (text_value.empty() || text_value.find('\0') != std::string::npos)) wrong("a path");
    return text_value;
  }

  const Napi::CallbackInfo& info_;
  size_t next_ = 0;
  bool ok_ = true;
};

}  // namespace keelson
