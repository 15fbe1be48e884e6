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

namespace {

/// One "op=variant" or "variant" of a user's choice.
void check_choice(std::string_view choice, Backend backend) {
  const size_t equals = choice.find('=');
  const bool named = equals != std::string_view::npos;
  const std::string_view op = named ? choice.substr(0, equals) : std::string_view{};
  const std::string_view name = named ? choice.substr(equals + 1) : choice;
  bool op_known = !named;
  std::vector<std::string_view> names;  // of the op's variants on the backend, or of every op's
  for (const OpDef* candidate : all_ops()) {
    if (named && op != candidate->name) continue;
    op_known = true;
    for (const Variant& variant : candidate->variants)
      if (variant.backend == backend && std::find(names.begin(), names.end(), variant.name) == names.end())
        names.push_back(variant.name);
  }
  if (!op_known) fail("--variant {}: there is no op '{}'; `ranvier info` lists them", choice, op);
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  if (!named)
    fail("--variant {}: no op has a variant '{}' on {}; `ranvier info` lists them", choice, name, name_of(backend));
  fail("--variant {}: {} has no variant '{}' on {}, it has: {}", choice, op, name, name_of(backend),
       names.empty() ? "none, it runs as the ops it is made of" : fmt::format("{}", fmt::join(names, " ")));
}

}  // namespace

void check_variants(std::string_view variants, Backend backend) {
  while (!variants.empty()) {
    const size_t comma = variants.find(',');
    check_choice(variants.substr(0, comma), backend);
    variants = comma == std::string_view::npos ? std::string_view{} : variants.substr(comma + 1);
  }
}

}  // namespace ranvier
