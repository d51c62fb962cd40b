# keelson-cni: the network plugins. libnftnl is linked in; of libmnl Debian has no archive, so it is the one shared library
# besides glibc's. `cni/` below the build holds a link to it for each plugin, by the plugin's name.
CNI_VERSION := $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' ../package.json)
CNI_PLUGINS := loopback bridge ptp portmap host-gw host-local static

CNI_SOURCES := $(filter-out %_test.cc,$(wildcard cni/*.cc cni/*/*.cc common/*.cc))
CNI_PARTS := $(call objects,$(BUILD)/cni-objects,$(filter-out %/main.cc,$(CNI_SOURCES)))
CNI_LIBRARIES := -l:libnftnl.a -lmnl -l:libcrypto.a -pthread
# Linked by the C compiler, as the C++ one adds libm, which nothing here needs: a tenth of the start.
CNI_LINK = $(if $(STATIC),$(CC) -s -static-libgcc,$(CXX)) $(CXXFLAGS) -Wl,--gc-sections,--as-needed,-z,relro
CNI_RUNTIME := $(if $(STATIC),-l:libstdc++.a)

CNI_COMPILE = $(CXX) $(COMMON) $(CXXFLAGS) $(USE_PRECOMPILED) -ffunction-sections -fdata-sections \
	-DKEELSON_VERSION='"$(CNI_VERSION)"' -c $< -o $@
$(BUILD)/cni-objects/%.o: %.cc $(PRECOMPILED)
	@mkdir -p $(@D)
	$(CNI_COMPILE)
$(BUILD)/cni-objects/%/folder.o: $(BUILD)/folders/%.cc $(PRECOMPILED)
	@mkdir -p $(@D)
	$(CNI_COMPILE) $(AS_ONE)

$(BUILD)/keelson-cni: $(BUILD)/cni-objects/cni/main.o $(CNI_PARTS)
	$(CNI_LINK) $^ -o $@ $(CNI_LIBRARIES) $(CNI_RUNTIME)

$(BUILD)/cni/%: $(BUILD)/keelson-cni
	@mkdir -p $(@D)
	ln -sf ../keelson-cni $@

.PHONY: cni
cni: $(BUILD)/keelson-cni $(CNI_PLUGINS:%=$(BUILD)/cni/%)
all: cni
all-sanitize: cni
