#include "monitor/server/monitor_log.h"

#include "monitor/test/unit_test.h"

namespace keelson::test {

std::vector<Test> monitor_log_tests() {
  return {
      {"monitor log: nine digits and UTC", [] {
         EXPECT_EQUAL(rfc3339_utc(0), "1970-01-01T00:00:00.000000000Z");
         EXPECT_EQUAL(rfc3339_utc(1'795'223'412'000'000'007), "2026-11-21T01:10:12.000000007Z");
         EXPECT_EQUAL(rfc3339_utc(1'709'251'199'999'999'999), "2024-02-29T23:59:59.999999999Z");
       }},
  };
}

}  // namespace keelson::test
