// The Node-API module: for each method of `Host` in ../client/host.ts, by its name there, the function of this folder
// or of common/ behind it. Arguments are checked, the function runs on libuv's thread pool, or on a thread of its own, and
// its Result settles a promise.

#include <napi.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include "addon/change_files.h"
#include "addon/descriptors.h"
#include "addon/figures.h"
#include "addon/files.h"
#include "addon/host_path.h"
#include "addon/kernel.h"
#include "addon/layers.h"
#include "addon/mount_namespace.h"
#include "addon/network.h"
#include "addon/overlay.h"
#include "addon/relabel.h"
#include "addon/seccomp.h"
#include "addon/service_manager.h"
#include "addon/spawn.h"
#include "common/own_program.h"
#include "common/tree.h"

namespace keelson {

namespace {

// Reads arguments one after another; the first wrong one throws a TypeError and `ok` is false.
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  std::string text() { return as_text(info_[next_++]); }
  // A path must not end early at a NUL byte.
  std::string path() { return about(as_path(info_[next_++])); }

  std::vector<std::string> paths() {
    auto all = list("an array of paths", [this](Napi::Value item) { return as_path(item); });
    if (!all.empty()) about(all.front());
    return all;
  }

  // What a program is given: none of it may end early at a NUL byte.
  std::vector<std::string> words() {
    return list("an array of strings", [this](Napi::Value item) {
      std::string word = as_text(item);
      if (word.find('\0') != std::string::npos) wrong("strings without NUL bytes");
      return word;
    });
  }

  std::vector<pid_t> pids() {
    return list("an array of process ids", [this](Napi::Value item) {
      pid_t pid = item.IsNumber() ? item.As<Napi::Number>().Int32Value() : 0;
      if (pid <= 0) wrong("process ids");
      return pid;
    });
  }

  std::vector<FileStep> file_steps() {
    return list("an array of steps", [this](Napi::Value item) { return as_file_step(item); });
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
  // What an error is about: the first path.
  const std::string& object() const { return object_; }

 private:
  void wrong(const char* wanted) {
    if (ok_) Napi::TypeError::New(info_.Env(), std::string("argument must be ") + wanted).ThrowAsJavaScriptException();
    ok_ = false;
  }

  const std::string& about(const std::string& path) {
    if (object_.empty()) object_ = path;
    return path;
  }

  template <typename Read>
  std::vector<std::invoke_result_t<Read, Napi::Value>> list(const char* wanted, Read read) {
    std::vector<std::invoke_result_t<Read, Napi::Value>> all;
    Napi::Value value = info_[next_++];
    if (!value.IsArray()) return wrong(wanted), all;
    auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; ok_ && i < array.Length(); ++i) all.push_back(read(array.Get(i)));
    return all;
  }

  // The forms of `FileStep` in ../client/host.ts, whose types say what stands in each.
  FileStep as_file_step(Napi::Value value) {
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

  std::string as_bytes(Napi::Value value) {
    if (!value.IsBuffer()) return as_text(value);
    auto bytes = value.As<Napi::Buffer<char>>();
    return {bytes.Data(), bytes.Length()};
  }

  std::string as_text(Napi::Value value) {
    if (!value.IsString()) return wrong("a string"), std::string();
    return value.As<Napi::String>().Utf8Value();
  }

  std::string as_path(Napi::Value value) {
    std::string text = as_text(value);
    if (ok_ && (text.empty() || text.find('\0') != std::string::npos)) wrong("a path");
    return text;
  }

  const Napi::CallbackInfo& info_;
  size_t next_ = 0;
  bool ok_ = true;
  std::string object_;
};

// The rejection: an Error with `kind`, `step`, `object`, `errno` and `reason`; host.ts makes it a KeelsonError.
Napi::Value rejection(Napi::Env env, const Error& error) {
  Napi::Error made = Napi::Error::New(env, error.message());
  made.Set("kind", std::string(to_string(error.kind)));
  made.Set("step", error.step);
  made.Set("object", error.object);
  made.Set("errno", Napi::Number::New(env, error.error_number));
  made.Set("reason", error.error_number != 0 ? std::string(strerror(error.error_number)) : error.detail);
  return made.Value();
}

Napi::Object to_object(Napi::Env env, std::initializer_list<std::pair<const char*, Napi::Value>> members) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, value] : members) object.Set(name, value);
  return object;
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

