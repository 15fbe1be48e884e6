// mbarriers, TMA and wgmma: late copies land when no thread can run, late products when they are waited for.
#include <block.h>
#include <hopper.h>
#include <race.h>

#include <bit>
#include <unordered_map>

namespace emulator {
namespace {

struct Load {
  unsigned char* to;
  TensorMap map;
  int column, row, issuer;
  Site site;
};

struct Mbarrier {
  unsigned count, pending, phase = 0;
  int64_t bytes = 0;  // of copies still to land
  std::vector<int> waiting{};
  std::deque<Load> loads{};
  race::Clock arriving{}, ended{};  // what the arrivals of this phase and of the last one knew
};
std::unordered_map<uint64_t*, Mbarrier> mbarriers;

struct Product {
  float* d;
  uint64_t a, b;
};
using Products = std::vector<Product>;  // one wgmma: an entry a thread
struct Group {
  std::vector<Products> open;
  std::deque<std::vector<Products>> committed;
  Site site{"", 0};
};
std::vector<Group> groups;

Mbarrier& find(uint64_t* barrier) {
  const auto found = mbarriers.find(barrier);
  if (found == mbarriers.end()) fail("an mbarrier is used that was not initialised");
  return found->second;
}

void end_phase_if_complete(Mbarrier& barrier) {
  if (barrier.pending || barrier.bytes) return;
  ++barrier.phase;
  barrier.pending = barrier.count;
  barrier.ended = barrier.arriving;
  make_all_ready(std::move(barrier.waiting));
  barrier.waiting.clear();
}

size_t box_bytes(const TensorMap& map) {
  return static_cast<size_t>(map.box_columns) * static_cast<size_t>(map.element_bytes) *
         static_cast<size_t>(map.box_rows);
}

/// Copies one box on behalf of the thread that asked for it.
void land(Mbarrier& barrier) {
  const Load load = barrier.loads.front();
  barrier.loads.pop_front();
  Thread* const caller = block.current;
  block.current = &block.threads[static_cast<size_t>(load.issuer)];
  const InEmulator guard(load.site);
  const TensorMap& map = load.map;
  const auto size = static_cast<size_t>(map.element_bytes);
  for (int r = 0; r < map.box_rows; ++r)
    for (int c = 0; c < map.box_columns; ++c) {
      unsigned char* const to = load.to + r * 128 + (c * map.element_bytes ^ (r & 7) << 4);
      const int row = load.row + r, column = load.column + c;
      if (row >= 0 && row < map.rows && column >= 0 && column < map.columns)
        std::memcpy(
            to, static_cast<const unsigned char*>(map.base) + row * map.pitch_bytes + column * map.element_bytes, size);
      else
        std::memset(to, 0, size);
    }
  note_access(load.to, box_bytes(map), Access::write);
  barrier.bytes -= static_cast<int64_t>(box_bytes(map));
  race::release(load.issuer, barrier.arriving);
  block.current = caller;
  end_phase_if_complete(barrier);
}

/// Element (row, k) of an operand, where its descriptor says.
float element(uint64_t operand, int row, int k) {
  const auto start = static_cast<uint32_t>(operand & 0x3fff) << 4;
  const auto stride = static_cast<uint32_t>(operand >> 32 & 0x3fff) << 4;
  uint32_t at = start + static_cast<uint32_t>(row / 8) * stride + static_cast<uint32_t>(row % 8 * 128 + k * 2);
  at ^= (at >> 7 & 7) << 4;
  const void* const p = shared_ptr(at);
  note_access(p, 2, Access::read);
  uint16_t bits;
  raw_copy(&bits, p, 2);
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

void multiply(const Products& products) {
  const auto [first_d, a, b] = products.front();
  if (a >> 62 != 1 || b >> 62 != 1) fail("wgmma: the emulator knows the 128-byte swizzle only");
  float left[64][16], right[64][16];
  for (int r = 0; r < 64; ++r)
    for (int k = 0; k < 16; ++k) left[r][k] = element(a, r, k), right[r][k] = element(b, r, k);
  for (int t = 0; t < group_size; ++t) {
    const Product& mine = products[static_cast<size_t>(t)];
    if (mine.a != a || mine.b != b) fail("wgmma: the threads' descriptors differ");
    const int row = 16 * (t / 32) + t % 32 / 4, column = 2 * (t % 4);
    for (int i = 0; i < 32; ++i) {
      const int r = row + (i / 2 % 2) * 8, c = i / 4 * 8 + column + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += left[r][k] * right[c][k];
      mine.d[i] += sum;
    }
  }
}

Group& group_of_current() { return groups[static_cast<size_t>(block.current->number / group_size)]; }

}  // namespace

void reset_hopper() {
  mbarriers.clear();
  groups.assign(static_cast<size_t>((block.size() + group_size - 1) / group_size), {});
}

void check_hopper_done() {
  for (const Group& group : groups)
    if (!group.open.empty() || !group.committed.empty())
      fail("a block ends without waiting for its wgmma of " + to_string(group.site));
}

bool land_late_copy() {
  for (auto& [address, barrier] : mbarriers)
    if (!barrier.loads.empty()) return land(barrier), true;
  return false;
}

void mbarrier_init(uint64_t* barrier, unsigned count, Site site) {
  const InEmulator guard(site);
  if (reinterpret_cast<uintptr_t>(barrier) % 8) fail("an mbarrier is not aligned to 8 bytes");
  shared_addr(barrier);
  note_access(barrier, 8, Access::write);
  mbarriers[barrier] = Mbarrier{count, count};
}

void mbarrier_arrive(uint64_t* address, unsigned bytes, Site site) {
  const InEmulator guard(site);
  note_access(address, 8, Access::atomic);
  Mbarrier& barrier = find(address);
  if (!barrier.pending) fail("an mbarrier sees more arrivals in a phase than it counts");
  barrier.bytes += bytes;
  --barrier.pending;
  race::release(block.current->number, barrier.arriving);
  end_phase_if_complete(barrier);
}

void mbarrier_wait(uint64_t* address, unsigned parity, Site site) {
  const InEmulator guard(site);
  Mbarrier& barrier = find(address);
  while ((barrier.phase & 1) == parity) {
    barrier.waiting.push_back(block.current->number);
    wait("an mbarrier", site);
  }
  race::acquire(block.current->number, barrier.ended);
}

void tma_load(void* to, const TensorMap& map, uint64_t* address, int column, int row, Site site) {
  const InEmulator guard(site);
  if (reinterpret_cast<uintptr_t>(to) % 1024) fail("TMA: a swizzled destination must be aligned to 1024 bytes");
  if (map.box_columns * map.element_bytes != 128) fail("TMA: the 128-byte swizzle needs boxes 128 bytes wide");
  Mbarrier& barrier = find(address);
  note_access(to, box_bytes(map), Access::write);
  barrier.loads.push_back({static_cast<unsigned char*>(to), map, column, row, block.current->number, site});
  if (options.late_copies)
    std::memset(to, 0xff, box_bytes(map));
  else
    land(barrier);
}

void wgmma_m64n64k16(float (&d)[32], uint64_t a, uint64_t b, Site site) {
  Product mine{d, a, b};
  group_of_current().site = site;
  group_collective(
      "wgmma", &mine,
      [](void** threads, int count) {
        Products products;
        for (int i = 0; i < count; ++i) products.push_back(*static_cast<Product*>(threads[i]));
        if (options.late_copies)
          group_of_current().open.push_back(std::move(products));
        else
          multiply(products);
      },
      site);
}

void wgmma_commit() {
  if (block.current->number % group_size != 0) return;  // each wgmma is a meeting of all: one speaks for them
  Group& group = group_of_current();
  group.committed.push_back(std::move(group.open));
  group.open.clear();
}

void wgmma_wait(int pending, Site site) {
  group_collective(
      "wgmma.wait_group", &pending,
      [](void** threads, int) {
        Group& group = group_of_current();
        while (static_cast<int>(group.committed.size()) > *static_cast<int*>(threads[0])) {
          for (const Products& products : group.committed.front()) multiply(products);
          group.committed.pop_front();
        }
      },
      site);
}

}  // namespace emulator
