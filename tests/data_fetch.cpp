// Downloads against a local server with faults: resuming, wrong digests, short files, and what stays on disk after.
#include "data/fetch.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "data/cifar10.h"
#include "data/generated.h"
#include "data/locate.h"
#include "data/md5.h"
#include "data/process.h"
#include "tests/support/files.h"
#include "tests/support/http_server.h"

namespace ranvier::data {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::HttpServer;
using testing::TemporaryFolder;
using Fault = HttpServer::Fault;

// An archive of a tiny generated set, made by the system's tar.
const std::string& archive_bytes() {
  static const std::string bytes = [] {
    const TemporaryFolder folder;
    write_cifar10(folder.path / cifar10_folder_name, generated({.train_per_class = 2, .test_per_class = 1}));
    const std::string file = (folder.path / "a.tar.gz").string();
    run_program({"tar", "-C", folder.path.string(), "-czf", file, cifar10_folder_name}, true);
    return testing::read(file);
  }();
  return bytes;
}

class Fetch : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      run_program({"curl", "--version"}, false);
    } catch (const std::exception& error) {
      GTEST_SKIP() << "skipped: " << error.what();
    }
    ::setenv("no_proxy", "127.0.0.1", 1);
    options.cache = folder.path / "cache";
    options.bytes = static_cast<int64_t>(archive_bytes().size());
    options.md5 = md5(bytes_of(archive_bytes()));
    options.progress = false;
    options.connect_timeout_s = 3;
    options.log = [this](const std::string& line) { log += line + "\n"; };
    archive = options.cache / cifar10_archive_name;
    part = archive.string() + ".part";
  }
  std::string fetch_from(HttpServer& server) {
    options.from = server.url();
    return error_of([&] { EXPECT_EQ(fetch(options), archive); });
  }
  bool exists(const std::filesystem::path& path) { return std::filesystem::exists(path); }

  TemporaryFolder folder;
  FetchOptions options;
  std::filesystem::path archive, part;
  std::string log;
};

TEST_F(Fetch, WholeArchive) {
  HttpServer server(archive_bytes());
  EXPECT_EQ(fetch_from(server), "no error");
  EXPECT_EQ(testing::read(archive), archive_bytes());
  EXPECT_FALSE(exists(part));
  EXPECT_EQ(open(archive).train.size(), 20);
  EXPECT_EQ(open(options.cache).train.size(), 20);
}

TEST_F(Fetch, AGoodArchiveIsNotFetchedAgain) {
  HttpServer server(archive_bytes());
  EXPECT_EQ(fetch_from(server), "no error");
  EXPECT_EQ(fetch_from(server), "no error");
  EXPECT_EQ(server.offsets().size(), 1u);
  EXPECT_NE(log.find("is there already, and right"), std::string::npos);
}

TEST_F(Fetch, AnInterruptedDownloadResumes) {
  HttpServer server(archive_bytes(), Fault::cuts);
  const int64_t half = options.bytes / 2;
  EXPECT_NE(
      fetch_from(server).find(std::to_string(half) + " bytes are kept in " + part.string() + ", fetch again to resume"),
      std::string::npos);
  EXPECT_EQ(testing::read(part), archive_bytes().substr(0, static_cast<size_t>(half)));
  EXPECT_FALSE(exists(archive));
  server.set_fault(Fault::none);
  EXPECT_EQ(fetch_from(server), "no error");
  EXPECT_EQ(testing::read(archive), archive_bytes());
  EXPECT_EQ(server.offsets(), (std::vector<int64_t>{0, half}));
  EXPECT_NE(log.find("resuming"), std::string::npos);
  EXPECT_FALSE(exists(part));
}

TEST_F(Fetch, AWholePartNeedsNoServer) {
  testing::write(part, archive_bytes());
  options.from = "http://127.0.0.1:1/none";
  EXPECT_EQ(fetch(options), archive);
  EXPECT_EQ(testing::read(archive), archive_bytes());
}

TEST_F(Fetch, APartThatIsTooLongStartsOver) {
  HttpServer server(archive_bytes());
  testing::write(part, archive_bytes() + "more");
  EXPECT_EQ(fetch_from(server), "no error");
  EXPECT_EQ(server.offsets(), (std::vector<int64_t>{0}));
}

TEST_F(Fetch, AServerWithoutRangesStartsOver) {
  HttpServer server(archive_bytes(), Fault::ignores_ranges);
  testing::write(part, archive_bytes().substr(0, 100));
  EXPECT_EQ(fetch_from(server), "no error");
  EXPECT_NE(log.find("the server cannot resume: deleted " + part.string() + ", starting over"), std::string::npos);
  EXPECT_EQ(testing::read(archive), archive_bytes());
  EXPECT_EQ(server.offsets(), (std::vector<int64_t>{100, 0}));
}