// No Fd is null.
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

// -1 where there is no pipe. The descriptors are JavaScript's to close.
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

// The forms of `LayerFile` in ../client/host.ts.
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

Napi::Value to_layer_file(Napi::Env env, const LayerFile& file) { return std::visit(LayerFileToJs{env}, file); }

template <auto to_item, typename Item>
Napi::Value to_array(Napi::Env env, const std::vector<Item>& items) {
  Napi::Array array = Napi::Array::New(env, items.size());
  for (uint32_t i = 0; i < items.size(); ++i) array.Set(i, to_item(env, items[i]));
  return array;
}

// One call on its way: deletes itself once the promise is settled. `convert` makes JavaScript's value of a Result's,
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

// One call on its way, on a thread of its own: what may hang for good must not keep one of the pool's four. Deletes itself
// once the promise is settled.
template <typename Answer, typename Convert>
class Apart final {
 public:
  static Napi::Value run(Napi::Env env, std::string object, std::function<Answer()> work, Convert convert) {
    auto* call = new Apart(env, std::move(object), std::move(work), convert);
    Napi::Promise promise = call->deferred_.Promise();
    pthread_t thread = {};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    const int error = pthread_create(&thread, &attributes, execute, call);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
      call->answer_ = fail_errno("start a thread", error);
      call->finished_.BlockingCall();
    }
    return promise;
  }

 private:
  static constexpr size_t stack_bytes = 256 << 10;

  Apart(Napi::Env env, std::string object, std::function<Answer()> work, Convert convert)
      : deferred_(Napi::Promise::Deferred::New(env)),
        object_(std::move(object)),
        work_(std::move(work)),
        convert_(convert),
        finished_(Finished::New(env, "keelson", 0, 1, this)) {}

  static void* execute(void* argument) {
    auto* call = static_cast<Apart*>(argument);
    call->answer_ = call->work_();
    call->finished_.BlockingCall();
    return nullptr;
  }

  static void settle(Napi::Env env, Napi::Function, Apart* call, std::nullptr_t*) {
    // Without an environment nobody waits any more.
    if (env != nullptr) {
      if (call->answer_) {
        call->deferred_.Resolve(call->convert_(env, *call->answer_));
      } else {
        call->deferred_.Reject(rejection(env, about(std::move(call->answer_.error()), call->object_)));
      }
    }
    call->finished_.Release();
    delete call;
  }

  using Finished = Napi::TypedThreadSafeFunction<Apart, std::nullptr_t, settle>;

  Napi::Promise::Deferred deferred_;
  std::string object_;
  std::function<Answer()> work_;
  Convert convert_;
  Answer answer_;
  Finished finished_;
};

// What a function answers as a Result: of one that cannot fail, its value.
template <typename T>
struct AsResult : std::type_identity<Result<T>> {};
template <typename T>
struct AsResult<Result<T>> : std::type_identity<Result<T>> {};

// A method that reads its arguments with `readers`, in their order, calls `function` with them in the background, and
// answers what `convert` makes of its result.
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

// The same on a thread of its own, for what may hang.
template <auto... readers, typename Function, typename Convert>
Napi::Function method_apart(Napi::Env env, Function function, Convert convert) {
  return method_by<Apart, readers...>(env, function, convert);
}

// The same for one that is called at once, on JavaScript's thread, and cannot fail.
template <auto... readers, typename Function, typename Convert = std::nullptr_t>
Napi::Function method_at_once(Napi::Env env, Function function, Convert convert = nullptr) {
  return Napi::Function::New(env, [=](const Napi::CallbackInfo& info) -> Napi::Value {
    Arguments arguments(info);
    std::tuple values{(arguments.*readers)()...};
    if (!arguments.ok()) return {};
    if constexpr (std::is_void_v<decltype(std::apply(function, values))>) {
      std::apply(function, values);
      return info.Env().Undefined();
    } else {
      return convert(info.Env(), std::apply(function, values));
    }
  });
}

