// Converts the results of the addon's functions to JavaScript values, of the types in ../../client/host.ts.
#pragma once

#include <napi.h>

#include <optional>
#include <string>
#include <vector>

#include "addon/descriptors.h"
#include "addon/layers.h"
#include "addon/spawn.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/tree.h"

namespace keelson {

// An Error with `kind`, `step`, `object`, `errno` and `reason`; host.ts converts it to a KeelsonError.
Napi::Value rejection(Napi::Env env, const Error& error);

Napi::Value to_text(Napi::Env env, const std::string& text);
Napi::Value to_number(Napi::Env env, int number);
Napi::Value to_boolean(Napi::Env env, bool value);
Napi::Value to_bigint(Napi::Env env, uint64_t number);
Napi::Value to_buffer(Napi::Env env, const std::string& bytes);
Napi::Value to_buffer_or_null(Napi::Env env, const std::optional<std::string>& bytes);
// An empty Fd becomes null.
Napi::Value to_descriptor(Napi::Env env, Fd& fd);
Napi::Value to_disk_usage(Napi::Env env, const TreeUse& use);
Napi::Value to_open_descriptors(Napi::Env env, const OpenDescriptors& open);
Napi::Value to_numbers(Napi::Env env, const std::vector<uint64_t>& numbers);
// -1 where there is no pipe. JavaScript must close the descriptors.
Napi::Value to_started_program(Napi::Env env, StartedProgram& started);
Napi::Value to_reaped_program(Napi::Env env, const ReapedProgram& reaped);
Napi::Value to_layer_file(Napi::Env env, const LayerFile& file);

template <auto to_item, typename Item>
Napi::Value to_array(Napi::Env env, const std::vector<Item>& items) {
  Napi::Array array = Napi::Array::New(env, items.size());
  for (uint32_t i = 0; i < items.size(); ++i) array.Set(i, to_item(env, items[i]));
  return array;
}

}  // namespace keelson
