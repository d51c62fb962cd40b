# keelson-unpack: the layer unpacker. Libraries decode and hash: libzstd and libcrypto are linked statically. Debian has no
# static archive of ISA-L, so it is the only shared library besides glibc's; it is bound before any untrusted byte is read.
UNPACK_SOURCES := $(filter-out %_test.cc,$(wildcard unpack/*.cc unpack/codec/*.cc common/*.cc))
UNPACK_PARTS := $(call objects,$(OBJECTS),$(filter-out %/main.cc,$(UNPACK_SOURCES)))
UNPACK_LIBRARIES := -l:libzstd.a -l:libcrypto.a -lisal -pthread
UNPACK_LINK := $(if $(STATIC),-s -static-libstdc++ -static-libgcc) -Wl,--gc-sections,-z,relro,-z,now

$(BUILD)/keelson-unpack: $(OBJECTS)/unpack/main.o $(UNPACK_PARTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

# Decodes and hashes plain streams; codec.test.ts feeds it.
$(BUILD)/codec-test: $(UNPACK_PARTS) $(OBJECTS)/unpack/codec/codec_test.o
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

# Mutation fuzzer for everything except the codecs; fuzz.test.ts runs it for a few seconds.
$(BUILD)/tar-fuzz: $(UNPACK_PARTS) $(OBJECTS)/unpack/testing/tar_fuzz.o
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

# Tries, from inside the confinement, everything that it must forbid; confine.test.ts runs it.
$(BUILD)/confine-test: $(UNPACK_PARTS) $(OBJECTS)/unpack/confine_test.o
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

.PHONY: unpack
unpack: $(BUILD)/keelson-unpack
all: unpack $(BUILD)/codec-test $(BUILD)/confine-test
all-sanitize: $(BUILD)/keelson-unpack $(BUILD)/codec-test $(BUILD)/tar-fuzz
