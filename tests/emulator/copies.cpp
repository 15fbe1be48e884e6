// cp.async: copies that happen at issue, or as late as is legal, with poison in their place until then.
#include <block.h>

namespace emulator {
namespace {

constexpr int poison = 0xff;  // NaN in every floating type

void note(const Copy& copy) {
  note_access(copy.from, static_cast<size_t>(copy.valid), Access::read);
  note_access(copy.to, static_cast<size_t>(copy.bytes), Access::write);
}

void land(const Copy& copy) {
  std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.valid));
  std::memset(copy.to + copy.valid, 0, static_cast<size_t>(copy.bytes - copy.valid));
}

}  // namespace

void cp_async(void* to, const void* from, int bytes, int valid, Site site) {
  const InEmulator guard(site);
  if (bytes != 4 && bytes != 8 && bytes != 16) fail("cp.async copies 4, 8 or 16 bytes, not " + std::to_string(bytes));
  if (valid < 0 || valid > bytes)
    fail("cp.async of " + std::to_string(bytes) + " bytes with " + std::to_string(valid) + " of them from the source");
  const auto size = static_cast<unsigned>(bytes);
  if (reinterpret_cast<uintptr_t>(to) % size || reinterpret_cast<uintptr_t>(from) % size)
    fail("cp.async: an address is not aligned to " + std::to_string(bytes) + " bytes");
  if (!is_shared(to)) fail("cp.async: the destination is not in shared memory");
  if (valid && is_shared(from)) fail("cp.async: the source is in shared memory");
  const Copy copy{static_cast<unsigned char*>(to), static_cast<const unsigned char*>(from), bytes, valid, site};
  note(copy);
  if (bytes == 16) count_bank(to, site);
  if (options.late_copies)
    std::memset(to, poison, size);
  else
    land(copy);
  block.current->open_copies.push_back(copy);
}

void cp_async_commit() {
  const InEmulator guard;
  Thread& thread = *block.current;
  thread.copy_groups.push_back(std::move(thread.open_copies));
  thread.open_copies.clear();
}

void cp_async_wait(int pending, Site) {
  Thread& thread = *block.current;
  while (static_cast<int>(thread.copy_groups.size()) > pending) {
    for (const Copy& copy : thread.copy_groups.front()) {
      const InEmulator guard(copy.site);
      if (!options.late_copies) continue;
      note(copy);
      land(copy);
    }
    thread.copy_groups.pop_front();
  }
}

void check_copies_done(const Thread& thread) {
  const Copy* waiting = nullptr;
  for (const auto& group : thread.copy_groups)
    if (!group.empty()) waiting = &group.front();
  if (!thread.open_copies.empty()) waiting = &thread.open_copies.front();
  if (waiting) fail("a thread ends without waiting for its cp.async of " + to_string(waiting->site));
}

}  // namespace emulator
