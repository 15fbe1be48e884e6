// The plan of a trace: what runs in which order, by which variant, and where every value lives.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/op.h"
#include "engine/state.h"

namespace ranvier {

/// A block of memory that holds one value or several that share it.
struct Storage {
  enum class Kind : uint8_t { arena, output, input, constant, state };
  Kind kind = Kind::arena;
  size_t bytes = 0;
  size_t offset = 0;                    ///< in the arena or in the program's own memory
  uint32_t entry = 0;                   ///< state: the slab entry
  std::span<const std::byte> elements;  ///< constant: its data
  std::string name;                     ///< input: its name
  int64_t first = 0, last = 0;          ///< steps between which it is alive
};

/// A value of the plan: a type at a place of a storage.
struct PlanValue {
  Type type;
  uint32_t storage = 0;
  int64_t producer = -1;  ///< step, or -1 for leaves
};

/// One execution.
struct PlanStep {
  const OpDef* op = nullptr;
  Attrs attrs;
  std::vector<uint32_t> in, out;  ///< values
  std::string scope;
  Where where;
  const Variant* variant = nullptr;
  std::shared_ptr<void> prepared;
  uint32_t workspace = 0;  ///< storage, valid where workspace_bytes > 0
  size_t workspace_bytes = 0;
  std::vector<Type> in_types, out_types;

  NodeView view() const { return {op, &attrs, in_types, out_types, scope, where}; }
  /// "block1.conv conv2d (64, 32, 32, 32)".
  std::string label() const;
};

/// A value copied to its slab when the step has ended.
struct Commit {
  uint32_t value, entry;
};

struct PlanOptions {
  Device device;
  /// "conv2d=native,matmul=reference": the variant by op name, an Error where it does not run a node of the op (a
  /// pointwise op that is named is not fused); "reference" alone asks for it wherever it runs. See `steps_without`.
  std::string variants;
  /// Slabs read or written under another name: {"parameters", "ema"} evaluates the averaged weights.
  std::map<std::string, std::string> bindings;
  bool fuse = true;        ///< merge pointwise chains
  bool decompose = false;  ///< replace every fused op by its primitive ops
  bool prepare = true;     ///< let variants build their library objects (off when only the plan is wanted)
};

struct Plan {
  std::vector<PlanStep> steps;
  std::vector<PlanValue> values;
  std::vector<Storage> storages;
  std::vector<uint32_t> outputs;    ///< values, in the order asked for, then the probed ones
  std::vector<std::string> probes;  ///< their names
  std::vector<Commit> commits;
  std::deque<std::vector<std::byte>> constants;  ///< data of constants, once the graph is gone
  size_t arena_bytes = 0;                        ///< scratch of one run, workspaces included
  size_t peak_live_bytes = 0;                    ///< the largest sum of live bytes at any step: no arena can be smaller
  size_t output_bytes = 0, input_bytes = 0, constant_bytes = 0, state_bytes = 0, largest_workspace = 0;

  /// The memory bill, one line an item.
  std::string bill() const;
  /// Every step with variant, shapes and offset.
  std::string text() const;
};

/// Plans the computation of `outputs` and of every assignment of the trace. Pure but for `prepare`.
Plan make_plan(Graph&, std::span<const Tensor> outputs, const PlanOptions&);

/// What does not run by `variant`: ops that have none of this name, and the results of those that have one ("conv2d
/// f32(2, 3, 3, 8)"), each once.
std::vector<std::string> steps_without(const Plan& plan, std::string_view variant);

/// Merges single-use chains of pointwise steps, and folds constants and broadcasts into them. Steps that became unused
/// go. `keep` tells which values must exist (outputs, assigned values), `alone` which ops stay steps of their own.
void fuse_pointwise(std::vector<PlanStep>& steps, const std::vector<PlanValue>& values, const std::vector<bool>& keep,
                    const std::function<bool(const OpDef&)>& alone);

/// Bytes rounded up to a cache line, which is also the widest vector.
constexpr size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/// The largest sum of live bytes at any step: no placement can be smaller.
size_t live_bound(const std::vector<Storage*>& storages);

/// Offsets for storages of one arena: largest first, each at the lowest place free during its life. Returns the size.
size_t place(std::vector<Storage*> storages);

}  // namespace ranvier
