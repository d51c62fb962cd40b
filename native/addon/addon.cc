// The Node-API module: one function here for each method of `Host` in ../client/host.ts, by its name there.

#include <napi.h>
#include <unistd.h>

#include "addon/background.h"
#include "addon/files.h"
#include "addon/kernel.h"
#include "addon/layers.h"
#include "addon/network.h"
#include "addon/overlay.h"
#include "addon/seccomp.h"
#include "addon/tree.h"

namespace keelson {

namespace {

Napi::Value to_buffer(Napi::Env env, const std::string& bytes) {
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value to_descriptor(Napi::Env env, Fd& fd) { return Napi::Number::New(env, fd.release()); }

Napi::Value syncFileSystem(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string path = arguments.path();
  if (!arguments.ok()) return {};
  return run_status(info.Env(), path, [path] { return sync_file_system(path); });
}

Napi::Value readFiles(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::vector<std::string> paths = arguments.paths();
  uint64_t limit = arguments.size();
  if (!arguments.ok()) return {};
  return Background<FileContents>::run(
      info.Env(), "files", [paths = std::move(paths), limit]() -> Result<FileContents> { return read_files(paths, limit); },
      [](Napi::Env env, FileContents& contents) -> Napi::Value {
        Napi::Array array = Napi::Array::New(env, contents.size());
        for (uint32_t i = 0; i < contents.size(); ++i) {
          array.Set(i, contents[i] ? to_buffer(env, *contents[i]) : env.Null());
        }
        return array;
      });
}

Napi::Value openInside(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string directory = arguments.path();
  std::string name = arguments.text();
  if (!arguments.ok()) return {};
  return Background<Fd>::run(
      info.Env(), directory, [directory, name] { return open_inside(directory, name); },
      [](Napi::Env env, Fd& fd) { return fd ? to_descriptor(env, fd) : env.Null(); });
}

Napi::Value diskUsage(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string path = arguments.path();
  uint64_t max_inodes = arguments.count();
  if (!arguments.ok()) return {};
  return Background<TreeUse>::run(
      info.Env(), path, [path, max_inodes] { return disk_usage(path, max_inodes); },
      [](Napi::Env env, TreeUse& use) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("bytes", Napi::BigInt::New(env, use.bytes));
        object.Set("inodes", Napi::BigInt::New(env, use.inodes));
        return object;
      });
}

Napi::Value removeTree(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string path = arguments.path();
  if (!arguments.ok()) return {};
  return run_status(info.Env(), path, [path] { return remove_tree(path); });
}

// The forms of `LayerFile` in ../client/host.ts.
struct LayerFileToJs {
  Napi::Env env;