TEST_F(Fetch, AWrongDigestAfterResumingDeletesThePart) {
  HttpServer server(archive_bytes());
  testing::write(part, std::string(100, 'x'));
  const std::string error = fetch_from(server);
  EXPECT_EQ(error.find("cannot fetch " + server.url() + ": md5 "), 0u) << error;
  EXPECT_NE(error.find(", expected " + options.md5 + " after resuming; deleted " + part.string()), std::string::npos);
  EXPECT_FALSE(exists(part));
  EXPECT_FALSE(exists(archive));
  EXPECT_EQ(fetch_from(server), "no error");
}

TEST_F(Fetch, AWrongDigest) {
  std::string other = archive_bytes();
  other.back() = static_cast<char>(other.back() ^ 1);
  HttpServer server(other);
  EXPECT_EQ(fetch_from(server), "cannot fetch " + server.url() + ": md5 " + md5(bytes_of(other)) + ", expected " +
                                    options.md5 + "; deleted " + part.string());
  EXPECT_FALSE(exists(archive));
}

TEST_F(Fetch, AShortFile) {
  HttpServer server(archive_bytes(), Fault::short_body);
  EXPECT_EQ(fetch_from(server), "cannot fetch " + server.url() + ": " + std::to_string(options.bytes - 10) +
                                    " bytes, expected " + std::to_string(options.bytes) + "; deleted " + part.string());
  EXPECT_FALSE(exists(part));
}