Napi::Value unblockUsr1(const Napi::CallbackInfo& info) {
  if (!unblock_usr1()) Napi::Error::New(info.Env(), "SIGUSR1 cannot be unblocked").ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Napi::Object register_functions(Napi::Env env, Napi::Object exports) {
  constexpr auto path = &Arguments::path;
  constexpr auto paths = &Arguments::paths;
  constexpr auto text = &Arguments::text;
  constexpr auto words = &Arguments::words;
  constexpr auto size = &Arguments::size;
  constexpr auto count = &Arguments::count;
  using Strings = std::vector<std::string>;
  auto reader = std::make_shared<FiguresReader>();
  auto forget = [reader](const Strings& directories) -> Status {
    reader->forget(directories);
    return {};
  };
  auto start = [](const std::string& file, const Strings& argv, const Strings& environment,
                  const std::string& directory, const Strings& descriptors, const std::string& input) {
    return start_program({file, argv, environment, directory, descriptors, input});
  };

  limit_kept_memory();
  exports.Set("syncFileSystem", method<size>(env, sync_file_system));
  exports.Set("readFiles", method<paths, size>(env, read_files, to_array<to_buffer_or_null, std::optional<std::string>>));
  exports.Set("readFigures", method<paths, paths>(env, read_figures, to_numbers));
  exports.Set("readFiguresAgain", method<paths, paths>(env, std::bind_front(&FiguresReader::read, reader), to_numbers));
  exports.Set("forgetFigures", method<paths>(env, forget));
  exports.Set("countDescriptors", method<paths, size>(env, count_descriptors, to_open_descriptors));
  exports.Set("openInside", method<path, text>(env, open_inside, to_descriptor));
  exports.Set("diskUsage", method<path, count>(env, disk_usage, to_disk_usage));
  exports.Set("removeTree", method<path>(env, remove_tree));
  exports.Set("hasLabel", method<path, text>(env, has_label, to_boolean));
  exports.Set("relabelTree", method<path, text, count, size>(env, relabel_tree, to_bigint));
  exports.Set("readFromLayers", method<paths, paths, size>(env, read_from_layers, to_array<to_layer_file, LayerFile>));
  exports.Set("removedPaths", method<path, paths, count>(env, removed_paths, to_array<to_buffer, std::string>));
  exports.Set("presentPath", method_apart<path>(env, present_path, to_text));
  exports.Set("unmount", method<path>(env, unmount));
  exports.Set("compileSeccomp", method<text>(env, compile_seccomp, to_buffer));
  exports.Set("sealedCopy", method<path>(env, sealed_copy, to_descriptor));
  exports.Set("emptyMountNamespace", method(env, empty_mount_namespace, to_descriptor));
  exports.Set("tryLock", method<path>(env, try_lock, to_descriptor));
  exports.Set("notifyManager", method<path, text>(env, notify_manager));
  exports.Set("adoptListener", method<size>(env, adopt_listener, to_text));
  exports.Set("pinNamespace", method<path, path>(env, pin_namespace));
  exports.Set("hasInterface", method<path, text>(env, has_interface, to_boolean));
  exports.Set("changeFiles", method<&Arguments::file_steps>(env, change_files));
  exports.Set("startProgram", method<path, words, words, path, words, text>(env, start, to_started_program));
  exports.Set("endedChild", method_at_once(env, ended_child, to_number));
  exports.Set("reapPrograms", method_at_once<&Arguments::pids>(env, reap_programs, to_array<to_reaped_program, ReapedProgram>));
  exports.Set("hostCapabilities", method_at_once(env, bounding_capabilities, to_bigint));
  exports.Set("unblockUsr1", Napi::Function::New(env, unblockUsr1));
  exports.Set("limitKeptMemory", method_at_once(env, limit_kept_memory));
  exports.Set("reuseFreedBuffers", method_at_once(env, reuse_freed_buffers));
  exports.Set("trimHeap", method_at_once(env, trim_heap));
  exports.Set("letGoOfProgram", method_at_once(env, let_go_of_program));
  exports.Set("exitNow", method_at_once<size>(env, [](uint64_t code) { _exit(static_cast<int>(code)); }));
  return exports;
}

}  // namespace

NODE_API_MODULE(keelson, register_functions)

}  // namespace keelson
