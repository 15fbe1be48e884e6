// Fuzz target: the readers of the binary release and of its archive, on arbitrary bytes.
#include <cstdint>
#include <span>
#include <stdexcept>

#include "data/archive.h"
#include "data/cifar10.h"

namespace {

// A reader either succeeds or throws an error with a message; anything else is a finding.
template <class Reader>
void attempt(Reader&& reader) {
  try {
    reader();
  } catch (const std::runtime_error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace ranvier::data;
  const std::span<const uint8_t> input(bytes, size);
  attempt([&] { parse_cifar10_archive(input, "archive"); });
  attempt([&] { tar_files(input, "tar"); });
  attempt([&] { parse_cifar10_release(input, "tar"); });
  attempt([&] { parse_cifar10_classes(input, "classes"); });
  attempt([&] {
    Dataset into;
    into.classes = cifar10_classes();
    parse_cifar10_batch(input, "batch", static_cast<int64_t>(size) / cifar10_record_bytes, into);
  });
  return 0;
}