TEST_F(Fetch, ALongFileIsNotTakenIn) {
  HttpServer server(archive_bytes() + std::string(100'000, 'x'));
  EXPECT_NE(fetch_from(server), "no error");
  EXPECT_FALSE(exists(archive));
  EXPECT_LE(testing::read(part).size(), archive_bytes().size());
}

TEST_F(Fetch, NotFound) {
  HttpServer server(archive_bytes(), Fault::not_found);
  EXPECT_EQ(fetch_from(server), "cannot fetch " + server.url() + ": the server answers HTTP 404");
  EXPECT_FALSE(exists(archive));
}

TEST_F(Fetch, NobodyListens) {
  options.from = "http://127.0.0.1:1/archive.tar.gz";
  const std::string error = error_of([&] { fetch(options); });
  EXPECT_EQ(error.find("cannot fetch http://127.0.0.1:1/archive.tar.gz: "), 0u) << error;
  EXPECT_NE(error.find("connect"), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

TEST_F(Fetch, ARedirectCannotReachLocalFiles) {
  HttpServer server(archive_bytes(), Fault::redirects_away);
  EXPECT_EQ(fetch_from(server).find("cannot fetch " + server.url() + ": "), 0u);
  options.from = "file:///etc/hostname";
  EXPECT_EQ(error_of([&] { fetch(options); }).find("cannot fetch file:///etc/hostname: "), 0u);
}

TEST_F(Fetch, AnAddressIsNeverACommand) {
  options.from = "http://127.0.0.1:1/$(touch " + (folder.path / "owned").string() + ");touch${IFS}x";
  EXPECT_NE(error_of([&] { fetch(options); }), "no error");
  EXPECT_FALSE(exists(folder.path / "owned"));
}

TEST_F(Fetch, AnEarlierFileIsReplacedOnlyByAGoodOne) {
  testing::write(archive, "an earlier file");
  HttpServer server(archive_bytes(), Fault::short_body);
  for (const Fault fault : {Fault::short_body, Fault::not_found, Fault::cuts}) {
    server.set_fault(fault);
    EXPECT_NE(fetch_from(server), "no error");
    EXPECT_EQ(testing::read(archive), "an earlier file");
  }
  server.set_fault(Fault::none);
  EXPECT_EQ(fetch_from(server), "no error");
  EXPECT_EQ(testing::read(archive), archive_bytes());
}

TEST_F(Fetch, AFullDisk) {
  HttpServer server(archive_bytes());
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{1000, old.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // inherited by curl, whose write then fails
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error = fetch_from(server);
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(error.find("cannot write " + part.string()), std::string::npos) << error;
  EXPECT_FALSE(exists(archive));
}

TEST_F(Fetch, FromAFile) {
  options.from = (folder.path / "some.tgz").string();
  testing::write(options.from, archive_bytes());
  EXPECT_EQ(fetch(options), archive);
  EXPECT_EQ(testing::read(archive), archive_bytes());
  testing::write(options.from, archive_bytes() + "x");
  EXPECT_EQ(error_of([&] { fetch(options); }), options.from +
                                                   ": not the official archive: " + std::to_string(options.bytes + 1) +
                                                   " bytes, expected " + std::to_string(options.bytes));
  EXPECT_EQ(testing::read(archive), archive_bytes());
}

TEST_F(Fetch, FromAFolderWithTheArchiveOrWithBatches) {
  options.from = (folder.path / "downloads").string();
  testing::write(folder.path / "downloads" / cifar10_archive_name, archive_bytes());
  EXPECT_EQ(fetch(options), archive);
  options.from = (folder.path / "batches").string();
  for (const uint64_t seed : {3, 4}) {  // the second replaces the first
    const Splits made = generated({.seed = seed, .train_per_class = 1, .test_per_class = 1});
    write_cifar10(options.from, made);
    EXPECT_EQ(fetch(options), options.cache / cifar10_folder_name);
    EXPECT_EQ(open(options.cache / cifar10_folder_name).train.images, made.train.images);
  }
  EXPECT_FALSE(exists(options.cache / "cifar-10-batches-bin.old"));
  EXPECT_FALSE(exists(options.cache / "cifar-10-batches-bin.part"));
}

TEST_F(Fetch, FromNothingUseful) {
  options.from = (folder.path / "none").string();
  EXPECT_EQ(error_of([&] { fetch(options); }), options.from + ": neither a file, a folder nor an http address");
  std::filesystem::create_directories(options.from);
  EXPECT_EQ(error_of([&] { fetch(options); }),
            options.from +
                ": holds neither cifar-10-binary.tar.gz nor data_batch_1.bin (an image folder is imported, "
                "not fetched)");
}

TEST_F(Fetch, TheCacheFolderFollowsTheEnvironment) {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string old = before ? before : "";
  ::setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(cache_folder(), "/somewhere/ranvier");
  ::unsetenv("XDG_CACHE_HOME");
  if (const char* home = std::getenv("HOME")) {
    EXPECT_EQ(cache_folder(), std::filesystem::path(home) / ".cache" / "ranvier");
  }
  if (before) ::setenv("XDG_CACHE_HOME", old.c_str(), 1);
}

// The search order, step by step from its end to its beginning.
TEST_F(Fetch, SearchOrder) {
  ::unsetenv("RANVIER_DATA");
  LocateOptions locating;
  locating.generated = {.train_per_class = 1, .test_per_class = 1};
  locating.fetch_options = options;
  locating.fetch = false;
  const std::string cache = options.cache.string();

  Splits found = locate(locating);
  EXPECT_EQ(found.train.name, "generated pictures");
  EXPECT_EQ(found.why, "no --data, RANVIER_DATA not set, nothing in " + cache + ", fetching is off");

  HttpServer server(archive_bytes(), Fault::not_found);
  locating.fetch = true;
  locating.fetch_options.from = server.url();
  found = locate(locating);
  EXPECT_EQ(found.train.name, "generated pictures");
  EXPECT_EQ(found.why, "no --data, RANVIER_DATA not set, nothing in " + cache + ", cannot fetch " + server.url() +
                           ": the server answers HTTP 404");

  server.set_fault(Fault::none);
  found = locate(locating);
  EXPECT_EQ(found.source, archive.string());
  EXPECT_EQ(found.why, "no --data, RANVIER_DATA not set, nothing in " + cache + ", fetched now");

  found = locate(locating);
  EXPECT_EQ(found.why, "no --data, RANVIER_DATA not set, found in the cache folder");
  EXPECT_EQ(server.offsets().size(), 2u);

  const auto named = folder.path / "named";
  write_cifar10(named, generated({.seed = 8, .train_per_class = 3, .test_per_class = 1}));
  ::setenv("RANVIER_DATA", named.c_str(), 1);
  found = locate(locating);
  EXPECT_EQ(found.why, "named by RANVIER_DATA");
  EXPECT_EQ(found.train.size(), 30);

  locating.data = archive;
  found = locate(locating);
  EXPECT_EQ(found.why, "named by --data");
  EXPECT_EQ(found.train.size(), 20);
  EXPECT_EQ(describe(found), "data: " + found.train.name + " from " + archive.string() +
                                 ": 20 training and 10 test images of 10 classes; named by --data");
  ::unsetenv("RANVIER_DATA");
}

TEST_F(Fetch, WhatIsNamedOrFoundButBadIsAnError) {
  LocateOptions locating;
  locating.fetch_options = options;
  locating.data = folder.path / "none";
  EXPECT_EQ(error_of([&] { locate(locating); }), (folder.path / "none").string() + ": no such file or folder");
  std::filesystem::create_directory(folder.path / "none");
  EXPECT_EQ(error_of([&] { locate(locating); }),
            (folder.path / "none").string() +
                ": no data set: neither train/ and test/ with a folder per class, nor data_batch_1.bin, nor "
                "cifar-10-binary.tar.gz");
  locating.data.reset();
  ::setenv("RANVIER_DATA", "/nowhere/at/all", 1);
  EXPECT_EQ(error_of([&] { locate(locating); }), "/nowhere/at/all: no such file or folder");
  ::unsetenv("RANVIER_DATA");
  testing::write(archive, "not an archive");
  EXPECT_EQ(error_of([&] { locate(locating); }), archive.string() + ": not a gzip file");
}

TEST(RunProgram, StatusOutputAndMissingPrograms) {
  const ProcessResult result = run_program({"sh", "-c", "printf 'a b'; exit 3"}, true);
  EXPECT_EQ(result.status, 3);
  EXPECT_EQ(result.output, "a b");
  EXPECT_EQ(run_program({"sh", "-c", "kill -9 $$"}, true).status, 137);
  EXPECT_EQ(run_program({"printf", "%s", "$(echo x); `echo y`"}, true).output, "$(echo x); `echo y`");
  EXPECT_EQ(error_of([] { run_program({"ranvier-no-such-program"}, true); }),
            "cannot run ranvier-no-such-program: it is not installed");
}

}  // namespace
}  // namespace ranvier::data
