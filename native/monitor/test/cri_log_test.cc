#include "monitor/streams/cri_log.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

constexpr int64_t time_ns = 1'795'223'412'000'000'007;
const std::string stamp = "2026-11-21T01:10:12.000000007Z";

std::string content(const std::string& path) {
  auto text = read_file(path, 64 << 20);
  EXPECT(text.has_value());
  return *text;
}

// A log in its own directory, written to like a container's.
struct LogFixture {
  Directory directory;
  std::string path = directory.path() + "/0.log";
  SharedBuffers buffers;
  Log log;

  LogFixture() {
    EXPECT(buffers.map().has_value());
    auto opened = Log::open(path);
    EXPECT(opened.has_value());
    log = std::move(*opened);
  }
  void out(std::string_view bytes) { log.write(Stream::out, bytes, time_ns, buffers); }
  void err(std::string_view bytes) { log.write(Stream::err, bytes, time_ns, buffers); }
  std::string text() const { return content(path); }
};

void writes_records() {
  LogFixture f;
  f.out("one\ntwo\n");
  f.err("bad\r\n");
  f.out("\n");
  EXPECT_EQUAL(f.text(), stamp + " stdout F one\n" + stamp + " stdout F two\n" + stamp + " stderr F bad\r\n" + stamp +
                             " stdout F \n");
  struct stat info{};
  EXPECT(stat(f.path.c_str(), &info) == 0);
  EXPECT_EQUAL(static_cast<long>(info.st_mode & 0777), 0640);
}

void joins_a_line_over_reads() {
  LogFixture f;
  f.out("hel");
  f.err("other\n");  // the streams do not mix
  f.out("lo");
  EXPECT_EQUAL(f.text(), stamp + " stderr F other\n");
  f.out("\nrest");
  f.log.end(Stream::out, time_ns, f.buffers);
  f.log.end(Stream::out, time_ns, f.buffers);
  EXPECT_EQUAL(f.text(), stamp + " stderr F other\n" + stamp + " stdout F hello\n" + stamp + " stdout P rest\n");
}

// The records are the same wherever the reads were split.
void splits_at_exactly_16384() {
  for (size_t cut : {size_t{1}, size_t{100}, size_t{16383}, size_t{16384}, size_t{16385}, size_t{40000}}) {
    LogFixture f;
    std::string input = std::string(16384, 'a') + "\n" + std::string(16385, 'b') + "\n" + std::string(32768, 'c') + "\n";
    for (size_t at = 0; at < input.size(); at += cut) f.out(std::string_view(input).substr(at, cut));
    EXPECT_EQUAL(f.text(), stamp + " stdout F " + std::string(16384, 'a') + "\n" +         //
                               stamp + " stdout P " + std::string(16384, 'b') + "\n" +     //
                               stamp + " stdout F b\n" +                                   //
                               stamp + " stdout P " + std::string(16384, 'c') + "\n" +     //
                               stamp + " stdout F " + std::string(16384, 'c') + "\n");
  }
}

void survives_a_batch_above_its_buffer() {
  LogFixture f;
  f.out(std::string(SharedBuffers::read_size, '\n'));
  std::string line = stamp + " stdout F \n";
  std::string text = f.text();
  EXPECT_EQUAL(static_cast<long>(text.size()), static_cast<long>(SharedBuffers::read_size * line.size()));
  EXPECT_EQUAL(text.substr(text.size() - line.size()), line);
}

void reopens_by_name() {
  LogFixture f;
  f.out("old\n");
  std::string rotated = f.path + ".1";
  EXPECT(rename(f.path.c_str(), rotated.c_str()) == 0);
  f.out("still old\n");
  EXPECT(f.log.reopen().has_value());
  f.out("new\n");
  EXPECT_EQUAL(content(rotated), stamp + " stdout F old\n" + stamp + " stdout F still old\n");
  EXPECT_EQUAL(f.text(), stamp + " stdout F new\n");
  // A reopen that fails leaves the old file in use.
  EXPECT(unlink(f.path.c_str()) == 0);
  EXPECT(mkdir(f.path.c_str(), 0700) == 0);
  EXPECT(!f.log.reopen().has_value());
  f.out("kept\n");
}

void appends_to_an_existing_file() {
  LogFixture f;
  f.out("old\n");
  f.log = *Log::open(f.path);
  f.out("new\n");
  EXPECT_EQUAL(f.text(), stamp + " stdout F old\n" + stamp + " stdout F new\n");
}

