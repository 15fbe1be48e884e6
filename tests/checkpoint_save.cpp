// Saves of checkpoints that are killed, run out of disk or meet another writer, and an independent reader of the file.
#include "engine/checkpoint.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <random>

#include "engine/ops.h"
#include "tests/support/checkpoint.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

namespace fs = std::filesystem;
using checkpoint::load;
using checkpoint::save;
using testing::declare_model;
using testing::error_of;
using testing::expect_equal;
using testing::expect_parts;
using testing::put;
using testing::TemporaryFolder;
using Floats = std::vector<float>;

/// Runs `body` in a child process and gives back what it said; "killed" where it did not end by itself.
std::string in_child(const std::function<std::string()>& body) {
  int ends[2];
  if (::pipe(ends) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text = body();
    const bool said = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::_exit(said ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text(65536, '\0');
  const ssize_t count = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  return WIFEXITED(status) ? text : "killed: " + text;
}

/// After a failed save: one file, the earlier one, whole.
void expect_survived(const TemporaryFolder& folder, const std::string& path, State& earlier) {
  State state;
  put<float>(state, "parameters", "w", {1 << 18}, 0);
  load(state, path);
  expect_equal(state, earlier);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 1);
}

TEST(Save, AFullDiskLeavesTheEarlierFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "checkpoint.safetensors";
  State state;
  put<float>(state, "parameters", "w", {1 << 18}, 1);  // 1 MiB
  save(state, path);
  for (const rlim_t limit : {rlim_t{4}, rlim_t{100}, rlim_t{1000}, rlim_t{500000}}) {
    const std::string error = in_child([&] {
      std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit then fails as on a full disk
      const rlimit bound{limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &bound);
      return error_of([&] { save(state, path); });
    });
    expect_parts(error, {path.c_str(), "File too large", "offset", "earlier file", "unchanged"});
    expect_survived(folder, path, state);
  }
}

TEST(Save, ARealFullDiskSaysSo) {
  const TemporaryFolder folder;
  State state;
  put<float>(state, "parameters", "w", {1 << 18}, 1);
  const std::string said = in_child([&]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", folder.path.c_str(), "tmpfs", 0, "size=1536k") != 0)
      return "no mount";
    const std::string path = folder.path / "c";
    save(state, path);
    const std::string error = error_of([&] { save(state, path); });  // there is room for one and a half
    State again;
    put<float>(again, "parameters", "w", {1 << 18}, 0);
    load(again, path);
    const bool whole = again.get<float>("parameters", "w") == state.get<float>("parameters", "w");
    const bool alone = std::distance(fs::directory_iterator(folder.path), {}) == 1;
    return error + (whole && alone ? " [whole]" : " [damaged]");
  });
  if (said == "no mount") GTEST_SKIP() << "skipped: no right to mount a small tmpfs";
  expect_parts(said, {"No space left on device", "'w'", "offset", "[whole]"});
}

TEST(Save, FoldersThatCannotBeWrittenAreNamed) {
  const TemporaryFolder folder;
  State state;
  put<float>(state, "parameters", "w", {4}, 1);
  expect_parts(error_of([&] { save(state, folder.path / "none" / "c"); }), {"none/c", "No such file or directory"});
  testing::write(folder.path / "file", "x");
  expect_parts(error_of([&] { save(state, folder.path / "file" / "c"); }), {"file/c", "Not a directory"});
  fs::create_directory(folder.path / "taken");
  expect_parts(error_of([&] { save(state, folder.path / "taken"); }), {"taken", "Is a directory"});
  const fs::path closed = folder.path / "closed";
  fs::create_directory(closed);
  save(state, closed / "c");
  fs::permissions(folder.path, fs::perms::all);
  fs::permissions(closed,
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  const std::string error = in_child([&]() -> std::string {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) return "no other user";
    return error_of([&] { save(state, closed / "c"); });
  });
  fs::permissions(closed, fs::perms::all);
  if (error != "no other user") expect_parts(error, {"closed/c", "Permission denied", "unchanged"});
  EXPECT_EQ(std::distance(fs::directory_iterator(closed), {}), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 3);
}

