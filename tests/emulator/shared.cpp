// Shared memory of the running block: one arena in which every array is an allocation of its own with a gap behind it.
#include <block.h>
#include <race.h>
#include <sys/mman.h>

#include <algorithm>

#if defined(RANVIER_EMULATOR_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {
namespace {

constexpr size_t asked_bytes = 227 * 1024;   // of a block on sm_90 at most
constexpr size_t unasked_bytes = 48 * 1024;  // without asking, what the kernel declares included
size_t most_bytes = asked_bytes;
constexpr size_t gap = 64;
constexpr unsigned char unset = 0xff;  // NaN in f32, f16 and bf16

struct Array {
  const void* key;  // null: the dynamic shared memory
  unsigned char* first;
  size_t bytes;
  const char* name;
};

unsigned char* arena = nullptr;
size_t used = 0, total = 0;
std::vector<Array> arrays;
std::vector<uint8_t> allocated(arena_bytes);  // bytes of arrays; kept in the race build only

unsigned char* allocate(const void* key, size_t bytes, size_t alignment, const char* name) {
  const size_t offset = (used + alignment - 1) / alignment * alignment;
  total += bytes;
  if (offset + bytes + gap > arena_bytes || total > most_bytes)
    fail("a block asks for more than " + std::to_string(most_bytes) + " bytes of shared memory at '" + name + "'");
  used = (offset + bytes + 7) / 8 * 8 + gap;
#if defined(RANVIER_EMULATOR_ASAN)
  __asan_unpoison_memory_region(arena + offset, bytes);
  std::memset(arena + offset, unset, bytes);
#else
  std::memset(arena + offset, unset, used - offset);
#endif
  if (race::enabled) std::fill_n(allocated.begin() + static_cast<ptrdiff_t>(offset), bytes, uint8_t{1});
  arrays.push_back({key, arena + offset, bytes, name});
  return arena + offset;
}

}  // namespace

void limit_shared(bool asked) { most_bytes = asked ? asked_bytes : unasked_bytes; }

void reset_shared(size_t dynamic_bytes) {
  if (!arena) {
    void* const memory = mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw Error("no memory for the shared memory of a block");
    arena = static_cast<unsigned char*>(memory);
  }
  if (race::enabled) std::fill_n(allocated.begin(), used, uint8_t{0});
  used = total = 0;
  arrays.clear();
#if defined(RANVIER_EMULATOR_ASAN)
  __asan_poison_memory_region(arena, arena_bytes);
#endif
  if (dynamic_bytes) allocate(nullptr, dynamic_bytes, 1024, "dynamic shared memory");
}

void check_shared_gaps() {
#if !defined(RANVIER_EMULATOR_ASAN)
  for (const Array& array : arrays)
    for (size_t i = 0; i < gap; ++i)
      if (array.first[array.bytes + i] != unset)
        fail("shared memory: byte " + std::to_string(array.bytes + i) + " of '" + array.name +
             "' was written, which has " + std::to_string(array.bytes) + " bytes [block (" +
             std::to_string(blockIdx.x) + "," + std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z) + ")]");
#endif
}

void* shared_array(const void* key, size_t bytes, size_t alignment, const char* name) {
  const InEmulator guard;
  for (const Array& array : arrays)
    if (array.key == key) return array.first;
  return allocate(key, bytes, alignment, name);
}

unsigned char* dynamic_shared() {
  if (arrays.empty() || arrays[0].key) fail("a kernel uses dynamic shared memory and was launched with none");
  return arrays[0].first;
}

unsigned char* shared_arena() { return arena; }

bool is_shared(const void* p) {
  return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(arena) < arena_bytes;
}

bool is_allocated_shared(const void* p, size_t bytes) {  // a gap is wider than any access
  const size_t first = static_cast<size_t>(static_cast<const unsigned char*>(p) - arena), last = first + bytes - 1;
  return last < arena_bytes && allocated[first] && allocated[last];
}

uint32_t shared_addr(const void* p) {
  if (!is_shared(p)) fail("an address that must be in shared memory is not");
  return static_cast<uint32_t>(static_cast<const unsigned char*>(p) - arena);
}

void* shared_ptr(uint32_t address) {
  if (address >= arena_bytes) fail("a shared-memory address beyond the window");
  return arena + address;
}

std::string name_of_shared(const void* p) {
  const auto* const at = static_cast<const unsigned char*>(p);
  const Array* nearest = nullptr;
  for (const Array& array : arrays)
    if (array.first <= at && (!nearest || nearest->first < array.first)) nearest = &array;
  if (!nearest) return "shared memory before every array";
  return std::string("shared '") + nearest->name + "' byte " + std::to_string(at - nearest->first) + " of " +
         std::to_string(nearest->bytes);
}

}  // namespace emulator
