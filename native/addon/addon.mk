# The Node-API addon, and the test program for its functions (which do not depend on Node).
ADDON_FUNCTIONS := $(filter-out addon/addon.cc,$(wildcard addon/*.cc)) $(wildcard common/*.cc)
ADDON_PARTS := $(call objects,$(OBJECTS),$(ADDON_FUNCTIONS))
ADDON_METHODS := $(call objects,$(OBJECTS),$(wildcard addon/node/*.cc))
$(OBJECTS)/addon/%: PART_FLAGS = -DNAPI_VERSION=9 -DNODE_GYP_MODULE_NAME=keelson -DNAPI_DISABLE_CPP_EXCEPTIONS \
  -DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS \
  -isystem ../node_modules/node-addon-api -isystem ../node_modules/node-api-headers/include

all: $(BUILD)/keelson.node $(BUILD)/testing/seccomp-probe $(BUILD)/testing/flush-log.so
all-sanitize: $(BUILD)/addon-unit-test

# libstdc++ is linked statically, so that the module loads wherever Node does; libseccomp is its only shared library.
$(BUILD)/keelson.node: $(ADDON_PARTS) $(ADDON_METHODS) $(OBJECTS)/addon/addon.o
	$(CXX) -shared $(CXXFLAGS) -static-libstdc++ -static-libgcc -Wl,--gc-sections -o $@ $^ -lseccomp

$(BUILD)/addon-unit-test: $(ADDON_PARTS) $(call objects,$(OBJECTS),$(wildcard addon/test/*.cc))
	$(CXX) $(CXXFLAGS) -o $@ $^ -lseccomp

# Static: pod/spec/seccomp-default.test.ts runs it in containers that have no other file.
$(BUILD)/testing/seccomp-probe: testing/seccomp_probe.cc
	@mkdir -p $(@D)
	$(CXX) $(COMMON) $(CXXFLAGS) -static -o $@ $<

# Loaded into Node by native/testing/flushes.ts.
$(BUILD)/testing/flush-log.so: testing/flush_log.cc
	@mkdir -p $(@D)
	$(CXX) $(COMMON) $(CXXFLAGS) -shared -fPIC -o $@ $<
