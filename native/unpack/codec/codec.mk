# The codecs: gzip, zstd and SHA-256, each our own. CODEC_OBJECTS is what keelson-unpack links.
CODEC_SOURCES := $(filter-out %_test.cc %_fuzz.cc,$(wildcard unpack/codec/*.cc))
CODEC_OBJECTS = $(CODEC_SOURCES:%.cc=$(BUILD)/%.o)
CODEC_TEST_OBJECTS = $(CODEC_OBJECTS) $(BUILD)/unpack/codec/codec_test.o $(BUILD)/unpack/codec/common/error.o

all: $(BUILD)/codec-test
all-sanitize: $(BUILD)/codec-test

$(BUILD)/codec-test: $(CODEC_TEST_OBJECTS)
	$(CXX) $(CXXFLAGS) $^ -o $@

# The instrumented build optimizes the codecs alone: their tests feed them by the megabyte.
$(BUILD)/unpack/codec/%.o: COMMON += $(if $(STATIC),,-O1)
$(BUILD)/unpack/codec/%.o: unpack/codec/%.cc
	@mkdir -p $(@D)
	$(CXX) $(COMMON) $(CXXFLAGS) -c $< -o $@

$(BUILD)/unpack/codec/common/%.o: common/%.cc
	@mkdir -p $(@D)
	$(CXX) $(COMMON) $(CXXFLAGS) -c $< -o $@

# Runs the decoders under clang's libFuzzer for FUZZ_SECONDS; what it learns stays in build/fuzz/corpus.
FUZZ_SECONDS ?= 60
FUZZ_LIBRARY = $(shell clang -print-file-name=libclang_rt.fuzzer-x86_64.a)
FUZZ_FLAGS = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fsanitize-coverage=trace-pc,trace-cmp
.PHONY: fuzz-codec fuzz-codec-build fuzz-codec-seeds
fuzz-codec:
	$(MAKE) BUILD=build/fuzz CXXFLAGS="$(FUZZ_FLAGS)" STATIC= fuzz-codec-build fuzz-codec-seeds
	cd build/fuzz && ./codec-fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 corpus

fuzz-codec-build: $(CODEC_OBJECTS) $(BUILD)/unpack/codec/codec_fuzz.o $(BUILD)/unpack/codec/common/error.o
	$(CXX) $(CXXFLAGS) $^ -Wl,--allow-multiple-definition $(FUZZ_LIBRARY) -o $(BUILD)/codec-fuzz

fuzz-codec-seeds:
	@mkdir -p $(BUILD)/corpus
	gzip -1c PROTOCOL.md | head -c 4000 > $(BUILD)/corpus/gzip-fast
	head -c 3000 PROTOCOL.md | gzip -9c > $(BUILD)/corpus/gzip-best
	head -c 6000 PROTOCOL.md | zstd -qc1 > $(BUILD)/corpus/zstd-fast
	head -c 6000 PROTOCOL.md | zstd -qc19 --no-check > $(BUILD)/corpus/zstd-best
	cat PROTOCOL.md PROTOCOL.md | zstd -qc5 --zstd=wlog=10 | head -c 4000 > $(BUILD)/corpus/zstd-small-window
