#include "addon/node/arguments.h"

namespace keelson {

std::string Arguments::text() { return as_text(info_[next_++]); }

// A path must not end early at a NUL byte.
std::string Arguments::path() { return about(as_path(info_[next_++])); }

std::vector<std::string> Arguments::paths() {
  auto all = list("an array of paths", [this](Napi::Value item) { return as_path(item); });
  if (!all.empty()) about(all.front());
  return all;
}

// Words of a command line or environment, which must not end early at a NUL byte.
std::vector<std::string> Arguments::words() {
  return list("an array of strings", [this](Napi::Value item) {
    std::string word = as_text(item);
    if (word.find('\0') != std::string::npos) wrong("strings without NUL bytes");
    return word;
  });
}

std::vector<pid_t> Arguments::pids() {
  return list("an array of process ids", [this](Napi::Value item) {
    pid_t pid = item.IsNumber() ? item.As<Napi::Number>().Int32Value() : 0;
    if (pid <= 0) wrong("process ids");
    return pid;
  });
}

std::vector<FileStep> Arguments::file_steps() {
  return list("an array of steps", [this](Napi::Value item) { return as_file_step(item); });
}

uint64_t Arguments::size() {
  Napi::Value value = info_[next_++];
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= 1U << 30)) return wrong("a number from 0 to 2^30"), uint64_t{0};
  return static_cast<uint64_t>(number);
}

uint64_t Arguments::count() {
  Napi::Value value = info_[next_++];
  bool lossless = false;
  uint64_t number = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) wrong("a bigint from 0 to 2^64 - 1");
  return number;
}

void Arguments::wrong(const char* wanted) {
  if (ok_) Napi::TypeError::New(info_.Env(), std::string("argument must be ") + wanted).ThrowAsJavaScriptException();
  ok_ = false;
}

const std::string& Arguments::about(const std::string& path) {
  if (object_.empty()) object_ = path;
  return path;
}

template <typename Read>
std::vector<std::invoke_result_t<Read, Napi::Value>> Arguments::list(const char* wanted, Read read) {
  std::vector<std::invoke_result_t<Read, Napi::Value>> all;
  Napi::Value value = info_[next_++];
  if (!value.IsArray()) return wrong(wanted), all;
  auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; ok_ && i < array.Length(); ++i) all.push_back(read(array.Get(i)));
  return all;
}

// The forms of `FileStep` in ../../client/host.ts, which has their types.
FileStep Arguments::as_file_step(Napi::Value value) {
  if (!value.IsObject()) return wrong("a step"), FileStep();
  auto step = value.As<Napi::Object>();
  const std::string kind = as_text(step.Get("kind"));
  std::string path = as_path(step.Get("path"));
  auto number = [&](const char* name, uint32_t otherwise) {
    Napi::Value held = step.Get(name);
    return held.IsNumber() ? held.As<Napi::Number>().Uint32Value() : otherwise;
  };
  auto is = [&](const char* name) { return step.Get(name).ToBoolean().Value(); };
  const Owner owner{number("uid", 0), number("gid", 0)};
  if (kind == "directory") return MakeDirectory{path, number("mode", 0755), is("mayExist")};
  if (kind == "directory like") return MakeDirectoryLike{path, as_path(step.Get("like")), owner};
  if (kind == "file") {
    return WriteFile{path,        as_bytes(step.Get("content")), number("mode", 0666), is("isModeExact"),
                     is("isNew"), is("isAdded"),                 is("isFlushed"),      owner};
  }
  if (kind == "rename") return RenameFile{path, as_path(step.Get("to"))};
  if (kind == "remove") return RemoveFile{path};
  if (kind == "flush") return Flush{path};
  return wrong("a known kind of step"), FileStep();
}

std::string Arguments::as_bytes(Napi::Value value) {
  if (!value.IsBuffer()) return as_text(value);
  auto bytes = value.As<Napi::Buffer<char>>();
  return {bytes.Data(), bytes.Length()};
}

std::string Arguments::as_text(Napi::Value value) {
  if (!value.IsString()) return wrong("a string"), std::string();
  return value.As<Napi::String>().Utf8Value();
}

std::string Arguments::as_path(Napi::Value value) {
  std::string text = as_text(value);
  if (ok_ && (text.empty() || text.find('\0') != std::string::npos)) wrong("a path");
  return text;
}

}  // namespace keelson
