# keelson-cni: the network plugins. libnftnl is linked statically. Debian has no static archive of libmnl, so it is the only
# shared library besides glibc's. `cni/` in the build directory holds a symlink to the program under each plugin's name.
CNI_PLUGINS := loopback bridge ptp portmap host-gw host-local static keelson-chain

CNI_SOURCES := $(filter-out %_test.cc,$(wildcard cni/*.cc cni/*/*.cc common/*.cc))
CNI_PARTS := $(call objects,$(OBJECTS),$(filter-out %/main.cc,$(CNI_SOURCES)))
CNI_LIBRARIES := -l:libnftnl.a -lmnl -l:libcrypto.a -pthread
# Linked with the C compiler: the C++ one adds libm, which nothing here needs and which costs a tenth of the startup time.
CNI_LINK = $(if $(STATIC),$(CC) -s -static-libgcc,$(CXX)) $(CXXFLAGS) -Wl,--gc-sections,--as-needed,-z,relro
CNI_RUNTIME := $(if $(STATIC),-l:libstdc++.a)

$(BUILD)/keelson-cni: $(OBJECTS)/cni/main.o $(CNI_PARTS)
	$(CNI_LINK) $^ -o $@ $(CNI_LIBRARIES) $(CNI_RUNTIME)

$(BUILD)/cni/%: $(BUILD)/keelson-cni
	@mkdir -p $(@D)
	ln -sf ../keelson-cni $@

.PHONY: cni
cni: $(BUILD)/keelson-cni $(CNI_PLUGINS:%=$(BUILD)/cni/%)
all: cni
all-sanitize: cni
