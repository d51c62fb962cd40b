// Failure reports of children, including forged ones.
#include <algorithm>
#include <cstring>

#include "monitor/setup/child.h"
#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

Report failed(uint32_t step, int error, char filling) {
  Report report = {Report::failed, step, error, {}};
  memset(report.object, filling, sizeof report.object);
  return report;
}

std::optional<Error> read_back(Report report) { return failure_in(report); }

void reports_step_object_and_errno() {
  Report report = failed(static_cast<uint32_t>(Step::mount), ENOENT, 0);
  strcpy(report.object, "/proc");
  auto error = failure_in(report);
  EXPECT(error.has_value());
  EXPECT_EQUAL(error->step, "mount /proc");
  EXPECT_EQUAL(error->error_number, ENOENT);
}

void has_a_name_for_every_step() {
  for (uint32_t step = 0; step < static_cast<uint32_t>(Step::count); ++step) {
    EXPECT(read_back(failed(step, EPERM, 0))->step.size() >= 4);
  }
}

void refuses_invalid_steps_and_errors() {
  for (uint32_t step : {static_cast<uint32_t>(Step::count), 255u, 0x80000000u, 0xffffffffu}) {
    EXPECT(read_back(failed(step, EPERM, 'x'))->detail.contains("failure report is invalid"));
  }
  for (int error : {-1, 4096, INT32_MIN, INT32_MAX}) {
    EXPECT(read_back(failed(0, error, 'x'))->detail.contains("failure report is invalid"));
  }
}

void bounds_an_object_without_a_nul() {
  auto error = read_back(failed(static_cast<uint32_t>(Step::mount), EPERM, 'x'));
  EXPECT_EQUAL(static_cast<long>(std::ranges::count(error->step, 'x')), static_cast<long>(sizeof Report::object));
}

void ignores_other_states() {
  for (uint32_t state : {0u, 2u, 3u, 0xffffffffu}) {
    Report report = failed(1, EPERM, 'x');
    report.state = state;
    EXPECT(!failure_in(report));
  }
}

}  // namespace

std::vector<Test> child_tests() {
  return {
      {"child: reports step, object and errno", reports_step_object_and_errno},
      {"child: has a name for every step", has_a_name_for_every_step},
      {"child: refuses invalid steps and errors (A9)", refuses_invalid_steps_and_errors},
      {"child: bounds an object without a NUL (A9)", bounds_an_object_without_a_nul},
      {"child: ignores other states than failed (A9)", ignores_other_states},
  };
}

}  // namespace keelson::test
