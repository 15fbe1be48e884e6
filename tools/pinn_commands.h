// Subcommands of `ranvier pinn` that have files of their own.
#pragma once
#include <string>

#include "tools/cli.h"

namespace ranvier::cli {

/// `ranvier pinn many`.
void add_pinn_many(CLI::App& pinn);
/// `ranvier pinn infer`.
void add_pinn_infer(CLI::App& pinn);
/// `ranvier pinn pde`.
void add_pinn_pde(CLI::App& pinn);

/// The stimulus of the presets' published protocols, where none is given.
std::string default_current(const std::string& neuron);

}  // namespace ranvier::cli
