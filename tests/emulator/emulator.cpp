// emu.cpp - runtime of the device emulator prototype. Compiled WITHOUT -fsanitize=thread
// (it provides the __tsan_* hooks itself for the race-checking build), with ASan in the ASan build.
#include <emulator.h>
#include <sys/mman.h>
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <unordered_map>
#include <vector>
#if defined(__SANITIZE_ADDRESS__) || \
    defined(EMU_ASAN)  // EMU_ASAN: link with ASan, but do not instrument the runtime itself
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define ASAN_ON 1
#else
#define ASAN_ON 0
#endif
#if defined(EMU_UCONTEXT)
#include <ucontext.h>
#elif defined(EMU_BOOST)
#include <boost/context/detail/fcontext.hpp>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {
Options opt;
Stats stats;

// ------------------------------------------------------------------ context switch
struct Fiber {
  unsigned char* lo = nullptr;
  size_t size = 0;
  void* fake = nullptr;
  size_t colour = 0;     // stagger the stack tops: equal page offsets fight for the same L1 sets
  int next_thread = -1;  // thread to start when this (idle) fiber is resumed
#if defined(EMU_UCONTEXT)
  ucontext_t uc;
#else
  void* sp = nullptr;
#endif
};
static void fiber_main();
static Fiber main_fiber;
static Fiber* cur_fiber = &main_fiber;

#if !defined(EMU_UCONTEXT) && !defined(EMU_BOOST)
extern "C" void emu_switch_asm(void** save_sp, void* new_sp);
asm(R"(
.text
.globl emu_switch_asm
.type emu_switch_asm,@function
emu_switch_asm:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch_asm,.-emu_switch_asm
)");
static void prepare(Fiber* f) {
  auto top = (reinterpret_cast<uintptr_t>(f->lo + f->size) - f->colour) & ~uintptr_t(15);
  auto** s = reinterpret_cast<void**>(top);
  *--s = nullptr;                               // fake return address of fiber_main (alignment)
  *--s = reinterpret_cast<void*>(&fiber_main);  // popped by ret
  for (int i = 0; i < 6; i++) *--s = nullptr;
  f->sp = s;
}
static void raw_switch(Fiber* a, Fiber* b) { emu_switch_asm(&a->sp, b->sp); }
#elif defined(EMU_BOOST)
namespace bc = boost::context::detail;
static void boost_entry(bc::transfer_t t) {
  (*static_cast<Fiber**>(t.data))->sp = t.fctx;
  fiber_main();
}
static void prepare(Fiber* f) { f->sp = bc::make_fcontext(f->lo + f->size, f->size, boost_entry); }
static void raw_switch(Fiber* a, Fiber* b) {
  Fiber* from = a;
  bc::transfer_t t = bc::jump_fcontext(b->sp, &from);
  (*static_cast<Fiber**>(t.data))->sp = t.fctx;
}
#else
static void prepare(Fiber* f) {
  getcontext(&f->uc);
  f->uc.uc_stack.ss_sp = f->lo;
  f->uc.uc_stack.ss_size = f->size;
  f->uc.uc_link = nullptr;
  makecontext(&f->uc, fiber_main, 0);
}
static void raw_switch(Fiber* a, Fiber* b) { swapcontext(&a->uc, &b->uc); }
#endif

static void switch_to(Fiber* to) {
  Fiber* from = cur_fiber;
  cur_fiber = to;
  stats.switches++;
#if ASAN_ON
  __sanitizer_start_switch_fiber(&from->fake, to->lo, to->size);
#endif
  raw_switch(from, to);
#if ASAN_ON
  __sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}

// ------------------------------------------------------------------ block state
enum class St : uint8_t { Unstarted, Ready, Running, Blocked, Done };
struct Copy {
  unsigned char* dst;
  const unsigned char* src;
  int bytes, src_bytes;
};
struct Thread {
  uint3 tid;
  int lin, lane, warp;
  St st;
  Fiber* fiber;
  const char *what, *file;
  int line;  // why blocked
  void* arg;
  int* bar_out;
  int pred;
  std::vector<Copy> cp_open;
  std::deque<std::vector<Copy>> cp_groups;
};
struct Collective {
  unsigned mask, arrived;
  const char *what, *file;
  int line;
  void* args[32];
};
struct Warp {
  std::vector<Collective> pend;
  unsigned exited;
};
struct GroupOp {
  int arrived = 0;
  const char *what, *file;
  int line;
  void* args[128];
};
struct Pending {
  GroupFn fn;
  std::vector<std::vector<unsigned char>> store;
};
struct WGroup {
  GroupOp op;
  bool open = false;
  std::vector<Pending> uncommitted;
  std::deque<std::vector<Pending>> groups;
};
struct Bar {
  int arrived = 0, expected = 0, sum = 0;
  const char* file;
  int line;
  std::vector<int> waiting;
};
struct Tma {
  unsigned char* dst;
  TensorMap2D m;
  int ci, co, issuer;
};
struct MBar {
  unsigned count, pending, phase;
  long tx;
  std::vector<std::pair<int, unsigned>> waiting;
  std::deque<Tma> queue;
  std::vector<uint32_t> vc_acc, vc_done;
};
struct SlotInfo {
  unsigned char* p;
  size_t bytes;
  const char* name;
};

