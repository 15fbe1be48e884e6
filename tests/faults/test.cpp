// Every planted fault must be noticed by the builds that can see it, and the same kernel without it by none.
#include <core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/device.h"
#include "engine/error.h"
#include "tests/device_array.h"
#include "tests/faults/faults.h"

extern "C" void emulator_set_mode(int mode);

namespace ranvier::test {

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

namespace {

constexpr int modes = 6;

std::vector<Fault> every_fault() {
  std::vector<Fault> all;
  for (const auto& list : {basic_faults(), pipeline_faults(), instruction_faults()})
    all.insert(all.end(), list.begin(), list.end());
  return all;
}

const Seen& seen_here(const Fault& fault) {
#if defined(RANVIER_EMULATOR_RACE)
  return fault.race;
#elif defined(RANVIER_EMULATOR_ASAN)
  return fault.sanitized;
#else
  return fault.plain;
#endif
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Results of the fault-free kernel, which must be the same in every mode.
std::vector<float> run_correct(const Fault& fault) {
  std::vector<float> first;
  for (int mode = 0; mode < modes; ++mode) {
    emulator_set_mode(mode);
    const std::vector<float> result = fault.run(false);
    EXPECT_TRUE(std::none_of(result.begin(), result.end(), [](float v) { return std::isnan(v); })) << "mode " << mode;
    if (mode == 0) first = result;
    EXPECT_TRUE(same(result, first)) << "mode " << mode;
  }
  return first;
}

class Faults : public testing::TestWithParam<Fault> {};

TEST_P(Faults, AreNoticed) {
  const Fault& fault = GetParam();
  const Seen& seen = seen_here(fault);
  const std::vector<float> correct = run_correct(fault);
  int differing = 0, errors = 0, foreign = 0;
  for (int mode = 0; mode < modes && seen.notice != Notice::no; ++mode) {
    emulator_set_mode(mode);
    if (seen.notice == Notice::death) {
      EXPECT_DEATH(fault.run(true), seen.text);
      return;
    }
    try {
      differing += !same(fault.run(true), correct);
    } catch (const emulator::Error& error) {
      const bool right = std::string(error.what()).find(seen.text) != std::string::npos;
      ++(right ? errors : foreign);
      EXPECT_TRUE(right) << error.what();
    }
  }
  emulator_set_mode(0);
  EXPECT_TRUE(seen.notice != Notice::value || differing > 0) << "no order of threads changes the result";
  EXPECT_TRUE(seen.notice != Notice::error || errors > 0) << "nothing was flagged";
  EXPECT_EQ(foreign, 0);
}

INSTANTIATE_TEST_SUITE_P(All, Faults, testing::ValuesIn(every_fault()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(FaultList, EveryFaultIsFlaggedBySomeBuild) {
  EXPECT_GE(every_fault().size(), 20u);
  const auto flags = [](const Seen& seen) { return seen.notice >= Notice::error; };
  for (const Fault& fault : every_fault())
    EXPECT_TRUE(flags(fault.plain) || flags(fault.sanitized) || flags(fault.race)) << fault.name;
}

TEST(FaultList, LaterLaunchesRunAfterAFault) {
  const Fault fault = instruction_faults()[0];
  EXPECT_THROW(fault.run(true), emulator::Error);
  EXPECT_FALSE(fault.run(false).empty());
}

TEST(Messages, NameTheLinesTheThreadsAndTheBlock) {
  const auto message_of = [](const char* name) -> std::string {
    for (const Fault& fault : every_fault())
      if (std::string(fault.name) == name) try {
          fault.run(true);
        } catch (const emulator::Error& error) {
          return error.what();
        }
    return "no error";
  };
  const std::string barrier = message_of("barrier_in_both_arms");
  EXPECT_NE(barrier.find("tests/faults/basic.cu:"), std::string::npos) << barrier;
  EXPECT_NE(barrier.find(" comes to "), std::string::npos) << barrier;
  EXPECT_NE(barrier.find("[thread ("), std::string::npos) << barrier;
  EXPECT_NE(barrier.find("block (0,0,0)]"), std::string::npos) << barrier;
#if defined(RANVIER_EMULATOR_RACE)
  const std::string race = message_of("write_after_read");
  EXPECT_NE(race.find("shared 'tile' byte "), std::string::npos) << race;
  const size_t first = race.find("basic.cu:");
  EXPECT_NE(first, std::string::npos) << race;
  EXPECT_NE(race.find("basic.cu:", first + 1), std::string::npos) << "the other thread's line: " << race;
#endif
}

// Captures of a stream: what a step must not do while it is recorded.

class Capture : public testing::Test {
 protected:
  const Device device = Device::cuda();
  Memory memory{device, 64};

  std::string error_of(const std::function<void()>& body) {
    try {
      Recording recording(device, body);
    } catch (const std::exception& error) {
      return error.what();
    }
    return "no error";
  }
  void expect_refused(const std::function<void()>& body, const char* text) {
    const std::string error = error_of(body);
    EXPECT_NE(error.find(text), std::string::npos) << error;
    // the failed capture is over, and the next one works
    EXPECT_EQ(error_of([this] { fill_bytes(device, memory.data(), 1, 64); }), "no error");
  }
};

TEST_F(Capture, RecordsAndReplaysWithoutRunning) {
  std::vector<unsigned char> bytes(64, 7);
  copy_to_device(device, memory.data(), bytes.data(), 64);
  const Recording recording(device, [&] { fill_bytes(device, memory.data(), 9, 64); });
  copy_to_host(device, bytes.data(), memory.data(), 64);
  EXPECT_EQ(bytes[0], 7);
  recording.replay();
  copy_to_host(device, bytes.data(), memory.data(), 64);
  EXPECT_EQ(bytes[0], 9);
}
TEST_F(Capture, RefusesAllocation) {
  expect_refused([this] { Memory(device, 16); }, "operation not permitted when stream is capturing");
}
TEST_F(Capture, RefusesToFree) {
  auto held = std::make_unique<Memory>(device, 16);
  void* const data = held->data();
  expect_refused([&] { held.reset(); }, "previous error during capture");
  EXPECT_EQ(cudaFree(data), cudaSuccess);
}
TEST_F(Capture, RefusesToWait) {
  expect_refused([this] { synchronize(device); }, "operation not permitted when stream is capturing");
}
TEST_F(Capture, RefusesToReadBack) {
  char byte;
  expect_refused([&] { copy_to_host(device, &byte, memory.data(), 1); },
                 "operation not permitted when stream is capturing");
}
TEST_F(Capture, RefusesAnotherStream) {
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  expect_refused([&] { kernels::check_cuda(cudaMemsetAsync(memory.data(), 0, 1, other), "another stream"); },
                 "a call on another stream during a capture");
  cudaStreamDestroy(other);
}
TEST_F(Capture, RefusesAnotherCapture) {
  expect_refused([this] { Recording inner(device, [] {}); }, "beginning a capture");
}

}  // namespace
}  // namespace ranvier::test
