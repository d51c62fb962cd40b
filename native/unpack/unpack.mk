# keelson-unpack: the layer unpacker. Libraries decode and hash: libzstd and libcrypto are linked in; of ISA-L Debian
# has no archive, so it is the one shared library besides glibc's, bound before any byte from outside is read.
UNPACK_VERSION := $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' ../package.json)

UNPACK_SOURCES := $(filter-out %_test.cc,$(wildcard unpack/*.cc unpack/codec/*.cc common/*.cc))
UNPACK_PARTS := $(call objects,$(BUILD)/unpack-objects,$(filter-out %/main.cc,$(UNPACK_SOURCES)))
UNPACK_OBJECTS := $(BUILD)/unpack-objects/unpack/main.o $(UNPACK_PARTS)
UNPACK_LIBRARIES := -l:libzstd.a -l:libcrypto.a -lisal -pthread
# `STATIC=` (as `make sanitize` sets it) keeps symbols, and the compiler's libraries shared.
UNPACK_LINK := $(if $(STATIC),-s -static-libstdc++ -static-libgcc) -Wl,-z,relro,-z,now

UNPACK_COMPILE = $(CXX) $(COMMON) $(CXXFLAGS) $(USE_PRECOMPILED) -DKEELSON_VERSION='"$(UNPACK_VERSION)"' -c $< -o $@
$(BUILD)/unpack-objects/%.o: %.cc $(PRECOMPILED)
	@mkdir -p $(@D)
	$(UNPACK_COMPILE)
$(BUILD)/unpack-objects/%/folder.o: $(BUILD)/folders/%.cc $(PRECOMPILED)
	@mkdir -p $(@D)
	$(UNPACK_COMPILE) $(AS_ONE)

$(BUILD)/keelson-unpack: $(UNPACK_OBJECTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

# Decodes and hashes streams by themselves; codec.test.ts feeds it.
$(BUILD)/codec-test: $(UNPACK_PARTS) $(BUILD)/unpack-objects/unpack/codec/codec_test.o
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

# Mutation fuzzing of all but the codecs; fuzz.test.ts runs it for some seconds.
$(BUILD)/tar-fuzz: $(UNPACK_PARTS) $(BUILD)/unpack-objects/unpack/testing/tar_fuzz.o
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

# Tries from inside the confinement what nothing inside may do; confine.test.ts runs it.
$(BUILD)/confine-test: $(UNPACK_PARTS) $(BUILD)/unpack-objects/unpack/confine_test.o
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK) $(UNPACK_LIBRARIES)

.PHONY: unpack
unpack: $(BUILD)/keelson-unpack
all: unpack $(BUILD)/codec-test $(BUILD)/confine-test
all-sanitize: $(BUILD)/keelson-unpack $(BUILD)/codec-test $(BUILD)/tar-fuzz