constexpr size_t kArena = 512 * 1024, kSmemLimit = 227 * 1024;
static unsigned char* arena;  // shared-memory window of the running block
static size_t arena_used, smem_total;
static unsigned char* dyn_ptr;
static size_t dyn_bytes;
static std::unordered_map<const void*, SlotInfo> slots;
static std::vector<Thread> T;
static std::vector<Warp> W;
static std::vector<WGroup> G;
static Bar bars[16];
static std::unordered_map<uint64_t*, MBar> mbars;
static std::vector<int> queue;
static size_t qh, qn;
static int n_threads, n_done;
static Thread* cur;
static std::vector<std::unique_ptr<Fiber>> pool;
static std::vector<Fiber*> idle;
static const std::function<void()>* body;
static std::string error;
static bool failed;
static std::mt19937 rng;

// hooks count only while kernel code runs: inline (COMDAT) library code of the runtime may have been
// merged by the linker with instrumented copies from the kernels' TU
static bool in_kernel;
struct Rt {
  bool was = in_kernel;
  Rt() { in_kernel = false; }
  ~Rt() { in_kernel = was; }
};
int lane() { return cur->lane; }
int linear_tid() { return cur->lin; }

// ------------------------------------------------------------------ race checker state
#ifdef EMU_RACE
constexpr size_t kGran = 1;  // bytes a cell stands for; neighbouring u8 elements belong to different threads
struct Cell {
  uint32_t wgen = 0, wclk = 0, rgen = 0, rclk = 0;
  int16_t wtid = -1, rtid = -1;
  uint32_t more = 0;
  uint8_t watomic = 0;
};
static uint32_t gen = 1, block_gen = 1, launch_gen = 1;
static std::vector<Cell> sh_cells;  // one per byte of the arena
struct Range {
  uintptr_t lo, hi;
  std::vector<Cell> cells;
  std::string name;
  bool shared, readonly = false;
};
static std::vector<std::unique_ptr<Range>> ranges;
// readers of a cell beyond the first: per-thread clocks, pooled, dropped at every full block barrier
static std::vector<uint32_t> rpool;
static uint32_t rpool_used = 1;
static uint32_t* rset(uint32_t i) { return rpool.data() + size_t(i) * size_t(n_threads); }
static void rpool_reset() { rpool_used = 1; }
static std::vector<std::vector<uint32_t>> VC;
static bool hb(int t, uint32_t clk) { return VC[cur->lin][t] >= clk; }  // (t,clk) happens-before now
static const char* nm(uintptr_t a) {
  static char buf[160];
  auto off = a - uintptr_t(arena);
  if (off < kArena) {
    for (auto& s : slots)
      if (a >= uintptr_t(s.second.p) && a < uintptr_t(s.second.p) + s.second.bytes) {
        snprintf(buf, sizeof buf, "shared '%s' byte %zu", s.second.name, size_t(a - uintptr_t(s.second.p)));
        return buf;
      }
    snprintf(buf, sizeof buf, "dynamic shared byte %zu", size_t(a - uintptr_t(dyn_ptr)));
    return buf;
  }
  for (auto& r : ranges)
    if (a >= r->lo && a < r->hi) {
      snprintf(buf, sizeof buf, "%s byte %zu", r->name.c_str(), size_t(a - r->lo));
      return buf;
    }
  return "?";
}
static void check_cell(Cell& c, uintptr_t a, bool write, bool atomic, bool shared, void* pc) {
  const int me = cur->lin;
  const uint32_t base = shared ? block_gen : launch_gen;  // older generations are ordered (or another block's smem)
  auto bad = [&](const char* k, int other) {
    char b[400];
    snprintf(b, sizeof b, "data race (%s): %s, thread %d vs thread %d%s, block (%u,%u,%u), pc %p", k, nm(a), me, other,
             "", blockIdx.x, blockIdx.y, blockIdx.z, pc);
    fail(b);
  };
  auto conflicts = [&](uint32_t g, int tid, uint32_t clk) {
    if (g < base) return false;      // earlier launch / not this block
    if (g < block_gen) return true;  // other block of this launch: never ordered
    if (g < gen) return false;       // before the last full block barrier
    return tid != me && !hb(tid, clk);
  };
  if (c.wtid >= 0 && !(atomic && c.watomic) && conflicts(c.wgen, c.wtid, c.wclk))
    bad(write ? "write-write" : "read after write", c.wtid);
  if (!write && shared && a - uintptr_t(arena) < kArena && (c.wtid < 0 || c.wgen < block_gen)) {
    char b[300];
    snprintf(b, sizeof b, "uninitialised read of %s by thread %d, pc %p", nm(a), me, pc);
    fail(b);
  }
  if (write) {
    if (c.rtid >= 0) {
      if (conflicts(c.rgen, c.rtid, c.rclk)) bad("write after read", c.rtid);
      if (c.more && c.rgen >= base && c.rgen < block_gen) bad("write after read", c.rtid);
      if (c.more && c.rgen == gen) {
        if (!shared) {
          if (c.rtid != me) bad("write after read", c.rtid);
        }  // global: set of readers not kept
        else {
          uint32_t* r = rset(c.more);
          for (int t = 0; t < n_threads; t++)
            if (r[t] && t != me && !hb(t, r[t])) bad("write after read", t);
        }
      }
    }
    c.wgen = gen;
    c.wtid = int16_t(me);
    c.wclk = VC[me][me];
    c.watomic = atomic;
    c.rtid = -1;
    c.more = 0;
  } else if (c.rtid >= 0 && c.rgen == gen && c.rtid != me) {
    if (!shared)
      c.more = 1;
    else {
      if (!c.more) {
        c.more = rpool_used++;
        if (rpool.size() < size_t(rpool_used) * n_threads) rpool.resize(2 * size_t(rpool_used) * n_threads);
        std::fill(rset(c.more), rset(c.more) + n_threads, 0u);
      }
      rset(c.more)[me] = VC[me][me];
    }
  } else {
    c.rgen = gen;
    c.rtid = int16_t(me);
    c.rclk = VC[me][me];
    c.more = 0;
  }
}
extern "C" char __bss_start, _end;
static Range* last_range;
static void access(const void* p, size_t n, bool write, bool atomic, void* pc) {
  auto a = uintptr_t(p);
  if (a - uintptr_t(arena) < kArena) {
    stats.hooks++;
    size_t o = a - uintptr_t(arena);
    for (size_t i = o / kGran; i <= (o + n - 1) / kGran; i++)
      check_cell(sh_cells[i], uintptr_t(arena) + i * kGran, write, atomic, true, pc);
    return;
  }
  Range* r = last_range;
  if (!r || a < r->lo || a >= r->hi) {
    r = nullptr;
    for (auto& q : ranges)
      if (a >= q->lo && a < q->hi) {
        r = last_range = q.get();
        break;
      }
  }
  if (!r) return;
  stats.hooks++;
  if (a + n > r->hi) fail("out-of-bounds access past " + r->name);
  if (r->readonly) {
    if (write) fail("write to read-only " + r->name);
    return;
  }
  size_t o = a - r->lo;
  for (size_t i = o / kGran; i <= (o + n - 1) / kGran; i++)
    check_cell(r->cells[i], r->lo + i * kGran, write, atomic, r->shared, pc);
}
static void vc_join(std::vector<uint32_t>& d, const std::vector<uint32_t>& s) {
  for (size_t i = 0; i < d.size(); i++) d[i] = std::max(d[i], s[i]);
}
static void order_threads(const int* t, int k) {  // a rendezvous: everything before -> everything after
  std::vector<uint32_t> j = VC[t[0]];
  for (int i = 1; i < k; i++) vc_join(j, VC[t[i]]);
  for (int i = 0; i < k; i++) {
    VC[t[i]] = j;
    VC[t[i]][t[i]]++;
  }
}
#endif
#ifdef EMU_RACE
void note_access(const void* p, size_t n, bool w, bool at) {
  if (cur) access(p, n, w, at, __builtin_return_address(0));
}
#else
void note_access(const void* p, size_t n, bool, bool) {
#if ASAN_ON
  if (n && __asan_region_is_poisoned(const_cast<void*>(p), n)) {
    volatile char c = *static_cast<const volatile char*>(__asan_region_is_poisoned(const_cast<void*>(p), n));
    (void)c;
  }
#else
  (void)p;
  (void)n;
#endif
}
#endif
void register_global(const void* p, size_t n, const char* name) {
#ifdef EMU_RACE
  auto r = std::make_unique<Range>();
  r->lo = uintptr_t(p);
  r->hi = r->lo + n;
  r->cells.resize(n / kGran + 1);
  r->name = name;
  r->shared = false;
  ranges.push_back(std::move(r));
#else
  (void)p;
  (void)n;
  (void)name;
#endif
}
void freeze_global(const void* p) {
#ifdef EMU_RACE
  for (auto& r : ranges)
    if (r->lo == uintptr_t(p)) r->readonly = true;
#else
  (void)p;
#endif
}
void unregister_global(const void* p) {
#ifdef EMU_RACE
  last_range = nullptr;
  ranges.erase(std::remove_if(ranges.begin(), ranges.end(), [&](auto& r) { return r->lo == uintptr_t(p); }),
               ranges.end());
#else
  (void)p;
#endif
}
void raw_copy(void* d, const void* s, size_t n) { std::memcpy(d, s, n); }

