// The Node-API module: maps each method of `Host` in ../client/host.ts, by name, to the function in this folder or in
// common/ that implements it. node/ converts between them and JavaScript.

#include <napi.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "addon/change_files.h"
#include "addon/cover.h"
#include "addon/descriptors.h"
#include "addon/figures.h"
#include "addon/files.h"
#include "addon/host_path.h"
#include "addon/kernel.h"
#include "addon/layers.h"
#include "addon/monitor_fork.h"
#include "addon/mount_namespace.h"
#include "addon/network.h"
#include "addon/node/method.h"
#include "addon/overlay.h"
#include "addon/relabel.h"
#include "addon/seccomp.h"
#include "addon/service_manager.h"
#include "addon/spawn.h"
#include "common/own_program.h"
#include "common/tree.h"

namespace keelson {

namespace {

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
  auto forget = [reader](const Strings& cgroups) -> Status {
    reader->forget(cgroups);
    return {};
  };
  auto start = [](const std::string& file, const Strings& argv, const Strings& environment,
                  const std::string& directory, const Strings& descriptors, const std::string& input) {
    return start_program({file, argv, environment, directory, descriptors, input});
  };

  limit_kept_memory();
  exports.Set("syncFileSystem", method_in_own_thread<size>(env, sync_file_system));
  exports.Set("readFiles", method<paths, size>(env, read_files, to_array<to_buffer_or_null, std::optional<std::string>>));
  exports.Set("readFigures", method<paths, paths>(env, read_figures, to_numbers));
  exports.Set("readFiguresAgain", method<paths, paths>(env, std::bind_front(&FiguresReader::read, reader), to_numbers));
  exports.Set("forgetFigures", method<paths>(env, forget));
  exports.Set("countDescriptors", method<paths, size>(env, count_descriptors, to_open_descriptors));
  exports.Set("openInside", method<path, text>(env, open_inside, to_descriptor));
  exports.Set("diskUsage", method<path, count>(env, disk_usage, to_disk_usage));
  exports.Set("removeTree", method_in_own_thread<path>(env, remove_tree));
  exports.Set("hasLabel", method<path, text>(env, has_label, to_boolean));
  exports.Set("relabelTree", method_in_own_thread<path, text, count, size>(env, relabel_tree, to_bigint));
  exports.Set("coverUnnamed", method_in_own_thread<paths, path>(env, cover_unnamed, to_bigint));
  exports.Set("readFromLayers", method<paths, paths, size>(env, read_from_layers, to_array<to_layer_file, LayerFile>));
  exports.Set("removedPaths",
              method_in_own_thread<path, paths, count>(env, removed_paths, to_array<to_buffer, std::string>));
  exports.Set("resolvePath", method_in_own_process<path>(env, resolve_path, to_text));
  exports.Set("presentPath", method_in_own_process<path>(env, present_path, to_text));
  exports.Set("unmount", method<path>(env, unmount));
  exports.Set("compileSeccomp", method<text>(env, compile_seccomp, to_buffer));
  exports.Set("sealedCopy", method<path>(env, sealed_copy, to_descriptor));
  exports.Set("emptyMountNamespace", method(env, empty_mount_namespace, to_descriptor));
  exports.Set("tryLock", method<path>(env, try_lock, to_descriptor));
  exports.Set("notifyManager", method<path, text>(env, notify_manager));
  exports.Set("adoptListener", method<size>(env, adopt_listener, to_text));
  exports.Set("pinNamespace", method<path, path>(env, pin_namespace));
  exports.Set("hasInterface", method<path, text>(env, has_interface, to_boolean));
  exports.Set("readInterfaces", method<path>(env, read_interfaces, to_text));
  exports.Set("changeFiles", method<&Arguments::file_steps>(env, change_files));
  exports.Set("startProgram", method<path, words, words, path, words, text>(env, start, to_started_program));
  exports.Set("askForFork", method_at_once<size, path>(env, ask_for_fork, to_descriptor));
  exports.Set("endedChild", method_at_once(env, ended_child, to_number));
  exports.Set("reapPrograms", method_at_once<&Arguments::pids>(env, reap_programs, to_array<to_reaped_program, ReapedProgram>));
  exports.Set("hostCapabilities", method_at_once(env, bounding_capabilities, to_bigint));
  exports.Set("unblockUsr1", Napi::Function::New(env, unblockUsr1));
  exports.Set("limitKeptMemory", method_at_once(env, limit_kept_memory));
  exports.Set("reuseFreedBuffers", method_at_once(env, reuse_freed_buffers));
  exports.Set("trimHeap", method_at_once(env, trim_heap));
  exports.Set("letGoOfProgram", method_at_once(env, drop_program_pages));
  exports.Set("exitNow", method_at_once<size>(env, [](uint64_t code) { _exit(static_cast<int>(code)); }));
  return exports;
}

}  // namespace

NODE_API_MODULE(keelson, register_functions)

}  // namespace keelson