void follows_no_link_and_waits_for_no_fifo() {
  Directory directory;
  std::string target = directory.path() + "/passwd";
  std::string link = directory.path() + "/2.log";
  std::string fifo = directory.path() + "/3.log";
  EXPECT(symlink(target.c_str(), link.c_str()) == 0);
  EXPECT(mkfifo(fifo.c_str(), 0600) == 0);
  const auto refused = Log::open(link);
  EXPECT(!refused.has_value() && refused.error().kind == Kind::invalid);
  EXPECT(access(target.c_str(), F_OK) != 0);
  EXPECT(!Log::open(fifo).has_value());
  int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  EXPECT(reader >= 0);
  EXPECT(!Log::open(fifo).has_value());
  close(reader);
}

void reports_an_invalid_path() {
  Directory directory;
  const std::string file = directory.path() + "/file";
  EXPECT(Log::open(file).has_value());
  for (const std::string& wrong : {directory.path() + "/", file + "/0.log", directory.path() + "/" + std::string(300, 'x'),
                                   directory.path() + "/" + std::string(300, 'x') + "/0.log"}) {
    const auto refused = Log::open(wrong);
    EXPECT(!refused.has_value() && refused.error().kind == Kind::invalid);
  }
}

void follows_no_link_in_a_directory() {
  Directory directory;
  const std::string outside = directory.path() + "/outside", pods = directory.path() + "/pods";
  EXPECT(mkdir(outside.c_str(), 0700) == 0 && mkdir(pods.c_str(), 0700) == 0);
  EXPECT(symlink(outside.c_str(), (pods + "/linked").c_str()) == 0);
  auto refused = Log::open(pods + "/linked/container/0.log");
  EXPECT(!refused.has_value());
  EXPECT_EQUAL(refused.error().message(),
               "open the log's directory " + pods + "/linked: it is a symbolic link, which is not followed");
  EXPECT(access((outside + "/container").c_str(), F_OK) != 0);

  auto log = Log::open(pods + "/real/container/0.log");  // its directories are created
  EXPECT(log.has_value());
  EXPECT(rename((pods + "/real/container").c_str(), (pods + "/real/before").c_str()) == 0);
  EXPECT(symlink(outside.c_str(), (pods + "/real/container").c_str()) == 0);
  EXPECT(!log->reopen().has_value());
  EXPECT(access((outside + "/0.log").c_str(), F_OK) != 0);
}

// On a full disk output is lost, but every record is complete, and writing continues once there is room.
void recovers_from_a_full_disk() {
  Directory directory;
  EXPECT(mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=64k") == 0);
  {
    SharedBuffers buffers;
    EXPECT(buffers.map().has_value());
    std::string path = directory.path() + "/4.log";
    auto log = Log::open(path);
    EXPECT(log.has_value());
    std::string lines;
    for (int i = 0; i < 1000; ++i) lines += std::string(99, 'x') + "\n";
    for (int i = 0; i < 20; ++i) log->write(Stream::out, lines, time_ns, buffers);
    std::string record = stamp + " stdout F " + std::string(99, 'x') + "\n";
    std::string text = content(path);
    EXPECT(text.size() > (32 << 10) && text.size() % record.size() == 0);
    EXPECT_EQUAL(text.substr(text.size() - record.size()), record);
    EXPECT(truncate(path.c_str(), 0) == 0);
    log->write(Stream::out, "again\n", time_ns, buffers);
    EXPECT_EQUAL(content(path), stamp + " stdout F again\n");
  }
  EXPECT(umount2(directory.path().c_str(), MNT_DETACH) == 0);
}

}  // namespace

std::vector<Test> log_tests() {
  return {
      {"log: writes records", writes_records},
      {"log: joins a line over reads", joins_a_line_over_reads},
      {"log: splits at exactly 16384 bytes", splits_at_exactly_16384},
      {"log: survives a batch above its buffer", survives_a_batch_above_its_buffer},
      {"log: reopens by name", reopens_by_name},
      {"log: appends to an existing file", appends_to_an_existing_file},
      {"log: follows no link and waits for no FIFO", follows_no_link_and_waits_for_no_fifo},
      {"log: reports an invalid path as an invalid request", reports_an_invalid_path},
      {"log: follows no link in its directory, neither at the start nor later", follows_no_link_in_a_directory},
      {"log: recovers from a full disk", recovers_from_a_full_disk},
  };
}

}  // namespace keelson::test
