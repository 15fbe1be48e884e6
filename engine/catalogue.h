// The list of the built-in ops, for whoever wants to show or check all of them; nothing dispatches through it.
#pragma once
#include <string_view>
#include <vector>

#include "engine/op.h"

namespace ranvier {

/// Every built-in op that runs kernels.
std::vector<const OpDef*> all_ops();

/// Throws Error unless `variants` ("conv2d=native,matmul=reference" or "reference") names built-in ops, and variants
/// that they have on the backend.
void check_variants(std::string_view variants, Backend backend);

namespace catalogue {  // one function a file of engine/ops
std::vector<const OpDef*> core(), elementwise(), reduce(), matmul(), conv2d(), pool(), norm(), loss(), move(), index(),
    random(), augment(), optim(), muon(), feed(), mlp_jet(), segment_fit(), coupling(), pair_squares(), channel_field(),
    channel_penalty();
}

}  // namespace ranvier