// ------------------------------------------------------------------ scheduler
static void push_ready(int t) {
  T[t].st = T[t].fiber ? St::Ready : St::Unstarted;
  queue[(qh + qn++) % queue.size()] = t;
}
static void push_front(int t) {
  T[t].st = T[t].fiber ? St::Ready : St::Unstarted;
  qh = (qh + queue.size() - 1) % queue.size();
  queue[qh] = t;
  qn++;
}
static void push_all(std::vector<int>& v) {
  if (opt.order == Descending) std::reverse(v.begin(), v.end());
  if (opt.order == Random) std::shuffle(v.begin(), v.end(), rng);
  for (int t : v) push_ready(t);
}
static bool run_late_tma();
static int pop() {
  while (!qn)
    if (!run_late_tma()) return -1;  // late copies land when nobody else can run
  int t = queue[qh];
  qh = (qh + 1) % queue.size();
  qn--;
  return t;
}
static void to_main() { switch_to(&main_fiber); }
struct Abort {};
[[noreturn]] void fail(const std::string& m) {
  if (!failed) {
    failed = true;
    error = m;
    if (cur) {
      char b[128];
      snprintf(b, sizeof b, " [thread (%u,%u,%u) block (%u,%u,%u)]", cur->tid.x, cur->tid.y, cur->tid.z, blockIdx.x,
               blockIdx.y, blockIdx.z);
      error += b;
    }
  }
#ifndef EMU_RACE
  throw Abort{};  // unwind this fiber (no leaks); fiber_main catches
#else
  to_main();  // the __tsan_* hooks are nothrow for the compiler: abandon the fiber instead
  std::abort();
#endif
}
static std::string where() {
  std::map<std::string, int> c;
  for (auto& t : T)
    if (t.st == St::Blocked)
      c[std::string(t.what) + " at " + t.file + ":" + std::to_string(t.line)]++;
    else if (t.st == St::Done)
      c["exited"]++;
  std::string s;
  for (auto& p : c) s += "\n    " + std::to_string(p.second) + " thread(s): " + p.first;
  return s;
}
static Fiber* get_fiber() {
  if (!idle.empty()) {
    auto* f = idle.back();
    idle.pop_back();
    return f;
  }
  auto f = std::make_unique<Fiber>();
  f->size = ASAN_ON ? 256 * 1024 : 64 * 1024;
  f->lo = static_cast<unsigned char*>(
      mmap(nullptr, f->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0));
  mprotect(f->lo, 4096, PROT_NONE);  // guard page
  f->colour = pool.size() % 48 * 320 % 12288;
  prepare(f.get());
  pool.push_back(std::move(f));
  return pool.back().get();
}
static void set_current(Thread* t) {
  cur = t;
  threadIdx = t->tid;
  t->st = St::Running;
}
// give up the CPU; returns when this thread is runnable again
static void block_self(const char* what, const char* f, int l) {
  Thread* me = cur;
  me->st = St::Blocked;
  me->what = what;
  me->file = f;
  me->line = l;
  int n = pop();
  if (n < 0) {
    cur = me;
    fail("deadlock or barrier divergence: no thread can run" + where());
  }
  Thread* t = &T[n];
  if (t == me) {
    set_current(me);
    return;
  }
  if (!t->fiber) {
    t->fiber = get_fiber();
    t->fiber->next_thread = n;
  }
  cur = t;
  switch_to(t->fiber);
  set_current(me);
}
static void finish_bar(Bar& b, bool full);
static void on_exit_thread() {
  Thread* me = cur;
  if (!me->cp_open.empty() || !me->cp_groups.empty()) fail("thread exits with outstanding cp.async copies");
  me->st = St::Done;
  me->fiber = nullptr;
  n_done++;
  W[me->warp].exited |= 1u << me->lane;
  for (auto& b : bars)
    if (b.expected && b.arrived) {
      if (opt.strict_exit) fail(std::string("barrier divergence: thread exits while others wait") + where());
      if (&b == &bars[0] && b.expected < 0 && b.arrived == n_threads - n_done) finish_bar(b, true);
    }
}
static void fiber_main() {
#if ASAN_ON
  {
    const void* lo;
    size_t sz;
    __sanitizer_finish_switch_fiber(nullptr, &lo, &sz);
    if (!main_fiber.lo) {
      main_fiber.lo = static_cast<unsigned char*>(const_cast<void*>(lo));
      main_fiber.size = sz;
    }
  }
#endif
  for (;;) {
    Fiber* self = cur_fiber;
    int n = self->next_thread;
    for (;;) {  // run threads to completion on this same fiber as long as fresh ones are next
      Thread* t = &T[n];
      t->fiber = self;
      set_current(t);
      try {
        in_kernel = true;
        (*body)();
        in_kernel = false;
        on_exit_thread();
      } catch (Abort&) {
        to_main();
      }
      n = pop();
      if (n < 0 || T[n].fiber) break;
    }
    idle.push_back(self);
    if (n < 0) {
      if (n_done != n_threads) {
        try {
          fail("deadlock or barrier divergence: no thread can run" + where());
        } catch (Abort&) {
        }
      }
      to_main();
    } else {
      cur = &T[n];
      switch_to(T[n].fiber);
    }
  }
}

