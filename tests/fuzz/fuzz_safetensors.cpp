// Fuzz target: the safetensors reader, on arbitrary bytes.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "engine/error.h"
#include "engine/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace ranvier;
  try {
    const safetensors::Header header = safetensors::parse(std::as_bytes(std::span(bytes, size)), "file");
    uint64_t covered = 0;
    for (const safetensors::Item& item : header.items) {  // what is accepted must cover the data exactly
      if (item.begin != covered || item.end - item.begin != item.type.bytes()) std::abort();
      covered = item.end;
    }
    if (header.data + covered != size) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
