# The codecs: gzip, zstd and SHA-256, each our own. CODEC_OBJECTS is what keelson-unpack links.
CODEC_SOURCES = $(filter-out %_test.cc %_fuzz.cc,$(wildcard unpack/codec/*.cc))
CODEC_OBJECTS = $(CODEC_SOURCES:%.cc=$(BUILD)/%.o)

$(BUILD)/unpack/codec/%.o: unpack/codec/%.cc
	@mkdir -p $(@D)
	$(CXX) $(COMMON) $(CXXFLAGS) -c -o $@ $<