// ------------------------------------------------------------------ barriers, warp collectives
static void finish_bar(Bar& b, bool full) {
  stats.barriers++;
#ifdef EMU_RACE
  if (full) {
    gen++;
    rpool_reset();
  } else
    order_threads(b.waiting.data(), int(b.waiting.size()));
#endif
  (void)full;
  for (int t : b.waiting)
    if (T[t].bar_out) {
      T[t].bar_out[0] = b.sum;
      T[t].bar_out[1] = b.arrived;
    }
  std::vector<int> w;
  w.swap(b.waiting);
  b.arrived = 0;
  b.expected = 0;
  b.sum = 0;
  push_all(w);
}
void block_barrier(int id, int count, int pred, int out[3], const char* f, int l) {
  Rt rt;
  Bar& b = bars[id];
  int exp = count ? count : -1;
  if (b.arrived && b.expected != exp) fail("barrier reached with different thread counts");
  if (b.arrived && opt.strict_site && (b.line != l || std::strcmp(b.file, f))) {
    char m[300];
    snprintf(m, sizeof m, "barrier divergence: %d thread(s) at %s:%d, this one at %s:%d", b.arrived, b.file, b.line, f,
             l);
    fail(m);
  }
  if (!count && n_done && opt.strict_exit) fail("barrier divergence: some threads have already exited");
  b.expected = exp;
  b.file = f;
  b.line = l;
  b.arrived++;
  b.sum += pred != 0;
  b.waiting.push_back(cur->lin);
  cur->bar_out = out;
  if (b.arrived == (count ? count : n_threads - n_done)) finish_bar(b, !count && n_done == 0);
  block_self("block barrier", f, l);
}
void warp_collective(unsigned mask, const char* what, void* arg, WarpFn fn, const char* f, int l) {
  Rt rt;
  Warp& w = W[cur->warp];
  const unsigned bit = 1u << cur->lane;
  if (!(mask & bit)) fail(std::string(what) + ": calling lane is not in its mask");
  if (cur->warp == int(W.size()) - 1 && n_threads % 32 && (mask >> (n_threads % 32)))
    fail(std::string(what) + ": mask names lanes that do not exist in a partial warp");
  if (mask & w.exited) fail(std::string(what) + ": mask names lanes that have exited");
  Collective* c = nullptr;
  for (auto& p : w.pend)
    if (p.mask & mask) {
      if (p.mask == mask && !(p.arrived & bit)) {
        if (std::strcmp(p.what, what)) {
          char m[300];
          snprintf(m, sizeof m, "warp divergence: %s at %s:%d meets %s at %s:%d", what, f, l, p.what, p.file, p.line);
          fail(m);
        }
        if (opt.strict_site && (p.line != l || std::strcmp(p.file, f))) {
          char m[300];
          snprintf(m, sizeof m, "warp divergence: lanes meet in %s at %s:%d and %s:%d", what, f, l, p.file, p.line);
          fail(m);
        }
        c = &p;
        break;
      }
    }
  if (!c) {
    w.pend.push_back({mask, 0, what, f, l, {}});
    c = &w.pend.back();
  }
  c->arrived |= bit;
  c->args[cur->lane] = arg;
  if (c->arrived == mask) {
    stats.warp_ops++;
    fn(c->args, mask);
    int rel[32], nr = 0;
    const int base = cur->warp * 32;
    for (int i = 0; i < 32; i++)
      if (mask >> i & 1) rel[nr++] = base + i;
#ifdef EMU_RACE
    if (!std::strcmp(what, "__syncwarp")) order_threads(rel, nr);  // shuffles, votes, mma order no memory
#endif
    w.pend.erase(w.pend.begin() + (c - w.pend.data()));
    // Ascending: depth first - this warp runs on before any other one (shows missing block barriers).
    // Descending: breadth first, last lane first. Random: either.
    if (opt.order == Ascending) {
      for (int i = nr; i-- > 0;)
        if (rel[i] != cur->lin) push_front(rel[i]);
      return;
    }
    if (opt.order == Random) std::shuffle(rel, rel + nr, rng);
    const bool front = opt.order == Random && (rng() & 1);
    for (int i = nr; i-- > 0;) front ? push_front(rel[i]) : push_ready(rel[i]);
  }
  block_self(what, f, l);
}
void group_collective(const char* what, void* arg, GroupFn fn, const char* f, int l) {
  Rt rt;
  WGroup& g = G[cur->warp / 4];
  if (!g.open) {
    g.op = GroupOp{};
    g.open = true;
    g.op.what = what;
    g.op.file = f;
    g.op.line = l;
  }
  if (g.op.line != l || std::strcmp(g.op.file, f)) fail("warpgroup divergence");
  g.op.args[cur->lin % 128] = arg;
  if (++g.op.arrived == 128) {
    fn(g.op.args, 128);
    g.open = false;
    std::vector<int> rel(128);
    std::iota(rel.begin(), rel.end(), cur->lin / 128 * 128);
#ifdef EMU_RACE
    // wgmma operations rendezvous here but order no memory between the four warps
#endif
    push_all(rel);
  }
  block_self(what, f, l);
}
// wgmma: collected from 128 threads at issue, executed at the wait (latest legal moment) or at once
void wgmma_issue(const char* what, void* arg, GroupFn fn, size_t arg_bytes, const char* f, int l) {
  struct Ctx {
    void* a;
    GroupFn fn;
    size_t n;
  } c{arg, fn, arg_bytes};
  group_collective(
      what, &c,
      [](void** v, int n) {
        Pending p;
        p.fn = static_cast<Ctx*>(v[0])->fn;
        for (int i = 0; i < n; i++) {
          auto* c = static_cast<Ctx*>(v[i]);
          auto* b = static_cast<unsigned char*>(c->a);
          p.store.emplace_back(b, b + c->n);
        }
        if (opt.lazy_async)
          G[cur->warp / 4].uncommitted.push_back(std::move(p));
        else {
          void* a[128];
          for (int i = 0; i < n; i++) a[i] = p.store[i].data();
          p.fn(a, n);
        }
      },
      f, l);
}
void wgmma_commit() {
  Rt rt;
  if (cur->lin % 128 != 0) return;  // one representative is enough: issue above is a full rendezvous
  WGroup& g = G[cur->warp / 4];
  g.groups.push_back(std::move(g.uncommitted));
  g.uncommitted.clear();
}
void wgmma_wait(int keep, const char* f, int l) {
  struct A {
    int k;
  } a{keep};
  group_collective(
      "wgmma.wait_group", &a,
      [](void** v, int n) {
        WGroup& g = G[cur->warp / 4];
        while (int(g.groups.size()) > static_cast<A*>(v[0])->k) {
          for (auto& p : g.groups.front()) {
            void* x[128];
            for (int i = 0; i < n; i++) x[i] = p.store[i].data();
            p.fn(x, n);
          }
          g.groups.pop_front();
        }
      },
      f, l);
}

