# keelson-monitor: one static binary from every source of monitor/ and common/.
# `STATIC=` (as `make sanitize` sets it) links dynamically and keeps symbols.
STATIC ?= -static
MONITOR_VERSION := $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' ../package.json)

MONITOR_SOURCES := $(filter-out monitor/test/%,$(wildcard monitor/*.cc monitor/*/*.cc common/*.cc))
MONITOR_TESTS := $(filter-out monitor/test/setup_test.cc,$(wildcard monitor/test/*_test.cc))
MONITOR_OBJECTS := $(MONITOR_SOURCES:%.cc=$(BUILD)/monitor-objects/%.o)
MONITOR_TEST_OBJECTS := $(MONITOR_TESTS:%.cc=$(BUILD)/monitor-objects/%.o) \
	$(filter-out %/main.o,$(MONITOR_OBJECTS))
MONITOR_LINK := $(if $(STATIC),$(STATIC) -s) -Wl,--gc-sections
# Small code: each page of it that is in use counts for every pod. What takes time is in the kernel.
MONITOR_SMALL := $(if $(STATIC),-Os)

$(BUILD)/monitor-objects/%.o: %.cc $(PRECOMPILED)
	@mkdir -p $(@D)
	$(CXX) $(COMMON) $(CXXFLAGS) $(USE_PRECOMPILED) $(MONITOR_SMALL) -ffunction-sections -fdata-sections -DKEELSON_VERSION='"$(MONITOR_VERSION)"' -c $< -o $@

$(BUILD)/keelson-monitor: $(MONITOR_OBJECTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

$(BUILD)/monitor-unit-test: $(MONITOR_TEST_OBJECTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

# Starts containers without the monitor around them, for setup*.test.ts.
$(BUILD)/setup-test: $(BUILD)/monitor-objects/monitor/test/setup_test.o $(filter-out %/main.o,$(MONITOR_OBJECTS))
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

.PHONY: monitor
monitor: $(BUILD)/keelson-monitor
all: monitor $(BUILD)/setup-test
all-sanitize: $(BUILD)/keelson-monitor $(BUILD)/monitor-unit-test $(BUILD)/setup-test
