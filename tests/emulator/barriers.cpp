// Where threads meet: block barriers, and the collective operations of warps and warpgroups.
#include <block.h>
#include <race.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace emulator {
namespace {

struct Barrier {
  int arrived = 0;
  int expected = 0;  // whole block: 0
  int held = 0;
  Site site{"", 0};
  std::vector<int> waiting;
};

/// An operation of a warp that some lanes have reached.
struct Collective {
  unsigned mask, arrived;
  const char* what;
  Site site;
  std::array<void*, warp_size> arguments;
};

struct Warp {
  std::vector<Collective> pending;
  unsigned ended = 0;  // lanes
};

struct Group {
  int arrived = 0;
  const char* what = "";
  Site site{"", 0};
  std::array<void*, group_size> arguments;
};

std::array<Barrier, 16> barriers;
std::vector<Warp> warps;
std::vector<Group> groups;

void open_barrier(Barrier& barrier) {
  if (barrier.expected == 0)
    race::order_block();
  else
    race::order_threads(barrier.waiting);
  for (int number : barrier.waiting)
    if (Votes* const votes = block.threads[static_cast<size_t>(number)].votes) *votes = {barrier.held, barrier.arrived};
  std::vector<int> threads = std::move(barrier.waiting);
  const bool first = barrier.expected != 0 && options.order == Order::ascending;  // before those who did not take part
  barrier = {};
  if (!first) return make_all_ready(std::move(threads));
  for (size_t i = threads.size(); i-- > 0;) make_ready_first(threads[i]);
}

std::string met_elsewhere(const char* what, Site site, const char* other, Site other_site) {
  return std::string(what) + " at " + to_string(site) + " meets " + other + " at " + to_string(other_site);
}

/// Refuses a mask that this warp or lane cannot keep.
void check_mask(const Warp& warp, unsigned mask, const char* what) {
  const Thread& thread = *block.current;
  const int lanes = block.size() - thread.warp * warp_size;
  if (!(mask >> thread.lane & 1))
    fail(std::string("warp divergence: a lane calls ") + what + " and is not in its mask");
  if (lanes < warp_size && mask >> lanes)
    fail(std::string("warp divergence: ") + what + " names lanes that this warp of " + std::to_string(lanes) +
         " threads does not have");
  if (mask & warp.ended) fail(std::string("warp divergence: ") + what + " waits for lanes that have ended");
}

/// The pending operation that this lane joins, or a new one.
Collective& find_collective(Warp& warp, unsigned mask, const char* what, Site site) {
  for (Collective& pending : warp.pending) {
    if (pending.mask != mask || (pending.arrived >> block.current->lane & 1)) continue;
    if (std::strcmp(pending.what, what) != 0 || !(pending.site == site))
      fail("warp divergence: " + met_elsewhere(what, site, pending.what, pending.site));
    return pending;
  }
  warp.pending.push_back({mask, 0, what, site, {}});
  return warp.pending.back();
}

/// Lets the other lanes of an operation go on. In ascending order this warp runs on before any other one, depth first,
/// which shows where block barriers are missing; in descending order the last lane comes first, breadth first. Returns
/// whether the last lane to come runs on at once.
bool release_lanes(unsigned mask) {
  std::array<int, warp_size> lanes;
  int count = 0;
  for (int i = 0; i < warp_size; ++i)
    if (mask >> i & 1) lanes[static_cast<size_t>(count++)] = block.current->warp * warp_size + i;
  if (options.order == Order::ascending) {
    while (count-- > 0)
      if (const int lane = lanes[static_cast<size_t>(count)]; lane != block.current->number) make_ready_first(lane);
    return true;
  }
  bool first = false;
  if (options.order == Order::random) {
    std::shuffle(lanes.begin(), lanes.begin() + count, block.random);
    first = block.random() & 1;
  }
  while (count-- > 0) {
    const int lane = lanes[static_cast<size_t>(count)];
    first ? make_ready_first(lane) : make_ready(lane);
  }
  return false;
}

}  // namespace

void reset_barriers() {
  barriers.fill({});
  warps.assign(static_cast<size_t>((block.size() + warp_size - 1) / warp_size), {});
  groups.assign(static_cast<size_t>((block.size() + group_size - 1) / group_size), {});
}

void leave_barriers(const Thread& thread) {
  warps[static_cast<size_t>(thread.warp)].ended |= 1u << thread.lane;
  for (const Barrier& barrier : barriers)
    if (barrier.arrived && barrier.expected == 0)
      fail("barrier divergence: a thread ends while others wait" + whereabouts());
}

void block_barrier(int id, int count, bool predicate, Votes* votes, Site site) {
  const InEmulator guard(site);
  Barrier& barrier = barriers.at(static_cast<size_t>(id));
  if (barrier.arrived && barrier.expected != count)
    fail("barrier divergence: barrier " + std::to_string(id) + " of " + std::to_string(count) + " threads, but of " +
         std::to_string(barrier.expected) + " at " + to_string(barrier.site));
  if (barrier.arrived && !(barrier.site == site))
    fail("barrier divergence: " + std::to_string(barrier.arrived) + " threads wait at " + to_string(barrier.site) +
         ", this one comes to " + to_string(site));
  if (count == 0 && block.done)
    fail("barrier divergence: " + std::to_string(block.done) + " threads have ended before " + to_string(site));
  barrier.expected = count;
  barrier.site = site;
  ++barrier.arrived;
  barrier.held += predicate;
  barrier.waiting.push_back(block.current->number);
  block.current->votes = votes;
  if (barrier.arrived == (count ? count : block.size())) open_barrier(barrier);
  wait("a block barrier", site);
}

void warp_collective(unsigned mask, const char* what, void* arguments, WarpOperation operation, Site site) {
  const InEmulator guard(site);
  Warp& warp = warps[static_cast<size_t>(block.current->warp)];
  check_mask(warp, mask, what);
  Collective& collective = find_collective(warp, mask, what, site);
  collective.arrived |= 1u << block.current->lane;
  collective.arguments[static_cast<size_t>(block.current->lane)] = arguments;
  if (collective.arrived == mask) {
    operation(collective.arguments.data(), mask);
    // On a device shuffles, votes and mma order no memory: only __syncwarp does.
    if (std::strcmp(what, "__syncwarp") == 0) race::order_lanes(block.current->warp, mask);
    warp.pending.erase(warp.pending.begin() + (&collective - warp.pending.data()));
    if (release_lanes(mask)) return;
  }
  wait(what, site);
}

void group_collective(const char* what, void* arguments, GroupOperation operation, Site site) {
  const InEmulator guard(site);
  Group& group = groups[static_cast<size_t>(block.current->number / group_size)];
  if (group.arrived && (std::strcmp(group.what, what) != 0 || !(group.site == site)))
    fail("warpgroup divergence: " + met_elsewhere(what, site, group.what, group.site));
  group.what = what;
  group.site = site;
  group.arguments[static_cast<size_t>(block.current->number % group_size)] = arguments;
  if (++group.arrived == group_size) {
    operation(group.arguments.data(), group_size);
    group.arrived = 0;
    std::vector<int> threads(group_size);
    std::iota(threads.begin(), threads.end(), block.current->number / group_size * group_size);
    make_all_ready(std::move(threads));
  }
  wait(what, site);
}

}  // namespace emulator
