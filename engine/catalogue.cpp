// Collects the op families, and checks a user's choice of variants against them.
#include "engine/catalogue.h"

#include <algorithm>

namespace ranvier {

std::vector<const OpDef*> all_ops() {
  using namespace catalogue;
  std::vector<const OpDef*> all;
  for (const auto& family :
       {core(), elementwise(), reduce(),      matmul(),   conv2d(),       pool(),          norm(),
        loss(), move(),        index(),       random(),   augment(),      optim(),         muon(),
        feed(), mlp_jet(),     segment_fit(), coupling(), pair_squares(), channel_field(), channel_penalty()})
    all.insert(all.end(), family.begin(), family.end());
  return all;
}

void check_variants(std::string_view variants) {
  const std::vector<const OpDef*> ops = all_ops();
  while (!variants.empty()) {
    const size_t comma = variants.find(',');
    const std::string_view item = variants.substr(0, comma);
    variants = comma == std::string_view::npos ? std::string_view{} : variants.substr(comma + 1);
    const size_t equals = item.find('=');
    const std::string_view op = equals == std::string_view::npos ? std::string_view{} : item.substr(0, equals);
    const std::string_view name = equals == std::string_view::npos ? item : item.substr(equals + 1);
    bool op_known = op.empty(), known = false;
    std::string names;
    for (const OpDef* candidate : ops) {
      if (!op.empty() && op != candidate->name) continue;
      op_known = true;
      for (const Variant& variant : candidate->variants) {
        known |= name == variant.name;
        if (!op.empty() && names.find(variant.name) == std::string::npos) names += fmt::format(" {}", variant.name);
      }
    }
    if (!op_known) fail("--variant {}: there is no op '{}'; `ranvier info` lists them", item, op);
    if (!known && op.empty()) fail("--variant {}: no op has a variant '{}'; `ranvier info` lists them", item, name);
    if (!known) fail("--variant {}: {} has no variant '{}', it has:{}", item, op, name, names);
  }
}

}  // namespace ranvier