// ------------------------------------------------------------------ shared memory
static unsigned char* arena_alloc(size_t bytes, size_t align) {
  size_t off = (arena_used + align - 1) / align * align;
  size_t end = off + bytes;
  smem_total += bytes;
  if (end + 64 > kArena || smem_total > kSmemLimit) fail("shared memory over the limit");
  arena_used = (end + 7) / 8 * 8 + 64;  // 64-byte poisoned gap
#if ASAN_ON
  __asan_unpoison_memory_region(arena + off, bytes);
#endif
  std::memset(arena + off, 0xff, bytes);  // NaN in f32/f16/bf16
  return arena + off;
}
void* shared_slot(const void* key, size_t bytes, size_t align, const char* name) {
  Rt rt;
  auto it = slots.find(key);
  if (it == slots.end()) it = slots.emplace(key, SlotInfo{arena_alloc(bytes, align), bytes, name}).first;
  return it->second.p;
}
unsigned char* dyn_shared() { return dyn_ptr; }
uint32_t shared_addr(const void* p) {
  auto a = uintptr_t(p) - uintptr_t(arena);
  if (a >= kArena) fail("address is not in shared memory");
  return uint32_t(a);
}
void* shared_ptr(uint32_t a) { return arena + a; }

// ------------------------------------------------------------------ async copies
static void do_copy(const Copy& c) {
  note_access(c.src, size_t(c.src_bytes), false);
  note_access(c.dst, size_t(c.bytes), true);
  std::memcpy(c.dst, c.src, size_t(c.src_bytes));
  std::memset(c.dst + c.src_bytes, 0, size_t(c.bytes - c.src_bytes));
}
void cp_async(void* dst, const void* src, int bytes, int src_bytes) {
  Rt rt;
  if (bytes != 4 && bytes != 8 && bytes != 16) fail("cp.async size");
  if (uintptr_t(dst) % unsigned(bytes) || (src_bytes && uintptr_t(src) % unsigned(bytes)))
    fail("cp.async: misaligned address");
  shared_addr(dst);
  Copy c{static_cast<unsigned char*>(dst), static_cast<const unsigned char*>(src), bytes, src_bytes};
  note_access(dst, size_t(bytes), true);
  if (!opt.lazy_async)
    do_copy(c);
  else
    std::memset(dst, 0xff, size_t(bytes));  // "in flight": poison
  cur->cp_open.push_back(c);
}
void cp_async_commit() {
  Rt rt;
  cur->cp_groups.push_back(std::move(cur->cp_open));
  cur->cp_open.clear();
}
void cp_async_wait(int keep, const char*, int) {
  Rt rt;
  while (int(cur->cp_groups.size()) > keep) {
    if (opt.lazy_async)
      for (auto& c : cur->cp_groups.front()) do_copy(c);
    cur->cp_groups.pop_front();
  }
}
// ------------------------------------------------------------------ mbarrier, TMA
static void mb_check(MBar& m) {
  if (m.pending || m.tx) return;
  m.phase ^= 1;
  m.pending = m.count;
#ifdef EMU_RACE
  m.vc_done = m.vc_acc;
#endif
  std::vector<int> rel;
  for (auto& w : m.waiting) rel.push_back(w.first);
  m.waiting.clear();
  push_all(rel);
}
static MBar& mb(uint64_t* b) {
  auto it = mbars.find(b);
  if (it == mbars.end()) fail("mbarrier used before init");
  return it->second;
}
void mbar_init(uint64_t* b, unsigned count) {
  Rt rt;
  if (uintptr_t(b) % 8) fail("misaligned mbarrier");
  shared_addr(b);
  note_access(b, 8, true);
  MBar m{};
  m.count = m.pending = count;
#ifdef EMU_RACE
  m.vc_acc.assign(size_t(n_threads), 0);
  m.vc_done = m.vc_acc;
#endif
  mbars[b] = m;
}
static void mb_release(MBar& m) {
#ifdef EMU_RACE
  vc_join(m.vc_acc, VC[cur->lin]);
  VC[cur->lin][cur->lin]++;
#else
  (void)m;
#endif
}
void mbar_arrive(uint64_t* b, unsigned tx) {
  Rt rt;
  note_access(b, 8, true, true);
  MBar& m = mb(b);
  if (!m.pending) fail("mbarrier: more arrivals than expected in this phase");
  m.tx += tx;
  m.pending--;
  mb_release(m);
  mb_check(m);
}
static void tma_run(MBar& m) {
  Tma t = m.queue.front();
  m.queue.pop_front();
  Thread* const caller = cur;
  cur = &T[t.issuer];  // the copy acts on behalf of its issuer
  const int row = t.m.box_inner * t.m.elem;
  for (int r = 0; r < t.m.box_outer; r++)
    for (int c = 0; c < t.m.box_inner; c++) {
      unsigned char* d = t.dst + r * row;
      int byte = c * t.m.elem;
      if (t.m.swizzle128) byte ^= (r & 7) << 4;
      const int gi = t.ci + c, go = t.co + r;
      if (gi >= 0 && gi < t.m.inner && go >= 0 && go < t.m.outer)
        std::memcpy(d + byte, static_cast<const unsigned char*>(t.m.base) + go * t.m.pitch_bytes + gi * t.m.elem,
                    size_t(t.m.elem));
      else
        std::memset(d + byte, 0, size_t(t.m.elem));
    }
  note_access(t.dst, size_t(row * t.m.box_outer), true);
  m.tx -= row * t.m.box_outer;
  mb_release(m);
  cur = caller;
  mb_check(m);
}
static bool run_late_tma() {
  for (auto& p : mbars)
    if (!p.second.queue.empty()) {
      tma_run(p.second);
      return true;
    }
  return false;
}
void tma_load_2d(void* dst, const TensorMap2D* m, uint64_t* bar, int ci, int co) {
  Rt rt;
  if (uintptr_t(dst) % (m->swizzle128 ? 1024 : 128)) fail("TMA: destination misaligned for its swizzle mode");
  if (m->swizzle128 && m->box_inner * m->elem != 128) fail("TMA: 128B swizzle needs a 128-byte inner box");
  MBar& b = mb(bar);
  note_access(dst, size_t(m->box_inner) * m->elem * m->box_outer, true);
  b.queue.push_back({static_cast<unsigned char*>(dst), *m, ci, co, cur->lin});
  if (!opt.lazy_async)
    tma_run(b);
  else
    std::memset(dst, 0xff, size_t(m->box_inner) * m->elem * m->box_outer);
}
void mbar_wait(uint64_t* b, unsigned parity, const char* f, int l) {
  Rt rt;
  MBar& m = mb(b);
  for (;;) {
    if ((m.phase & 1) != parity) break;
    m.waiting.push_back({cur->lin, parity});
    block_self("mbarrier wait", f, l);
  }
#ifdef EMU_RACE
  vc_join(VC[cur->lin], m.vc_done);
#endif
}

