#include "addon/node/answers.h"

#include <string.h>

#include <algorithm>
#include <initializer_list>
#include <utility>
#include <variant>

namespace keelson {

namespace {

Napi::Object to_object(Napi::Env env, std::initializer_list<std::pair<const char*, Napi::Value>> members) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, value] : members) object.Set(name, value);
  return object;
}

// The variants of `LayerFile` in ../../client/host.ts.
struct LayerFileToJs {
  Napi::Env env;

  Napi::Value of_kind(const char* kind) const { return to_object(env, {{"kind", to_text(env, kind)}}); }
  Napi::Value operator()(MissingFile) const { return of_kind("missing"); }
  Napi::Value operator()(NotRegularFile) const { return of_kind("not-regular"); }
  Napi::Value operator()(const std::string& content) const {
    return to_object(env, {{"kind", to_text(env, "file")}, {"content", to_buffer(env, content)}});
  }
  Napi::Value operator()(TooLargeFile file) const {
    return to_object(env, {{"kind", to_text(env, "too-large")}, {"size", to_bigint(env, file.size)}});
  }
};

}  // namespace

Napi::Value rejection(Napi::Env env, const Error& error) {
  Napi::Error made = Napi::Error::New(env, error.message());
  made.Set("kind", std::string(to_string(error.kind)));
  made.Set("step", error.step);
  made.Set("object", error.object);
  made.Set("errno", Napi::Number::New(env, error.error_number));
  made.Set("reason", error.error_number != 0 ? std::string(strerror(error.error_number)) : error.detail);
  return made.Value();
}

Napi::Value to_text(Napi::Env env, const std::string& text) { return Napi::String::New(env, text); }
Napi::Value to_number(Napi::Env env, int number) { return Napi::Number::New(env, number); }
Napi::Value to_boolean(Napi::Env env, bool value) { return Napi::Boolean::New(env, value); }

Napi::Value to_bigint(Napi::Env env, uint64_t number) { return Napi::BigInt::New(env, number); }

Napi::Value to_buffer(Napi::Env env, const std::string& bytes) {
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value to_buffer_or_null(Napi::Env env, const std::optional<std::string>& bytes) {
  return bytes ? to_buffer(env, *bytes) : env.Null();
}

Napi::Value to_descriptor(Napi::Env env, Fd& fd) { return fd ? to_number(env, fd.release()) : env.Null(); }

Napi::Value to_disk_usage(Napi::Env env, const TreeUse& use) {
  return to_object(env, {{"bytes", to_bigint(env, use.bytes)}, {"inodes", to_bigint(env, use.inodes)}});
}

Napi::Value to_open_descriptors(Napi::Env env, const OpenDescriptors& open) {
  return to_object(env, {{"all", to_bigint(env, open.all)}, {"sockets", to_bigint(env, open.sockets)}});
}

Napi::Value to_numbers(Napi::Env env, const std::vector<uint64_t>& numbers) {
  auto array = Napi::BigUint64Array::New(env, numbers.size());
  std::ranges::copy(numbers, array.Data());
  return array;
}

Napi::Value to_started_program(Napi::Env env, StartedProgram& started) {
  Napi::Array pipes = Napi::Array::New(env, started.pipes.size());
  for (uint32_t i = 0; i < started.pipes.size(); ++i) pipes.Set(i, to_number(env, started.pipes[i].release()));
  return to_object(env, {{"pid", to_number(env, started.pid)}, {"pipes", pipes}});
}

Napi::Value to_reaped_program(Napi::Env env, const ReapedProgram& reaped) {
  return to_object(env, {{"pid", to_number(env, reaped.pid)},
                         {"code", to_number(env, reaped.code)},
                         {"signal", to_number(env, reaped.signal)}});
}

Napi::Value to_layer_file(Napi::Env env, const LayerFile& file) { return std::visit(LayerFileToJs{env}, file); }

}  // namespace keelson
