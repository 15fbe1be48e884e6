// `ranvier info`: version, devices, what was built in, and the variants of every op.
#include "engine/catalogue.h"
#if defined(RANVIER_HAS_CUBLAS)
#include "kernels/matmul/cublas.h"
#endif
#if defined(RANVIER_HAS_CUDNN)
#include "kernels/common/cudnn_type.h"
#endif
#include "tools/cli.h"

namespace ranvier::cli {

void add_info(CLI::App& app) {
  auto common = std::make_shared<Common>();
  auto* command = subcommand(app, "info", "Devices, variants and build");
  common->add_to(*command);
  command->callback([common] {
    const Device device = common->start();
#if defined(RANVIER_HAS_ONEDNN)
    const bool onednn = true;
#else
    const bool onednn = false;
#endif
#if defined(RANVIER_HAS_CUBLAS)
    const std::string cublas = kernels::cublas_version();
#else
    const std::string cublas;
#endif
#if defined(RANVIER_HAS_CUDNN)
    const std::string cudnn = kernels::cudnn_version();
#else
    const std::string cudnn;
#endif
    nlohmann::ordered_json variants;
    for (const OpDef* op : all_ops()) {
      nlohmann::ordered_json names = nlohmann::ordered_json::array();
      for (const Variant& variant : op->variants) {
        const std::string name = fmt::format("{}:{}", name_of(variant.backend), variant.name);
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
      variants[op->name] = names;
    }
    common->say("ranvier {}", RANVIER_VERSION);
    common->say("device:  {}", device.description());
    common->say("oneDNN:  {}",
                onednn ? "yes" : "no (not found when this was configured; native convolutions and products instead)");
    const CudaSupport cuda = cuda_support();
    common->say("CUDA:    {}", cuda.usable ? "yes" : "no (" + cuda.why + ")");
    common->say("cuBLAS:  {}", cublas.empty() ? "no (not found when this was configured)" : cublas);
    common->say("cuDNN:   {}", cudnn.empty() ? "no (not found when this was configured)" : cudnn);
    common->say("compiler: {}, {}", __VERSION__, RANVIER_BUILD_FLAGS);
    common->say("variants, in the order they are tried:");
    for (const auto& [op, names] : variants.items()) {
      std::string text;
      for (const auto& name : names) text += " " + name.get<std::string>();
      common->say("  {:<28}{}", op, text);
    }
    common->print({{"version", RANVIER_VERSION},
                   {"device", device.description()},
                   {"backends",
                    {{"cpu", true},
                     {"onednn", onednn},
                     {"cuda", cuda.usable},
                     {"cublas", !cublas.empty()},
                     {"cudnn", !cudnn.empty()}}},
                   {"variants", variants}});
  });
}

}  // namespace ranvier::cli