// ------------------------------------------------------------------ launch
static void reset_fibers() {  // after an error: abandon suspended fibers
  idle.clear();
  for (auto& f : pool) {
#if ASAN_ON
    __asan_unpoison_memory_region(f->lo, f->size);
    f->fake = nullptr;
#endif
    prepare(f.get());
    idle.push_back(f.get());
  }
}
static void run_block() {
  arena_used = smem_total = 0;
  slots.clear();
  mbars.clear();
  for (auto& b : bars) b = Bar{};
#if ASAN_ON
  __asan_poison_memory_region(arena, kArena);
#endif
#ifdef EMU_RACE
  gen++;
  block_gen = gen;
  rpool_reset();
  VC.assign(size_t(n_threads), std::vector<uint32_t>(size_t(n_threads), 0));
  for (int i = 0; i < n_threads; i++) VC[i][i] = 1;
#endif
  dyn_ptr = dyn_bytes ? arena_alloc(dyn_bytes, 1024) : arena;
  for (auto& t : T) {
    t.st = St::Unstarted;
    t.fiber = nullptr;
    t.bar_out = nullptr;
    t.cp_open.clear();
    t.cp_groups.clear();
  }
  for (auto& w : W) {
    w.exited = 0;
    w.pend.clear();
  }
  for (auto& g : G) g = WGroup{};
  n_done = 0;
  qh = qn = 0;
  std::vector<int> all(static_cast<size_t>(n_threads));
  std::iota(all.begin(), all.end(), 0);
  push_all(all);
  int n = pop();
  Fiber* f = get_fiber();
  f->next_thread = n;
  stats.blocks++;
  stats.threads += uint64_t(n_threads);
  switch_to(f);
  in_kernel = false;
  cur = nullptr;
  if (failed) {
    failed = false;
    reset_fibers();
    throw Error(error);
  }
  for (auto& g : G)
    if (!g.groups.empty() || !g.uncommitted.empty()) throw Error("block ends with outstanding wgmma");
}
void run_grid(dim3 grid, dim3 block, size_t dyn, const std::function<void()>& b) {
  if (!arena) {
    arena =
        static_cast<unsigned char*>(mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
#ifdef EMU_RACE
    sh_cells.resize(kArena / kGran);
    auto r = std::make_unique<Range>();
    r->lo = uintptr_t(&__bss_start);
    r->hi = uintptr_t(&_end);
    r->name = "static __shared__ (.bss)";
    r->shared = true;
    r->cells.resize((r->hi - r->lo) / kGran + 1);
    ranges.push_back(std::move(r));
#endif
  }
  size_t n = size_t(block.x) * block.y * block.z;
  if (!n || n > 1024 || block.z > 64 || !grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535)
    throw Error("invalid launch configuration");
  n_threads = int(n);
  body = &b;
  dyn_bytes = dyn;
  gridDim = grid;
  blockDim = block;
  rng.seed(opt.seed);
  T.clear();
  T.resize(n);
  W.clear();
  W.resize((n + 31) / 32);
  G.clear();
  G.resize((n + 127) / 128);
  queue.assign(n, 0);
  for (int i = 0; i < n_threads; i++) {
    auto& t = T[i];
    t.lin = i;
    t.lane = i % 32;
    t.warp = i / 32;
    t.tid = {unsigned(i) % block.x, unsigned(i) / block.x % block.y, unsigned(i) / (block.x * block.y)};
  }
#ifdef EMU_RACE
  launch_gen = ++gen;
#endif
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = {x, y, z};
        run_block();
      }
}
}  // namespace emulator