TEST(Save, KilledInTheMiddleThereIsAlwaysOneWholeFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "checkpoint.safetensors";
  constexpr int64_t n = 1 << 18;
  State state, loaded;
  put<float>(state, "parameters", "w", {n}, 0), put<float>(state, "momentum", "w", {n}, 0);
  put<float>(loaded, "parameters", "w", {n}, 0), put<float>(loaded, "momentum", "w", {n}, 0);
  const auto save_version = [&](int version) {
    state.set<float>("parameters", "w", Floats(n, static_cast<float>(version)));
    state.set<float>("momentum", "w", Floats(n, static_cast<float>(-version)));
    save(state, path, {{"epoch", std::to_string(version)}});
  };
  save_version(0);
  std::mt19937 random(7);
  int last = 0, advanced = 0, left_behind = 0;
  for (int round = 0; round < 30; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0)
      for (int version = last + 1;; ++version) save_version(version);
    ::usleep(500 + random() % 30000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const int version = std::stoi(load(loaded, path).at("epoch"));
    EXPECT_GE(version, last);
    ASSERT_EQ(loaded.get<float>("parameters", "w"), Floats(n, static_cast<float>(version)));
    ASSERT_EQ(loaded.get<float>("momentum", "w"), Floats(n, static_cast<float>(-version)));
    advanced += version > last;
    last = version;
    const auto files = std::distance(fs::directory_iterator(folder.path), {});
    EXPECT_LE(files, 2);  // the file and, at most, what this child left; earlier leftovers are gone
    left_behind += files == 2;
  }
  EXPECT_GT(advanced, 0);     // some saves got through,
  EXPECT_GT(left_behind, 0);  // and some were struck in the middle
  save_version(last + 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 1);
}

TEST(Save, LeavesAnotherWritersFileAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "c", other = path + ".1-0.partial";
  testing::write(other, "half a file");
  testing::write(path + ".bak", "not a leftover");
  const int writer = ::open(other.c_str(), O_RDONLY);
  ASSERT_EQ(::flock(writer, LOCK_EX), 0);
  State state;
  save(state, path);
  EXPECT_TRUE(fs::exists(other));
  ::close(writer);
  save(state, path);
  EXPECT_FALSE(fs::exists(other));
  EXPECT_TRUE(fs::exists(path + ".bak"));
}

TEST(Save, AnIndependentReaderReadsOurFiles) {
  if (std::system("/usr/bin/python3 -c 'import numpy' 2>/dev/null") != 0)
    GTEST_SKIP() << "skipped: no python3 with numpy";
  const TemporaryFolder folder;
  State state;
  declare_model(state, 3);
  save(state, folder.path / "c", {{"model", "tiny"}});
  testing::write(folder.path / "read.py", R"(
import json, struct, sys
import numpy as np
raw = open(sys.argv[1], 'rb').read()
n, = struct.unpack('<Q', raw[:8])
head = json.loads(raw[8:8 + n]); data = raw[8 + n:]
meta = head.pop('__metadata__')
assert meta == {'format': 'ranvier', 'layout': 'KRSC', 'version': '1', 'model': 'tiny'}, meta
kinds = {'F32': '<f4', 'F64': '<f8', 'I32': '<i4', 'I64': '<i8', 'U8': 'u1'}
def tensor(name):
    t = head[name]; b, e = t['data_offsets']
    assert b % np.dtype(kinds[t['dtype']]).itemsize == 0 and n % 8 == 0
    return np.frombuffer(data[b:e], kinds[t['dtype']]).reshape(t['shape'])
assert sorted(head) == sorted(['conv.weight', 'conv.scale', 'nothing', 'buffers/norm.running_mean',
    'momentum/conv.weight', 'counters/step', 'counters/order', 'counters/seen']), head
assert (tensor('conv.weight') == (3 + np.arange(72, dtype='f4')).reshape(4, 3, 3, 2)).all()
assert (tensor('conv.scale') == 3.1 + np.arange(3)).all()
assert (tensor('momentum/conv.weight').ravel() == 3.5 + np.arange(72)).all()
assert tensor('counters/step').shape == () and tensor('counters/step') == 3
assert (tensor('counters/order') == 3 + np.arange(5)).all() and (tensor('counters/seen') == 3 + np.arange(7)).all()
assert tensor('nothing').shape == (0, 3)
)");
  const std::string command =
      "/usr/bin/python3 " + (folder.path / "read.py").string() + " " + (folder.path / "c").string();
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace ranvier
