#include "cni/ipam/resolv_conf.h"

#include <string_view>
#include <vector>

#include "common/file.h"

namespace keelson {

namespace {

constexpr size_t file_limit = 64 * 1024;
constexpr std::string_view blanks = " \t\r";

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  for (size_t at = line.find_first_not_of(blanks); at != std::string_view::npos;
       at = line.find_first_not_of(blanks, at)) {
    size_t end = std::min(line.find_first_of(blanks, at), line.size());
    words.emplace_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

}  // namespace

Result<DnsResult> read_resolv_conf(const std::string& path) {
  std::string content = TRY(read_file(path, file_limit));
  DnsResult dns;
  for (size_t at = 0; at < content.size();) {
    size_t end = std::min(content.find('\n', at), content.size());
    std::vector<std::string> words = words_of(std::string_view(content).substr(at, end - at));
    at = end + 1;
    // Comments need no handling: "#nameserver" and ";nameserver" match none of these keywords.
    if (words.size() < 2) continue;
    if (words[0] == "nameserver") dns.nameservers.push_back(words[1]);
    if (words[0] == "domain") dns.domain = words[1];
    if (words[0] == "search") dns.search.insert(dns.search.end(), words.begin() + 1, words.end());
    if (words[0] == "options") dns.options.insert(dns.options.end(), words.begin() + 1, words.end());
  }
  return dns;
}

}  // namespace keelson
