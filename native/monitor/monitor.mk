# keelson-monitor: one static binary built from all sources in monitor/ and common/.
MONITOR_SOURCES := $(filter-out monitor/test/%,$(wildcard monitor/*.cc monitor/*/*.cc common/*.cc))
MONITOR_TESTS := $(filter-out monitor/test/setup_test.cc,$(wildcard monitor/test/*.cc))
MONITOR_PARTS := $(call objects,$(SMALL),$(filter-out %/main.cc,$(MONITOR_SOURCES)))
MONITOR_LINK := $(if $(STATIC),$(STATIC) -s) -Wl,--gc-sections

$(BUILD)/keelson-monitor: $(SMALL)/monitor/main.o $(MONITOR_PARTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

$(BUILD)/monitor-unit-test: $(call objects,$(SMALL),$(MONITOR_TESTS)) $(MONITOR_PARTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

# Starts containers without the monitor around them, for setup*.test.ts.
$(BUILD)/setup-test: $(SMALL)/monitor/test/setup_test.o $(MONITOR_PARTS)
	$(CXX) $(CXXFLAGS) $^ -o $@ $(MONITOR_LINK)

.PHONY: monitor
monitor: $(BUILD)/keelson-monitor
all: monitor $(BUILD)/setup-test
all-sanitize: $(BUILD)/keelson-monitor $(BUILD)/monitor-unit-test $(BUILD)/setup-test
