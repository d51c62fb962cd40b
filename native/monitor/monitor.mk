# keelson-monitor: one static binary from every source of monitor/ and common/.
# `STATIC=` (as `make sanitize` sets it) links dynamically and keeps symbols.
STATIC ?= -static
MONITOR_VERSION := $(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' ../package.json)

MONITOR_SOURCES := $(filter-out monitor/test/%,$(wildcard monitor/*.cc monitor/*/*.cc common/*.cc))
MONITOR_TESTS := $(filter-out monitor/test/setup_test.cc,$(wildcard monitor/test/*_test.cc))
MONITOR_PARTS := $(call objects,$(BUILD)/monitor-objects,$(filter-out %/main.cc,$(MONITOR_SOURCES)))
MONITOR_OBJECTS := $(BUILD)/monitor-objects/monitor/main.o $(MONITOR_PARTS)
MONITOR_TEST_OBJECTS := $(MONITOR_TESTS:%.cc=$(BUILD)/monitor-objects/%.o) $(MONITOR_PARTS)
MONITOR_LINK := $(if $(STATIC),$(STATIC) -s) -Wl,--gc-sections
# Small code: each page of it that is in use counts for every pod. What takes time is in the kernel.
MONITOR_SMALL := $(if $(STATIC),-Os)

MONITOR_COMPILE = $(CXX) $(COMMON) $(CXXFLAGS) $(USE_PRECOMPILED) $(MONITOR_SMALL) -ffunction-sections -fdata-sections \
	-DKEELSON_VERSION='"$(MONITOR_VERSION)"' -c $< -o $@
$(BUILD)/monitor-objects/%.o: %.cc $(PRECOMPILED)
	@mkdir -p $(@D)
	$(MONITOR_COMPILE)
$(BUILD)/monitor-objects/%/folder.o: $(BUILD)/folders/%.cc $(PRECOMPILED)
	@mkdir -p $(@D)
	$(MONITOR_COMPILE) $(AS_ONE)

$(BUILD)/keelson-monitor: $(MONITOR_OBJECTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

$(BUILD)/monitor-unit-test: $(MONITOR_TEST_OBJECTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

# Starts containers without the monitor around them, for setup*.test.ts.
$(BUILD)/setup-test: $(BUILD)/monitor-objects/monitor/test/setup_test.o $(MONITOR_PARTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

.PHONY: monitor
monitor: $(BUILD)/keelson-monitor
all: monitor $(BUILD)/setup-test
all-sanitize: $(BUILD)/keelson-monitor $(BUILD)/monitor-unit-test $(BUILD)/setup-test
