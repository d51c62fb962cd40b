# keelson-unpack: the layer unpacker, static but for the sanitizer variant.
include unpack/codec/codec.mk
STATIC ?= -static
UNPACK_VERSION := $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' ../package.json)

UNPACK_SOURCES := $(filter-out %_test.cc %_fuzz.cc,$(wildcard unpack/*.cc)) common/error.cc common/json.cc
UNPACK_OBJECTS := $(UNPACK_SOURCES:%.cc=$(BUILD)/unpack-objects/%.o)
UNPACK_LINK = $(if $(STATIC),$(STATIC) -s) -pthread

$(BUILD)/unpack-objects/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(COMMON) $(CXXFLAGS) -DKEELSON_VERSION='"$(UNPACK_VERSION)"' -c $< -o $@

$(BUILD)/keelson-unpack: $(UNPACK_OBJECTS) $(CODEC_OBJECTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK)

# Mutation fuzzing of all but the codecs; fuzz.test.ts runs it for some seconds.
$(BUILD)/tar-fuzz: $(filter-out %/main.o,$(UNPACK_OBJECTS)) $(CODEC_OBJECTS) $(BUILD)/unpack-objects/unpack/tar_fuzz.o
	$(CXX) $(CXXFLAGS) $^ -o $@ -pthread

# Tries from inside the confinement what nothing inside may do; confine.test.ts runs it.
CONFINE_PARTS := confine box privileges system_calls confine_test
$(BUILD)/confine-test: $(CONFINE_PARTS:%=$(BUILD)/unpack-objects/unpack/%.o) $(BUILD)/unpack-objects/common/error.o
	$(CXX) $(CXXFLAGS) $^ -o $@ $(UNPACK_LINK)

.PHONY: unpack
unpack: $(BUILD)/keelson-unpack
all: unpack $(BUILD)/confine-test
all-sanitize: $(BUILD)/keelson-unpack $(BUILD)/tar-fuzz