#ifdef EMU_RACE
// ------------------------------------------------------------------ hooks inserted by -fsanitize=thread code
// generation
extern "C" {
#define H(n)                                                                                    \
  void __tsan_read##n(void* p) {                                                                \
    if (emulator::in_kernel) emulator::access(p, n, false, false, __builtin_return_address(0)); \
  }                                                                                             \
  void __tsan_write##n(void* p) {                                                               \
    if (emulator::in_kernel) emulator::access(p, n, true, false, __builtin_return_address(0));  \
  }                                                                                             \
  void __tsan_unaligned_read##n(void* p) {                                                      \
    if (emulator::in_kernel) emulator::access(p, n, false, false, __builtin_return_address(0)); \
  }                                                                                             \
  void __tsan_unaligned_write##n(void* p) {                                                     \
    if (emulator::in_kernel) emulator::access(p, n, true, false, __builtin_return_address(0));  \
  }
H(1) H(2) H(4) H(8) H(16) void __tsan_read_range(void* p, long n) {
  if (emulator::in_kernel) emulator::access(p, size_t(n), false, false, __builtin_return_address(0));
}
void __tsan_write_range(void* p, long n) {
  if (emulator::in_kernel) emulator::access(p, size_t(n), true, false, __builtin_return_address(0));
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_init() {}
}
#endif

// ------------------------------------------------------------------ modes that tests walk through
extern "C" void emulator_set_mode(int mode) {
  emulator::opt.order = static_cast<emulator::Order>(mode % 3);
  emulator::opt.lazy_async = mode < 3;
  emulator::opt.seed = 1u + static_cast<unsigned>(mode);
}