  Napi::Object of_kind(const char* kind) const {
    Napi::Object object = Napi::Object::New(env);
    object.Set("kind", kind);
    return object;
  }
  Napi::Object operator()(const std::string& content) const {
    Napi::Object object = of_kind("file");
    object.Set("content", to_buffer(env, content));
    return object;
  }
  Napi::Object operator()(MissingFile) const { return of_kind("missing"); }
  Napi::Object operator()(NotRegularFile) const { return of_kind("not-regular"); }
  Napi::Object operator()(TooLargeFile file) const {
    Napi::Object object = of_kind("too-large");
    object.Set("size", Napi::BigInt::New(env, file.size));
    return object;
  }
};

Napi::Value readFromLayers(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::vector<std::string> layers = arguments.paths();
  std::vector<std::string> paths = arguments.paths();
  uint64_t limit = arguments.size();
  if (!arguments.ok()) return {};
  std::string object = layers.empty() ? "no layers" : layers.front();
  return Background<std::vector<LayerFile>>::run(
      info.Env(), object,
      [layers = std::move(layers), paths = std::move(paths), limit] { return read_from_layers(layers, paths, limit); },
      [](Napi::Env env, std::vector<LayerFile>& files) -> Napi::Value {
        Napi::Array array = Napi::Array::New(env, files.size());
        for (uint32_t i = 0; i < files.size(); ++i) array.Set(i, std::visit(LayerFileToJs{env}, files[i]));
        return array;
      });
}

Napi::Value removedPaths(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string upper = arguments.path();
  std::vector<std::string> lower = arguments.paths();
  uint64_t limit = arguments.count();
  if (!arguments.ok()) return {};
  return Background<std::vector<std::string>>::run(
      info.Env(), upper, [upper, lower = std::move(lower), limit] { return removed_paths(upper, lower, limit); },
      [](Napi::Env env, std::vector<std::string>& paths) -> Napi::Value {
        Napi::Array array = Napi::Array::New(env, paths.size());
        for (uint32_t i = 0; i < paths.size(); ++i) array.Set(i, to_buffer(env, paths[i]));
        return array;
      });
}

Napi::Value unmountLazily(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string path = arguments.path();
  if (!arguments.ok()) return {};
  return run_status(info.Env(), path, [path] { return unmount(path); });
}

Napi::Value compileSeccomp(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string profile = arguments.text();
  if (!arguments.ok()) return {};
  return Background<std::string>::run(
      info.Env(), "seccomp profile", [profile = std::move(profile)] { return compile_seccomp(profile); },
      [](Napi::Env env, std::string& program) { return to_buffer(env, program); });
}

Napi::Value sealedCopy(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string path = arguments.path();
  if (!arguments.ok()) return {};
  return Background<Fd>::run(info.Env(), path, [path] { return sealed_copy(path); }, to_descriptor);
}

Napi::Value tryLock(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string path = arguments.path();
  if (!arguments.ok()) return {};
  return Background<Fd>::run(
      info.Env(), path, [path] { return try_lock(path); },
      [](Napi::Env env, Fd& fd) { return fd ? to_descriptor(env, fd) : env.Null(); });
}

Napi::Value pinNamespace(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string space = arguments.path();
  std::string pin = arguments.path();
  if (!arguments.ok()) return {};
  return run_status(info.Env(), pin, [space, pin] { return pin_namespace(space, pin); });
}

Napi::Value interfaceAddresses(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  std::string space = arguments.path();
  std::string interface = arguments.text();
  if (!arguments.ok()) return {};
  return Background<std::vector<std::string>>::run(
      info.Env(), space, [space, interface] { return interface_addresses(space, interface); },
      [](Napi::Env env, std::vector<std::string>& addresses) -> Napi::Value {
        Napi::Array array = Napi::Array::New(env, addresses.size());
        for (uint32_t i = 0; i < addresses.size(); ++i) array.Set(i, addresses[i]);
        return array;
      });
}

Napi::Value hostCapabilities(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), bounding_capabilities());
}

Napi::Value unblockUsr1(const Napi::CallbackInfo& info) {
  if (!unblock_usr1()) Napi::Error::New(info.Env(), "SIGUSR1 cannot be unblocked").ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Napi::Value trimHeap(const Napi::CallbackInfo& info) {
  trim_heap();
  return info.Env().Undefined();
}

Napi::Value exitNow(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  int code = static_cast<int>(arguments.size());
  if (!arguments.ok()) return {};
  _exit(code);
}

Napi::Object register_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("syncFileSystem", Napi::Function::New(env, syncFileSystem));
  exports.Set("readFiles", Napi::Function::New(env, readFiles));
  exports.Set("openInside", Napi::Function::New(env, openInside));
  exports.Set("diskUsage", Napi::Function::New(env, diskUsage));
  exports.Set("removeTree", Napi::Function::New(env, removeTree));
  exports.Set("readFromLayers", Napi::Function::New(env, readFromLayers));
  exports.Set("removedPaths", Napi::Function::New(env, removedPaths));
  exports.Set("unmount", Napi::Function::New(env, unmountLazily));
  exports.Set("compileSeccomp", Napi::Function::New(env, compileSeccomp));
  exports.Set("sealedCopy", Napi::Function::New(env, sealedCopy));
  exports.Set("tryLock", Napi::Function::New(env, tryLock));
  exports.Set("pinNamespace", Napi::Function::New(env, pinNamespace));
  exports.Set("interfaceAddresses", Napi::Function::New(env, interfaceAddresses));
  exports.Set("hostCapabilities", Napi::Function::New(env, hostCapabilities));
  exports.Set("unblockUsr1", Napi::Function::New(env, unblockUsr1));
  exports.Set("trimHeap", Napi::Function::New(env, trimHeap));
  exports.Set("exitNow", Napi::Function::New(env, exitNow));
  return exports;
}

}  // namespace

NODE_API_MODULE(keelson, register_functions)

}  // namespace keelson
