// Counts how many cycles the shared-memory accesses of each ldmatrix and cp.async of 16 bytes would take a device. A
// cycle serves each of the 32 banks (4 bytes wide) once, hence eight accesses of 16 bytes that fall into different
// groups of four banks; lanes are served in groups of eight.
#include <block.h>

#include <algorithm>
#include <array>
#include <map>

namespace emulator {
namespace {

struct Use {
  int64_t groups = 0;  // of eight accesses: the cycles without a conflict
  int64_t cycles = 0;
};

using Name = std::pair<std::string, int>;  // file and line
std::map<Name, Use> uses;

/// A lane's n-th access at a line belongs with the n-th accesses of the seven lanes beside it.
struct Place {
  Name name;
  int lanes, turn;
  auto operator<=>(const Place&) const = default;
};
std::map<Place, std::vector<uint32_t>> open_groups;
std::map<std::pair<Name, int>, int> turns;  // of each thread

void add(const Name& name, const std::vector<uint32_t>& addresses) {
  std::array<std::vector<uint32_t>, 8> banks;  // different 16-byte words asked of each group of banks
  size_t cycles = 1;
  for (uint32_t address : addresses) {
    const uint32_t word = address / 16;
    std::vector<uint32_t>& bank = banks[word % 8];
    if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
    cycles = std::max(cycles, bank.size());
  }
  Use& use = uses[name];
  ++use.groups;
  use.cycles += static_cast<int64_t>(cycles);
}

}  // namespace

void count_banks(const void* const (&addresses)[8], Site site) {
  if (!options.count_bank_conflicts) return;
  std::vector<uint32_t> group;
  for (const void* address : addresses) group.push_back(shared_addr(address));
  add({site.file, site.line}, group);
}

void count_bank(const void* address, Site site) {
  if (!options.count_bank_conflicts) return;
  const Name name(site.file, site.line);
  const int thread = block.current->number;
  open_groups[{name, thread / 8, turns[{name, thread}]++}].push_back(shared_addr(address));
}

void finish_bank_counts() {
  for (const auto& [place, addresses] : open_groups) add(place.name, addresses);
  open_groups.clear();
  turns.clear();
}

}  // namespace emulator

// For tests, which see these through tests/emulated.h.
extern "C" void emulator_count_bank_conflicts(int on) {
  emulator::options.count_bank_conflicts = on != 0;
  emulator::uses.clear();
}
/// Cycles beyond one for each group of eight accesses, over the lines of files whose path ends in `file`; -1 where no
/// such access was counted.
extern "C" int64_t emulator_bank_conflicts(const char* file) {
  int64_t groups = 0, cycles = 0;
  for (const auto& [name, use] : emulator::uses)
    if (std::string_view(name.first).ends_with(file)) groups += use.groups, cycles += use.cycles;
  return groups == 0 ? -1 : cycles - groups;
}
