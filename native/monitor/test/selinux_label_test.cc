// SELinux labels, from the daemon's files to the mount options.
#include <string>

#include "monitor/pod/sandbox_spec.h"
#include "monitor/setup/rootfs.h"
#include "monitor/setup/spec.h"
#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

const std::string label = "system_u:object_r:container_file_t:s0:c1,c2";

std::string config(const std::string& process_label, const std::string& mount_label) {
  return R"({"process": {"args": ["a"], "cwd": "/", "selinuxLabel": ")" + process_label +
         R"("}, "linux": {"mountLabel": ")" + mount_label + R"("}})";
}

std::string refusal_of(const std::string& process_label, const std::string& mount_label) {
  Result<ContainerSpec> spec = parse_spec(config(process_label, mount_label));
  return spec ? "" : spec.error().message();
}

void labels_are_read() {
  Result<ContainerSpec> spec = parse_spec(config("u:r:t:s0-s0:c0.c1023", label));
  EXPECT(spec.has_value());
  EXPECT_EQUAL(spec->process.selinux_label, "u:r:t:s0-s0:c0.c1023");
  EXPECT_EQUAL(spec->mount_label, label);
  Result<ContainerSpec> none = parse_spec(R"({"process": {"args": ["a"], "cwd": "/"}})");
  EXPECT(none.has_value() && none->process.selinux_label.empty() && none->mount_label.empty());
}

void a_possible_option_is_not_a_label() {
  for (const char* text : {R"(a:b:c:s0\",upperdir=\"/etc)", "a:b:c d", R"(a:b\\:c)", R"(a\u0000b)", R"(a\nb)", "a=b", "a/b"}) {
    EXPECT(refusal_of(text, "").find("process.selinuxLabel") != std::string::npos);
    EXPECT(refusal_of("", text).find("linux.mountLabel") != std::string::npos);
    const std::string sandbox = R"({"version": 1, "id": "00", "namespaces": {"net": "host", "ipc": "host", "uts": "host",
      "pid": "host"}, "mount_label": ")" + std::string(text) + "\"}";
    Result<SandboxSpec> parsed = parse_sandbox(sandbox);
    EXPECT(!parsed && parsed.error().message().find("mount_label") != std::string::npos);
  }
}

void a_label_is_quoted_in_options() {
  const RootfsSpec spec{{"/top", "/bottom"}, "/upper", "/work", {}, {}};
  const RootfsPlan plan = plan_rootfs(spec, "/bundle", label);
  EXPECT_EQUAL(plan.root.label, label);
  EXPECT_EQUAL(plan.root.page_options, "redirect_dir=nofollow,metacopy=off,context=\"" + label +
                                          "\",upperdir=/upper,workdir=/work,volatile");
  EXPECT_EQUAL(plan_rootfs(spec, "/bundle", "").root.page_options,
               "redirect_dir=nofollow,metacopy=off,upperdir=/upper,workdir=/work,volatile");
}

// A bind mount of the layer would show the layer's own label, and one directory is not enough for an overlay.
void an_image_of_one_layer_becomes_an_overlay() {
  const RootfsSpec spec{{"/top"}, "/upper", "/work", {{"/bundle/images/0", {"/layer"}, ""}}, {}};
  const RootfsPlan labelled = plan_rootfs(spec, "/bundle", label);
  EXPECT_EQUAL(static_cast<long>(labelled.images[0].view.lower.size()), 2);
  EXPECT_EQUAL(labelled.images[0].view.lower[1], "/bundle/images/0");
  EXPECT_EQUAL(static_cast<long>(labelled.images[0].view.mapped_lower.size()), 2);
  EXPECT_EQUAL(static_cast<long>(labelled.root.lower.size()), 1);
  EXPECT_EQUAL(static_cast<long>(plan_rootfs(spec, "/bundle", "").images[0].view.lower.size()), 1);
}

}  // namespace

std::vector<Test> selinux_label_tests() {
  return {{"SELinux labels are read", labels_are_read},
          {"a text that could contain another option is not an SELinux label", a_possible_option_is_not_a_label},
          {"an SELinux label is quoted in options", a_label_is_quoted_in_options},
          {"a label makes an image of one layer an overlay", an_image_of_one_layer_becomes_an_overlay}};
}

}  // namespace keelson::test
